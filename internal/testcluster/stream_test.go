package testcluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/testcluster"
)

// fill puts n keys with values of size bytes, in transactions.
func fill(t *testing.T, c *clientv3.Client, n, size int) {
	t.Helper()
	value := string(bytes.Repeat([]byte("v"), size))
	for i := 0; i < n; {
		var ops []clientv3.Op
		for len(ops) < 100 && len(ops)*size < 1<<20 && i < n {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("key-%06d", i), value))
			i++
		}
		if _, err := c.Txn(within(t)).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

// merged receives a stream to its end.
func merged(t *testing.T, stream pb.KV_RangeStreamClient) (all *pb.RangeResponse, parts int) {
	t.Helper()
	all = &pb.RangeResponse{}
	for ; ; parts++ {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return all, parts
		}
		if err != nil {
			t.Fatal(err)
		}
		if all.Header != nil {
			t.Error("a part follows one with a header")
		}
		proto.Merge(all, m.RangeResponse)
	}
}

// A stream merges to what a range answers, through etcd's client and without it.
func TestRangeStream_mergesToRange(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{})
	cl := client(t, c.Endpoints()...)
	fill(t, cl, 5000, 300)
	old := int64(20) // the 1,900th key and so on are not there yet
	if _, err := cl.Delete(within(t), "key-000100", clientv3.WithRange("key-000200")); err != nil {
		t.Fatal(err)
	}
	raw := pb.NewKVClient(cl.ActiveConnection())
	all := &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
	for name, change := range map[string]func(*pb.RangeRequest){
		"all":          func(*pb.RangeRequest) {},
		"ascending":    func(r *pb.RangeRequest) { r.SortOrder = pb.RangeRequest_ASCEND },
		"limit":        func(r *pb.RangeRequest) { r.Limit = 777 },
		"limit of 10":  func(r *pb.RangeRequest) { r.Limit = 10 },
		"old":          func(r *pb.RangeRequest) { r.Revision, r.Limit = old, 1500 },
		"keys only":    func(r *pb.RangeRequest) { r.KeysOnly = true },
		"count only":   func(r *pb.RangeRequest) { r.CountOnly = true },
		"one key":      func(r *pb.RangeRequest) { r.Key, r.RangeEnd = []byte("key-000001"), nil },
		"no key":       func(r *pb.RangeRequest) { r.Key, r.RangeEnd = []byte("zzz"), nil },
		"serializable": func(r *pb.RangeRequest) { r.Serializable = true },
	} {
		r := proto.Clone(all).(*pb.RangeRequest)
		change(r)
		want, err := raw.Range(within(t), r)
		if err != nil {
			t.Fatal(err)
		}
		stream, err := raw.RangeStream(within(t), r)
		if err != nil {
			t.Fatal(err)
		}
		if got, parts := merged(t, stream); !proto.Equal(got, want) {
			t.Errorf("%s: %d parts have %d keys, %v, count %d; want %d keys, %v, count %d",
				name, parts, len(got.Kvs), got.Header, got.Count, len(want.Kvs), want.Header, want.Count)
		}
	}
	chunks, err := cl.GetStream(within(t), "key", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	got, err := clientv3.GetStreamToGetResponse(chunks)
	if err != nil || got.Count != 4900 || len(got.Kvs) != 4900 {
		t.Errorf("etcd's client: %v, %d keys", err, len(got.Kvs))
	}
}

// What a stream refuses, it tells at the first receive.
func TestRangeStream_refusals(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{})
	cl := client(t, c.Endpoints()...)
	fill(t, cl, 300, 10)
	if _, err := cl.Compact(within(t), 3); err != nil {
		t.Fatal(err)
	}
	k := []byte("k")
	for name, x := range map[string]struct {
		r    *pb.RangeRequest
		code codes.Code
		text string
	}{
		"no key":      {&pb.RangeRequest{}, codes.InvalidArgument, "etcdserver: key is not provided"},
		"sort order":  {&pb.RangeRequest{Key: k, SortOrder: 3}, codes.InvalidArgument, "etcdserver: invalid sort option"},
		"sort target": {&pb.RangeRequest{Key: k, SortTarget: 5}, codes.InvalidArgument, "etcdserver: invalid sort option"},
		"descending":  {&pb.RangeRequest{Key: k, SortOrder: 2}, codes.Unimplemented, "RangeStream does not support custom sort orders"},
		"by version":  {&pb.RangeRequest{Key: k, SortOrder: 1, SortTarget: 1}, codes.Unimplemented, "RangeStream does not support custom sort orders"},
		"filter":      {&pb.RangeRequest{Key: k, MinModRevision: 1}, codes.Unimplemented, "RangeStream does not support revision filters"},
		"future":      {&pb.RangeRequest{Key: k, Revision: 99}, codes.OutOfRange, "etcdserver: mvcc: required revision is a future revision"},
		"compacted":   {&pb.RangeRequest{Key: k, Revision: 2}, codes.OutOfRange, "etcdserver: mvcc: required revision has been compacted"},
	} {
		stream, err := pb.NewKVClient(cl.ActiveConnection()).RangeStream(within(t), x.r)
		if err != nil {
			t.Fatalf("%s: refused before the first receive: %v", name, err)
		}
		_, err = stream.Recv()
		if s := status.Convert(err); s.Code() != x.code || s.Message() != x.text {
			t.Errorf("%s: %v %q, want %v %q", name, s.Code(), s.Message(), x.code, x.text)
		}
	}
}

// Readers that stop reading hold little memory and nobody up; and when what
// they read is compacted, they are told.
func TestRangeStream_stalledReaders(t *testing.T) {
	if testing.Short() {
		t.Skip("fills 48 MiB, and measures the heap, which the race detector changes")
	}
	const readers, keys, value = 20, 3000, 16 << 10 // values that are read from the file
	c := testcluster.Start(t, 1, testcluster.Options{})
	cl := client(t, c.Endpoints()...)
	fill(t, cl, keys, value)
	// Windows that do not grow: what they hold is the client's.
	reader, err := grpc.NewClient(strings.TrimPrefix(c.Endpoints()[0], "http://"),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(64<<10), grpc.WithInitialConnWindowSize(4<<20))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close() })
	before := heapInUse()
	var streams []pb.KV_RangeStreamClient
	for range readers {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		t.Cleanup(cancel)
		stream, err := pb.NewKVClient(reader).RangeStream(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		streams = append(streams, stream)
	}
	other := client(t, c.Endpoints()...)
	for i := range 200 {
		if _, err := other.Put(within(t), fmt.Sprint("other-", i), "v"); err != nil {
			t.Fatal(err)
		}
	}
	if grown := heapInUse() - before; grown > readers*4<<20 {
		t.Errorf("%d stalled readers of %d MiB hold %d MiB", readers, keys*value>>20, grown>>20)
	}
	resp, err := other.Put(within(t), "last", "v")
	if err != nil {
		t.Fatal(err)
	}
	// Half of them read on, at the revision they began with.
	for _, s := range streams[:readers/2] {
		all, _ := merged(t, s)
		if len(all.Kvs) != keys-10 { // without the part received above
			t.Errorf("%d keys", len(all.Kvs))
		}
	}
	if _, err := other.Compact(within(t), resp.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	for _, s := range streams[readers/2:] {
		err := error(nil)
		for err == nil {
			_, err = s.Recv()
		}
		if got, want := status.Convert(err), status.Convert(rpctypes.ErrGRPCCompacted); got.Message() != want.Message() || got.Code() != want.Code() {
			t.Errorf("after the compaction: %v", err)
		}
	}
}

// heapInUse is how much is in use, in bytes, after what pools keep was let go: it
// takes two collections.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
