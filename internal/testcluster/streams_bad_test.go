package testcluster_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/testcluster"
)

const (
	watchMethod     = "/etcdserverpb.Watch/Watch"
	keepAliveMethod = "/etcdserverpb.Lease/LeaseKeepAlive"
)

func createWatch(r *pb.WatchCreateRequest) *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}}
}

func cancelWatch(id int64) *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}}
}

// quiet starts a cluster of one and returns a client, and how many goroutines
// there are when nothing else goes on.
func quiet(t *testing.T) (c *testcluster.Cluster, cl *clientv3.Client, goroutines int) {
	t.Helper()
	c = testcluster.Start(t, 1, testcluster.Options{})
	cl = client(t, c.Endpoints()...)
	if _, err := cl.Put(within(t), "k", "v"); err != nil {
		t.Fatal(err)
	}
	return c, cl, runtime.NumGoroutine()
}

// Clients that watch and never read hold bounded memory, keep nobody from
// writing or watching, and leave nothing behind when they are gone.
func TestWatch_clientsThatNeverRead(t *testing.T) {
	c, cl, before := quiet(t)
	const streams, watches, puts, size = 100, 20, 1000, 20 << 10
	start := heapInUse()
	var conns []*rawConn
	for range streams {
		raw := dialRaw(t, c.Endpoints()[0])
		id := raw.open(watchMethod)
		for i := range watches {
			raw.send(id, createWatch(&pb.WatchCreateRequest{Key: []byte("k"), RangeEnd: []byte("l"), StartRevision: int64(i % 2), PrevKv: true}))
		}
		conns = append(conns, raw)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := cl.Watch(ctx, "k", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	seen := 0
	await := func(n int) {
		t.Helper()
		for seen < n {
			select {
			case r, ok := <-events:
				if !ok || r.Err() != nil {
					t.Fatalf("the watch of a client that reads has ended: %v", r.Err())
				}
				seen += len(r.Events)
			case <-time.After(time.Minute):
				t.Fatalf("%d events of %d came", seen, n)
			}
		}
	}
	<-events // created
	value := strings.Repeat("v", size)
	for i := range puts {
		if _, err := cl.Put(within(t), fmt.Sprintf("k%d", i%50), value); err != nil {
			t.Fatal(err)
		}
		if i%100 == 99 {
			await(i + 1)
		}
	}
	grown := heapInUse() - start
	t.Logf("%d streams with %d watches hold %d KiB after %d MiB of events, %d goroutines", streams, watches, grown>>10, puts*size>>20, runtime.NumGoroutine()-before)
	// Each has one response in hand: 256 KiB of records, the values before them,
	// and the encoding of both, whose buffer is the next power of two. All together
	// have 128 MiB of records that wait. The store itself has grown too, by its values.
	if limit := int64(streams*(2*(256<<10)+1<<20) + 128<<20 + 64<<20); grown > limit {
		t.Errorf("%d KiB more of heap, and %d KiB are allowed", grown>>10, limit>>10)
	}
	for i, raw := range conns {
		if i%2 == 0 {
			raw.reset()
		} else {
			raw.conn.Close()
		}
	}
	cancel()
	for range events {
	}
	goroutinesBack(t, before)
}

// A client that renews without reading is not served beyond what fits the
// connection, and leaves nothing behind.
func TestLease_clientsThatNeverRead(t *testing.T) {
	const clients = 20
	c, cl, before := quiet(t)
	lease, err := cl.Grant(within(t), 600)
	if err != nil {
		t.Fatal(err)
	}
	start := heapInUse()
	var conns []*rawConn
	for range clients {
		raw := dialRaw(t, c.Endpoints()[0])
		id := raw.open(keepAliveMethod)
		for range 4000 { // 15 bytes each: what a server takes before it reads
			raw.send(id, &pb.LeaseKeepAliveRequest{ID: int64(lease.ID)})
		}
		conns = append(conns, raw)
	}
	for range 20 {
		if r, err := cl.KeepAliveOnce(within(t), lease.ID); err != nil || r.TTL != 600 {
			t.Fatalf("another client renews: %v, %v", r, err)
		}
	}
	grown := heapInUse() - start
	t.Logf("%d streams hold %d KiB, %d goroutines", clients, grown>>10, runtime.NumGoroutine()-before)
	if grown > 24<<20 {
		t.Errorf("%d KiB more of heap", grown>>10)
	}
	for _, raw := range conns {
		raw.reset()
	}
	if _, err := cl.Revoke(within(t), lease.ID); err != nil {
		t.Fatal(err)
	}
	goroutinesBack(t, before)
}

// A client that goes on asking and takes no answer is not read any more after a
// while, so that answers do not pile up.
func TestStreams_floods(t *testing.T) {
	c, cl, before := quiet(t)
	start := heapInUse()
	for _, x := range []struct {
		what, method string
		msg          proto.Message
	}{
		{"creations that are refused", watchMethod, createWatch(&pb.WatchCreateRequest{Key: []byte("b"), RangeEnd: []byte("a")})},
		{"creations", watchMethod, createWatch(&pb.WatchCreateRequest{Key: []byte("k")})},
		{"progress requests", watchMethod, &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}},
		{"renewals", keepAliveMethod, &pb.LeaseKeepAliveRequest{ID: 77}},
	} {
		const n = 100_000
		raw := dialRaw(t, c.Endpoints()[0])
		id := raw.open(x.method)
		if x.method == watchMethod { // without one, progress requests have no answer
			raw.send(id, createWatch(&pb.WatchCreateRequest{Key: []byte("k")}))
		}
		taken := raw.flood(id, x.msg, n)
		t.Logf("%s: %d were taken", x.what, taken)
		if taken == n {
			t.Errorf("%s: all %d were taken", x.what, n)
		}
		if _, err := cl.Put(within(t), "k", x.what); err != nil {
			t.Fatalf("meanwhile: %v", err)
		}
		if grown := heapInUse() - start; grown > 16<<20 {
			t.Errorf("%s: %d KiB more of heap", x.what, grown>>10)
		}
		raw.reset()
	}
	goroutinesBack(t, before)
}

// What is no request ends its stream, what is no frame the connection; others
// do not notice, and nothing is left.
func TestStreams_garbage(t *testing.T) {
	c, cl, before := quiet(t)
	for _, method := range []string{watchMethod, keepAliveMethod} {
		for name, body := range map[string][]byte{
			"no protobuf": []byte("\xff\xff\xff\xff garbage"), "truncated": {0x0a, 0x7f, 1}, "field 0": {0, 0}, "group": {0x0b, 0x0b, 0x0b},
		} {
			stream, err := cl.ActiveConnection().NewStream(within(t), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method, grpc.ForceCodec(rawCodec{}))
			if err != nil {
				t.Fatal(err)
			}
			var answer []byte
			err = stream.SendMsg(body)
			if err == nil {
				err = stream.RecvMsg(&answer)
			}
			if status.Code(err) != codes.Internal {
				t.Errorf("%s, %s: %v", method, name, err)
			}
		}
		for name, spoil := range map[string]func(raw *rawConn, id uint32) error{
			"a message longer than any": func(raw *rawConn, id uint32) error {
				return raw.fr.WriteData(id, false, []byte{0, 0xff, 0xff, 0xff, 0xff, 1})
			},
			"a compressed message": func(raw *rawConn, id uint32) error {
				return raw.fr.WriteData(id, false, []byte{1, 0, 0, 0, 2, 8, 1})
			},
			"half a message and the end": func(raw *rawConn, id uint32) error {
				return raw.fr.WriteData(id, true, []byte{0, 0, 0, 0, 9, 8, 1})
			},
			"data on no stream":      func(raw *rawConn, _ uint32) error { return raw.fr.WriteRawFrame(0, 0, 0, []byte("x")) },
			"data on a later stream": func(raw *rawConn, id uint32) error { return raw.fr.WriteRawFrame(0, 0, id+100, []byte("x")) },
			"a frame longer than any": func(raw *rawConn, id uint32) error {
				_, err := raw.conn.Write([]byte{0xff, 0xff, 0xff, 0, 0, 0, 0, 0, byte(id)})
				return err
			},
			"headers that are none": func(raw *rawConn, id uint32) error {
				return raw.fr.WriteRawFrame(1, 4, id+2, []byte("\xff\xff\xff\xff"))
			},
			"a reset": func(raw *rawConn, id uint32) error { return raw.fr.WriteRSTStream(id, 8) },
			"noise": func(raw *rawConn, _ uint32) error {
				_, err := raw.conn.Write([]byte(strings.Repeat("noise\x00\xff", 500)))
				return err
			},
		} {
			raw := dialRaw(t, c.Endpoints()[0])
			id := raw.open(method)
			if method == watchMethod {
				raw.send(id, createWatch(&pb.WatchCreateRequest{Key: []byte("k"), StartRevision: 1}))
			}
			if err := spoil(raw, id); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := cl.Put(within(t), "k", name); err != nil {
				t.Fatalf("after %s: %v", name, err)
			}
			raw.reset()
		}
	}
	goroutinesBack(t, before)
}

// Ten thousand creations sent at once are all answered, in order, and so are
// their cancellations, and ten thousand of both in turn.
func TestWatch_bursts(t *testing.T) {
	_, cl, before := quiet(t)
	start := heapInUse()
	const n = 10_000
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	stream, err := pb.NewWatchClient(cl.ActiveConnection()).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	burst := func(request func(i int64) []*pb.WatchRequest) {
		go func() {
			for i := range int64(n) {
				for _, r := range request(i) {
					if err := stream.Send(r); err != nil {
						sent <- err
						return
					}
				}
			}
			sent <- nil
		}()
	}
	expect := func(what string, i int64, created, canceled bool) {
		t.Helper()
		r, err := stream.Recv()
		if err != nil || r.WatchId != i || r.Created != created || r.Canceled != canceled || r.CancelReason != "" {
			t.Fatalf("%s %d: %v, %v", what, i, r, err)
		}
	}
	done := func() {
		t.Helper()
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
	key := func(i int64) *pb.WatchRequest {
		return createWatch(&pb.WatchCreateRequest{Key: fmt.Appendf(nil, "w%d", i), RangeEnd: fmt.Appendf(nil, "w%d0", i)})
	}
	burst(func(i int64) []*pb.WatchRequest { return []*pb.WatchRequest{key(i)} })
	for i := range int64(n) {
		expect("creation", i, true, false)
	}
	done()
	perWatch := (heapInUse() - start) / n
	t.Logf("%d bytes of heap for each watch", perWatch)
	if perWatch > 2048 {
		t.Errorf("a watch takes %d bytes of heap", perWatch)
	}
	burst(func(i int64) []*pb.WatchRequest { return []*pb.WatchRequest{cancelWatch(i), cancelWatch(i + 5*n)} })
	for i := range int64(n) {
		expect("cancellation", i, false, true)
	}
	done()
	burst(func(i int64) []*pb.WatchRequest { return []*pb.WatchRequest{key(n + i), cancelWatch(n + i)} })
	for i := range int64(n) {
		expect("creation", n+i, true, false)
		expect("cancellation", n+i, false, true)
	}
	done()
	cancel()
	goroutinesBack(t, before)
	if grown := heapInUse() - start; grown > 8<<20 {
		t.Errorf("%d KiB of heap are left", grown>>10)
	}
}
