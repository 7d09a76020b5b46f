package raftstore

import (
	"fmt"

	"github.com/hashicorp/raft"
)

// keyLogStart is where the stable store has the index that the log begins
// after, once an installed state has replaced what was before.
var keyLogStart = []byte("LogStart")

// Reset makes the log empty and continue after an index. The mark goes first: a
// crash between the two leaves entries that nobody needs, and Reset is done
// again.
func (s *logStore) Reset(after uint64) error {
	if err := s.SetUint64(keyLogStart, after); err != nil {
		return fmt.Errorf("mark the start of the log: %w", err)
	}
	first, last, _ := s.Span()
	if last == 0 {
		return nil
	}
	return s.DeleteRange(first, last)
}

// Start is the index of the last Reset, 0 for a log that never had one.
func (s *logStore) Start() uint64 { return startOf(s) }

func startOf(logs raft.LogStore) uint64 {
	stable, ok := logs.(raft.StableStore)
	if !ok {
		return 0
	}
	start, err := stable.GetUint64(keyLogStart)
	if err != nil {
		return 0 // never set
	}
	return start
}

// Span is the first and last index and the bytes of data between them.
func (s *logStore) Span() (first, last uint64, bytes int64) {
	first, _ = s.FirstIndex()
	last, _ = s.LastIndex()
	s.backward(func(_ uint64, size int64) bool {
		bytes += size
		return true
	})
	return first, last, bytes
}

// FirstWithin is the lowest index from which the entries to the end take at
// most bytes.
func (s *logStore) FirstWithin(bytes int64) uint64 {
	last, _ := s.LastIndex()
	within := last + 1
	s.backward(func(index uint64, size int64) bool {
		if bytes -= size; bytes >= 0 {
			within = index
		}
		return bytes >= 0
	})
	return within
}

// backward visits entries from the newest on, as long as visit says so.
func (s *logStore) backward(visit func(index uint64, size int64) bool) {
	first, _ := s.FirstIndex()
	last, _ := s.LastIndex()
	for index := last; index >= max(first, 1); index-- {
		var entry raft.Log
		if s.GetLog(index, &entry) != nil || !visit(index, int64(len(entry.Data))) {
			return
		}
	}
}
