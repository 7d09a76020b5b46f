//go:build interop

package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	grpcstatus "google.golang.org/grpc/status"
)

// A badWatch is a conversation of requests that no client of sense makes.
type badWatch struct {
	t      *testing.T
	client *clientv3.Client
	stream pb.Watch_WatchClient
	lines  []string
}

func (b *badWatch) open() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 2*time.Minute)
	b.t.Cleanup(cancel)
	var err error
	if b.stream, err = pb.NewWatchClient(b.client.ActiveConnection()).Watch(ctx); err != nil {
		b.t.Fatal(err)
	}
}

func (b *badWatch) send(reqs ...*pb.WatchRequest) {
	b.t.Helper()
	for _, r := range reqs {
		if err := b.stream.Send(r); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *badWatch) create(r *pb.WatchCreateRequest) {
	b.t.Helper()
	b.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}})
	b.take(fmt.Sprintf("create %q to %q at %d as %d", r.Key, r.RangeEnd, r.StartRevision, r.WatchId))
}

func (b *badWatch) cancel(id int64) {
	b.t.Helper()
	b.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}})
}

func (b *badWatch) take(what string) {
	b.t.Helper()
	r, err := b.stream.Recv()
	if err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
	b.lines = append(b.lines, fmt.Sprintf("%s: id %d, revision %d, created %t, canceled %t, compacted %d, %q, %d events", what, r.WatchId,
		r.Header.Revision, r.Created, r.Canceled, r.CompactRevision, r.CancelReason, len(r.Events)))
}

func (b *badWatch) put(key string) {
	b.t.Helper()
	if _, err := b.client.Put(b.t.Context(), key, "v"); err != nil {
		b.t.Fatal(err)
	}
}

func (b *badWatch) play() []string {
	b.t.Helper()
	for range 6 {
		b.put("a")
	}
	if _, err := b.client.Compact(b.t.Context(), 5); err != nil {
		b.t.Fatal(err)
	}
	b.open()
	a, z := []byte("a"), []byte("z")
	b.create(&pb.WatchCreateRequest{Key: z}) // 0
	for _, start := range []int64{-1, math.MinInt64, 4, 1} {
		b.create(&pb.WatchCreateRequest{Key: a, StartRevision: start})
		if start > 0 {
			b.take("compacted")
		}
	}
	for _, end := range [][]byte{{'a'}, {'A'}, {}, {0}, {0xff}} {
		b.create(&pb.WatchCreateRequest{Key: z, RangeEnd: end})
	}
	b.create(&pb.WatchCreateRequest{Key: a, RangeEnd: []byte("a\x00"), StartRevision: math.MaxInt64})
	b.create(&pb.WatchCreateRequest{Key: []byte{0xff, 0xff}, RangeEnd: []byte{0}, StartRevision: 7})
	for _, id := range []int64{100, 100, -5, -5, math.MaxInt64, math.MaxInt64, math.MinInt64} {
		b.create(&pb.WatchCreateRequest{Key: z, WatchId: id})
	}
	b.create(&pb.WatchCreateRequest{Key: z, Filters: []pb.WatchCreateRequest_FilterType{0, 0, 1, 1, 7, -1}})
	for _, id := range []int64{77, -77, math.MaxInt64 - 1, 12, 12} {
		b.cancel(id)
	}
	b.send(&pb.WatchRequest{})                                                 // asks for nothing
	b.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{}}) // passed over: a watch starts in the future
	b.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{}})
	b.take("cancel 0 by saying nothing")
	for _, id := range []int64{-5, 100} {
		b.cancel(id)
		b.take(fmt.Sprint("cancel ", id))
	}
	b.create(&pb.WatchCreateRequest{Key: z, WatchId: 100})
	if err := b.stream.CloseSend(); err != nil {
		b.t.Fatal(err)
	}
	b.put("\xff") // which the range from z on sees alone
	b.take("after the client's end")
	b.garbage("etcdserverpb.Watch/Watch")
	b.garbage("etcdserverpb.Lease/LeaseKeepAlive")
	b.burst(10_000)
	return b.lines
}

// rawBytes sends bytes as they are, under the name of protobuf.
type rawBytes struct{}

func (rawBytes) Name() string                  { return "proto" }
func (rawBytes) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (rawBytes) Unmarshal(data []byte, v any) error {
	*v.(*int) = len(data)
	return nil
}

// garbage sends what is no request on streams of a method.
func (b *badWatch) garbage(method string) {
	b.t.Helper()
	for _, body := range [][]byte{{0xff}, {0, 0}, {0x0a, 0x7f, 1}, {0x0b, 0x0b}, {0x0a, 0x02, 0x0a, 0x05}} {
		ctx, cancel := context.WithTimeout(b.t.Context(), serveTimeout)
		stream, err := b.client.ActiveConnection().NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/"+method, grpc.ForceCodec(rawBytes{}))
		if err == nil {
			err = stream.SendMsg(body)
		}
		n := 0
		if err == nil || errors.Is(err, io.EOF) {
			err = stream.RecvMsg(&n)
		}
		cancel()
		b.lines = append(b.lines, fmt.Sprintf("%s, %x: %v", method, body, grpcstatus.Code(err)))
	}
}

// burst has n watches made at once, and canceled, without waiting for answers.
func (b *badWatch) burst(n int64) {
	b.t.Helper()
	b.open()
	sent := make(chan error, 1)
	go func() {
		var err error
		for i := int64(0); i < n && err == nil; i++ {
			err = b.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: fmt.Append(nil, i)}}})
		}
		for i := int64(0); i < n && err == nil; i++ {
			err = b.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: i}}})
		}
		sent <- err
	}()
	for _, created := range []bool{true, false} {
		for i := range n {
			r, err := b.stream.Recv()
			if err != nil || r.WatchId != i || r.Created != created || r.Canceled == created {
				b.t.Fatalf("answer %d of a burst: %v, %v", i, r, err)
			}
		}
	}
	if err := <-sent; err != nil {
		b.t.Fatal(err)
	}
	b.lines = append(b.lines, fmt.Sprintf("%d were made and canceled", n))
}

// Requests on streams that make no sense are answered as by etcd, or as silently
// passed over.
func TestWatch_badInputAsEtcd(t *testing.T) {
	t.Parallel()
	s, _, their, _ := besideEtcd(t)
	var said [2][]string
	for i, client := range []*clientv3.Client{s.dial(), their.dial()} {
		said[i] = (&badWatch{t: t, client: client}).play()
	}
	compareTalks(t, said[0], said[1])
}
