package member

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// waste writes values and compacts them away, until most of each state file is
// free.
func waste(t *testing.T, all []*fixture) {
	t.Helper()
	ctx, value := limited(t), bytes.Repeat([]byte("v"), 100<<10)
	var revision int64
	for i := range 60 {
		resp, err := all[0].Put(ctx, &pb.PutRequest{Key: fmt.Appendf(nil, "k%d", i%3), Value: value})
		if err != nil {
			t.Fatal(err)
		}
		revision = resp.Header.Revision
	}
	for _, f := range all { // else what is compacted in the same commit never was in the file
		eventuallyTrue(t, "everything is in the file", func() bool {
			total, _, err := f.machine.Size()
			return err == nil && total > 4<<20
		})
	}
	if _, err := all[0].Compact(ctx, &pb.CompactionRequest{Revision: revision, Physical: true}); err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		eventuallyTrue(t, "the space is free", func() bool {
			if _, err := all[0].Put(ctx, &pb.PutRequest{Key: []byte("small")}); err != nil { // has another commit made
				t.Fatal(err)
			}
			total, inUse, err := f.machine.Size()
			return err == nil && inUse < total/2
		})
	}
}

func eventuallyTrue(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// One member's file shrinks, for everybody who asked at the time, while the
// others stay as they are and writes go on.
func TestDefragment_thisMemberOnly(t *testing.T) {
	all := startCluster(t, 3)
	waste(t, all)
	stop := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		for i := 0; ; i++ {
			if _, err := all[1].Put(limited(t), &pb.PutRequest{Key: fmt.Appendf(nil, "beside%d", i%9), Value: make([]byte, 1000)}); err != nil {
				t.Errorf("put beside: %v", err)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	before, _, _ := all[1].machine.Size()
	elsewhere, _, _ := all[0].machine.Size()
	var asks sync.WaitGroup
	for range 3 {
		asks.Go(func() {
			if err := all[1].Defragment(limited(t)); err != nil {
				t.Error(err)
			}
		})
	}
	asks.Wait()
	after, _, err := all[1].machine.Size()
	other, _, _ := all[0].machine.Size()
	if err != nil || after > before*3/4 || other < elsewhere {
		t.Errorf("%d bytes became %d, another member's %d: %v", before, after, other, err)
	}
	if err := all[1].Defragment(limited(t)); err != nil { // again, when the old file is closed
		t.Fatal(err)
	}
	close(stop)
	work.Wait()
	sameHistory(t, all)
}

// sameHistory waits until all members have the same, and compares their hashes.
func sameHistory(t *testing.T, all []*fixture) {
	t.Helper()
	if _, err := all[0].Put(limited(t), &pb.PutRequest{Key: []byte("last")}); err != nil {
		t.Fatal(err)
	}
	rev := all[0].View().KV.Rev()
	for _, f := range all {
		eventuallyTrue(t, "all members are level", func() bool { return f.View().KV.Rev() >= rev })
		want, err := all[0].machine.HashKV(rev)
		got, err2 := f.machine.HashKV(rev)
		if err != nil || err2 != nil || got.Sum != want.Sum {
			t.Errorf("member %d has %v, %v; member %d %v, %v", f.ID(), got, err2, all[0].ID(), want, err)
		}
	}
}

// Where a copy has no room nothing is begun.
func TestDefragment_noRoom(t *testing.T) {
	f := startCluster(t, 1)[0]
	f.defragmenter.free = func(string) (int64, error) { return defragMargin - 1, nil }
	err := f.Defragment(limited(t))
	if err == nil || !strings.Contains(err.Error(), "must be free") {
		t.Fatalf("without room: %v", err)
	}
	t.Log(err)
	if _, err := os.Stat(f.machine.Path() + ".defrag"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was begun: %v", err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.Defragment(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("for a client that is gone: %v", err)
	}
}

// In a cluster every member gives its space back by itself, one at a time.
func TestDefragment_inTheBackground(t *testing.T) {
	all := newFixtures(t, 3)
	var active sync.Mutex
	for _, f := range all {
		f.cfg.BackgroundDefrag, f.cfg.DefragFree = true, 2<<20
		f.defragmenter.free = func(string) (int64, error) { return 1 << 40, nil }
	}
	for _, f := range all {
		f.begin(t)
	}
	overlaps := 0
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			n := 0
			for _, f := range all {
				if _, err := os.Stat(f.machine.Path() + ".defrag"); err == nil {
					n++
				}
			}
			active.Lock()
			if n > 1 {
				overlaps++
			}
			active.Unlock()
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	ctx, value := limited(t), bytes.Repeat([]byte("v"), 100<<10)
	for i := range 60 {
		resp, err := all[0].Put(ctx, &pb.PutRequest{Key: fmt.Appendf(nil, "k%d", i%3), Value: value})
		if err != nil {
			t.Fatal(err)
		}
		if i == 59 {
			if _, err := all[0].Compact(ctx, &pb.CompactionRequest{Revision: resp.Header.Revision, Physical: true}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, f := range all {
		eventuallyTrue(t, fmt.Sprintf("member %d is small", f.ID()), func() bool {
			if _, err := all[0].Put(ctx, &pb.PutRequest{Key: []byte("small")}); err != nil {
				t.Fatal(err)
			}
			total, _, err := f.machine.Size()
			return err == nil && total < 3<<20
		})
	}
	close(stop)
	watch.Wait()
	if overlaps > 0 {
		t.Errorf("several members at once, seen %d times", overlaps)
	}
	sameHistory(t, all)
}

// The leader gives one member its turn, until it ends or is not heard of.
func TestDefragTurns_oneAtATime(t *testing.T) {
	var turns defragTurns
	now := time.Now()
	for i, step := range []struct {
		member uint64
		what   byte
		after  time.Duration
		want   error
	}{
		{1, turnTake, 0, nil}, {2, turnTake, 0, errNotMyTurn}, {1, turnTake, turnLasts - 1, nil}, {2, turnEnd, 0, errNotMyTurn},
		{2, turnTake, turnLasts - 1, errNotMyTurn}, {2, turnTake, 1, nil}, {1, turnTake, 0, errNotMyTurn}, {2, turnEnd, 0, nil}, {1, turnTake, 0, nil},
	} {
		now = now.Add(step.after)
		if err := turns.ask(step.member, step.what, now); !errors.Is(err, step.want) {
			t.Errorf("step %d: %v", i, err)
		}
	}
}
