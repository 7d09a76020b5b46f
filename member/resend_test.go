package member

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/raftstore"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// A peer that still takes a restarted member for the leader forwards to it
// before it has opened its log: that is refused, and definitely so.
func TestMember_forwardBeforeStart(t *testing.T) {
	all := newFixtures(t, 2)
	payload, err := proto.Marshal(&conclavepb.Forward{Term: 1, Batch: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx := limited(t)
	for {
		changed := all[0].peer.Changed()
		_, err := all[0].peer.Call(ctx, 2, raftstore.KindForward, payload)
		if errors.Is(err, raftstore.ErrUnreachable) || errors.Is(err, raftstore.ErrConnectionLost) {
			<-changed // not connected yet, or in one direction, and in the other one meanwhile
			continue
		}
		if !untaken(err) {
			t.Fatalf("got %v", err)
		}
		return
	}
}

// The same forward again and again, as a sender that lost its connections
// would repeat it, is applied once.
func TestMember_forwardedTwiceAppliedOnce(t *testing.T) {
	leader, other := leaderAndOther(t, startCluster(t, 3))
	term := leader.node.Term()
	const batches = 20
	var work sync.WaitGroup
	for i := range uint64(batches) {
		entry, err := fsm.AppendRequest(fsm.AppendHeader(nil, term, 1<<40+i), fsm.KindPut, fsm.Origin{}, &pb.PutRequest{Key: fmt.Appendf(nil, "b%d", i)})
		if err != nil {
			t.Fatal(err)
		}
		payload, err := proto.Marshal(&conclavepb.Forward{Term: term, Batch: 1<<40 + i, Payload: entry})
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			work.Go(func() {
				if _, err := other.peer.Call(limited(t), leader.ID(), raftstore.KindForward, payload); err != nil {
					t.Error(err)
				}
			})
		}
	}
	work.Wait()
	for i := range batches {
		if got := timesWritten(t, other, fmt.Sprintf("b%d", i)); got != 1 {
			t.Errorf("batch %d was applied %d times", i, got)
		}
	}
}

// timesWritten reads how often a key was written, linearizably.
func timesWritten(t *testing.T, f *fixture, key string) int64 {
	t.Helper()
	resp, err := f.Range(limited(t), &pb.RangeRequest{Key: []byte(key)})
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return 0
	}
	return resp.Kvs[0].Version
}

// Connections break again and again under writes through all members, leaders
// change: what was acknowledged is there, and nothing is there twice.
func TestMember_writesOnceUnderConnectionLoss(t *testing.T) {
	all := startCluster(t, 3)
	const seed = 1
	rng := rand.New(rand.NewPCG(seed, 0))
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	type write struct {
		key   string
		acked bool
	}
	var mu sync.Mutex
	var writes []write
	var work sync.WaitGroup
	for i, f := range all {
		for w := range 4 {
			work.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					key := fmt.Sprintf("%d-%d-%d", i, w, n)
					_, err := f.Put(ctx, &pb.PutRequest{Key: []byte(key)})
					mu.Lock()
					writes = append(writes, write{key, err == nil})
					mu.Unlock()
				}
			})
		}
	}
	for range 25 {
		for _, f := range all {
			if rng.IntN(2) == 0 {
				f.hangUp()
			}
		}
		time.Sleep(time.Duration(rng.IntN(120)) * time.Millisecond) // the schedule of the faults
	}
	stop()
	work.Wait()
	acked := 0
	for _, w := range writes {
		got := timesWritten(t, all[0], w.key)
		if got > 1 || w.acked && got == 0 {
			t.Errorf("seed %d: %s was applied %d times, acknowledged %v", seed, w.key, got, w.acked)
		}
		if w.acked {
			acked++
		}
	}
	if acked == 0 {
		t.Fatal("nothing was acknowledged")
	}
	t.Logf("%d of %d writes acknowledged", acked, len(writes))
}

// After Stop a request is refused at once, whatever its context.
func TestMember_requestAfterStop(t *testing.T) {
	f := startCluster(t, 1)[0]
	if err := f.node.Close(); err != nil {
		t.Fatal(err)
	}
	f.Stop()
	if _, err := f.Put(context.Background(), &pb.PutRequest{Key: []byte("k")}); !errors.Is(err, ErrStopped) {
		t.Fatalf("got %v", err)
	}
}
