package member

import (
	"context"
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/kv"
)

// await returns the next update of a stream.
func await(ctx context.Context, t *testing.T, s *kv.Stream) kv.Update {
	t.Helper()
	for {
		u, ok, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			return u
		}
		select {
		case <-s.Wake():
		case <-ctx.Done():
			t.Fatal("no update came")
		}
	}
}

// Watches on each member see what one of them is told, in order and once.
func TestWatch_everyMember(t *testing.T) {
	all := startCluster(t, 3)
	ctx := limited(t)
	streams := make([]*kv.Stream, len(all))
	for i, f := range all {
		streams[i] = f.NewWatchStream()
		defer streams[i].Close()
		if _, err := streams[i].Create(0, kv.Watch{Key: []byte("k"), End: []byte("l"), Start: 1}); err != nil {
			t.Fatal(err)
		}
		if u := await(ctx, t, streams[i]); u.Kind != kv.Created || u.ID != 0 {
			t.Fatalf("got %+v, want the creation", u)
		}
	}
	const puts = 30
	for i := range puts {
		if _, err := all[i%3].Put(ctx, &pb.PutRequest{Key: fmt.Appendf(nil, "k%d", i), Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range streams {
		for n := 0; n < puts; {
			for _, e := range await(ctx, t, s).Events {
				if want := fmt.Sprint("k", n); string(e.Key()) != want {
					t.Fatalf("member %d: event of %q, want %q", i, e.Key(), want)
				}
				n++
			}
		}
	}
	s := streams[0]
	s.AskProgress()
	if u := await(ctx, t, s); u.Kind != kv.Progress || u.Rev != all[0].View().KV.Rev() {
		t.Errorf("got %+v, want progress up to revision %d", u, all[0].View().KV.Rev())
	}
}
