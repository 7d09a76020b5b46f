package raftstore

import (
	"encoding/json"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

func testSnapshots(m *toyMachine) (snapshotStore, chan struct{}) {
	quit := make(chan struct{})
	return snapshotStore{machine: m, slot: make(chan struct{}, 1), holds: newLogHolds(time.Minute), quit: quit}, quit
}

func syncedToy() *toyMachine {
	m := &toyMachine{}
	m.Configure(1, 1, pairMembership())
	m.Command(2, 1, []byte("2"))
	m.Publish()
	m.sync()
	return m
}

// What is said of a snapshot and its content are of one moment, whatever is
// committed meanwhile.
func TestSnapshotStore_oneTransaction(t *testing.T) {
	m := syncedToy()
	s, _ := testSnapshots(m)
	meta, r, err := s.Open("state")
	if err != nil {
		t.Fatal(err)
	}
	m.Command(3, 2, []byte("3"))
	m.Publish()
	m.sync()
	raw, err := io.ReadAll(r)
	if err != nil || int64(len(raw)) != meta.Size {
		t.Fatalf("%d bytes of %d, %v", len(raw), meta.Size, err)
	}
	var f toyFile
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatal(err)
	}
	if f.Index != meta.Index || f.Term != meta.Term || meta.Index != 2 || meta.ConfigurationIndex != 1 || len(f.Commands) != 1 {
		t.Errorf("said index %d of term %d, the content has %d of %d", meta.Index, meta.Term, f.Index, f.Term)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if low := s.holds.lowest(time.Now()); low.index != 2 || low.size != meta.Size {
		t.Errorf("the log is held at %+v after the snapshot was read", low)
	}
}

// One that nobody read, because its peer is not there, holds no log; closing it
// ends its goroutine.
func TestSnapshotStore_notSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := testSnapshots(syncedToy())
		_, r, err := s.Open("state")
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if low := s.holds.lowest(time.Now()); low.index != 0 {
			t.Errorf("the log is held at %+v", low)
		}
	})
}

// Two members are served one after the other, unless the first takes too long,
// and nobody waits when raft ends.
func TestSnapshotStore_oneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, quit := testSnapshots(syncedToy())
		_, first, err := s.Open("state")
		if err != nil {
			t.Fatal(err)
		}
		opened := make(chan io.ReadCloser, 1)
		go func() {
			_, second, err := s.Open("state")
			if err != nil {
				t.Error(err)
			}
			opened <- second
		}()
		time.Sleep(sendAlone / 2)
		select {
		case <-opened:
			t.Fatal("two snapshots are sent at a time")
		default:
		}
		first.Close()
		second := <-opened
		start := time.Now()
		_, third, err := s.Open("state")
		if took := time.Since(start); err != nil || took != sendAlone {
			t.Errorf("waited %v for a slow member, %v", took, err)
		}
		go close(quit)
		if _, _, err := s.Open("state"); !errors.Is(err, raft.ErrRaftShutdown) {
			t.Errorf("got %v", err)
		}
		second.Close()
		third.Close()
	})
}

// All installs of a member together keep to the rate.
func TestPace_holdsTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		start := time.Now()
		const should = 1024 * chunkBytes * time.Second / installRate
		for range 1024 {
			time.Sleep(p.take(chunkBytes))
		}
		if took := time.Since(start); took < should*39/40 || took > should*41/40 {
			t.Errorf("256 MiB took %v", took)
		}
		time.Sleep(time.Minute) // what was not used is lost
		start = time.Now()
		for range 1024 {
			time.Sleep(p.take(chunkBytes))
		}
		if took := time.Since(start); took < should*39/40 {
			t.Errorf("256 MiB took %v after a pause", took)
		}
	})
}
