package raftstore

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// deadMeta is metadata that takes no more once it is dead, as if the process
// had ended before the write.
type deadMeta struct {
	metadb.BoltMetaDB
	dead atomic.Bool
}

func (m *deadMeta) CommitState(state types.PersistentState) error {
	if m.dead.Load() {
		return errors.New("the process is dead")
	}
	return m.BoltMetaDB.CommitState(state)
}

// A log whose segment was full when the process ended, before it had begun the
// next, takes entries again, and has lost none.
func TestOpenLogStore_betweenSegments(t *testing.T) {
	dir := t.TempDir()
	meta := &deadMeta{}
	w, err := wal.Open(dir, wal.WithSegmentSize(16<<10), wal.WithMetaStore(meta), wal.WithLogger(newRaftLogger(zerolog.Nop(), "wal")))
	if err != nil {
		t.Fatal(err)
	}
	meta.dead.Store(true)
	stored := uint64(0)
	for ; err == nil; stored++ {
		err = w.StoreLog(&raft.Log{Index: stored + 1, Term: 1, Data: make([]byte, 1000)})
	}
	stored-- // the last was refused
	if !errors.Is(err, wal.ErrSealed) || stored == 0 {
		t.Fatalf("after %d entries: %v, want a full segment", stored, err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to finish
		s, err := openLogStore(dir, prometheus.NewRegistry(), zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		if last, err := s.LastIndex(); err != nil || last != stored {
			t.Errorf("the log ends at %d (%v), and %d entries were stored", last, err, stored)
		}
		for index := uint64(1); index <= stored; index++ {
			if err := s.GetLog(index, new(raft.Log)); err != nil {
				t.Errorf("entry %d: %v", index, err)
			}
		}
		stored++
		if err := s.StoreLog(&raft.Log{Index: stored, Term: 1}); err != nil {
			t.Fatalf("a write after the crash: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
