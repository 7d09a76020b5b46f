//go:build interop

package cluster_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// A rawWatch is one stream of watches, without the client's own handling.
type rawWatch struct {
	t      *testing.T
	client *clientv3.Client
	stream pb.Watch_WatchClient
	end    context.CancelFunc
	said   strings.Builder
}

func openWatch(t *testing.T, client *clientv3.Client) *rawWatch {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), serveTimeout)
	t.Cleanup(cancel)
	stream, err := pb.NewWatchClient(client.ActiveConnection()).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &rawWatch{t: t, client: client, stream: stream, end: cancel}
}

func (w *rawWatch) create(r *pb.WatchCreateRequest, answers int) {
	w.t.Helper()
	w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}}, answers)
}

// send sends a request and takes the answers that it must have.
func (w *rawWatch) send(r *pb.WatchRequest, answers int) {
	w.t.Helper()
	fmt.Fprintf(&w.said, "%v\n", prototext.MarshalOptions{}.Format(r))
	if err := w.stream.Send(r); err != nil {
		w.t.Fatal(err)
	}
	w.take(answers)
}

func (w *rawWatch) take(answers int) {
	w.t.Helper()
	for range answers {
		resp, err := w.stream.Recv()
		if err != nil {
			w.t.Fatalf("%v after\n%s", err, w.said.String())
		}
		resp.Header.MemberId, resp.Header.ClusterId, resp.Header.RaftTerm = 0, 0, 0
		text, err := proto.MarshalOptions{Deterministic: true}.Marshal(resp)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(text) > 2000 {
			text = text[:100]
		}
		fmt.Fprintf(&w.said, "  %d events, fragment %t, id %d, revision %d, created %t, canceled %t, compacted %d, %q: %x\n", len(resp.Events), resp.Fragment, resp.WatchId,
			resp.Header.Revision, resp.Created, resp.Canceled, resp.CompactRevision, resp.CancelReason, text)
	}
}

// do performs an operation and takes the answers of the watches.
func (w *rawWatch) do(op clientv3.Op, answers int) {
	w.t.Helper()
	if _, err := w.client.Do(w.t.Context(), op); err != nil {
		w.t.Fatal(err)
	}
	w.take(answers)
}

// playWatches is one conversation about watches, as text. What has to come in parts
// comes in parts of at most so many bytes.
func playWatches(t *testing.T, client *clientv3.Client, part int) string {
	w := openWatch(t, client)
	for i := range 6 {
		w.do(clientv3.OpPut(fmt.Sprint("a", i%2), fmt.Sprint(i)), 0)
	}
	w.do(clientv3.OpDelete("a1"), 0) // revision 8
	w.create(&pb.WatchCreateRequest{Key: []byte("a0")}, 1)
	w.create(&pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte("b"), StartRevision: 3, PrevKv: true}, 2)
	w.create(&pb.WatchCreateRequest{Key: []byte("b"), RangeEnd: []byte("a")}, 1)
	w.create(&pb.WatchCreateRequest{Key: []byte("b"), RangeEnd: []byte("b")}, 1)
	w.create(&pb.WatchCreateRequest{Key: []byte("a"), StartRevision: -1}, 1)
	w.create(&pb.WatchCreateRequest{Key: []byte("x"), WatchId: 3}, 1)
	w.create(&pb.WatchCreateRequest{Key: []byte("x"), WatchId: 3}, 1)
	w.create(&pb.WatchCreateRequest{Key: []byte("y")}, 1)
	w.create(&pb.WatchCreateRequest{Key: []byte("y")}, 1) // 4: 3 is taken
	w.create(&pb.WatchCreateRequest{RangeEnd: []byte{0}, StartRevision: 4, Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT}}, 2)
	w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}, 1)
	w.do(clientv3.OpPut("y", "1"), 0)
	for range 2 { // the order of the watches is any
		resp, err := w.stream.Recv()
		if err != nil || len(resp.Events) != 1 {
			t.Fatalf("%v, %v", resp, err)
		}
	}
	w.do(clientv3.OpPut("x", "1"), 1)
	w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: 3}}}, 1)
	w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: 77}}}, 0)
	w.do(clientv3.OpPut("x", "2"), 0)
	w.create(&pb.WatchCreateRequest{Key: []byte("z"), StartRevision: 1000}, 1)
	if _, err := client.Compact(t.Context(), 8); err != nil {
		t.Fatal(err)
	}
	w.create(&pb.WatchCreateRequest{Key: []byte("a1"), StartRevision: 7}, 2)
	w.create(&pb.WatchCreateRequest{Key: []byte("a1"), StartRevision: 8, PrevKv: true}, 2) // the deletion
	for i := range 5 {
		w.do(clientv3.OpPut("f", strings.Repeat(fmt.Sprint(i), 700_000)), 0)
	}
	w.create(&pb.WatchCreateRequest{Key: []byte("f"), StartRevision: 9, Fragment: true, WatchId: 20}, 1)
	for parts := 0; parts < 5; { // how many to a response is the server's to choose
		resp, err := w.stream.Recv()
		if err != nil || resp.WatchId != 20 || len(resp.Events) == 0 || proto.Size(resp) > part {
			t.Fatalf("%d events of watch %d, %d bytes, %v", len(resp.Events), resp.WatchId, proto.Size(resp), err)
		}
		parts += len(resp.Events)
	}
	return w.said.String()
}

// Watches of one stream are answered as by etcd: created, refused, canceled,
// replayed, filtered, compacted.
func TestWatch_answersAsEtcd(t *testing.T) {
	t.Parallel()
	s, _, their, _ := besideEtcd(t)
	// Etcd notes that a watch wants parts after it has begun, which may be too late.
	got, want := playWatches(t, s.dial(), 2<<20), playWatches(t, their.dial(), 4<<20)
	if got != want {
		g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
		for i := range min(len(g), len(w)) {
			if g[i] != w[i] {
				t.Errorf("conclave: %s\netcd:     %s", g[i], w[i])
			}
		}
	}
}
