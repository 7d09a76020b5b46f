package raftstore

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// beforeRead is a backend that calls before each read.
type beforeRead struct {
	*memoryBackend
	before func()
}

func (b *beforeRead) GetLog(index uint64, l *raft.Log) error {
	b.before()
	return b.memoryBackend.GetLog(index, l)
}

// An entry may be replaced while it is read, by who replicates for a leader that
// was deposed: that is no damage, and does not end the process.
func TestLogStore_replacedWhileRead(t *testing.T) {
	b := &beforeRead{newMemoryBackend(), func() {}}
	s := openMemory(t, b, true)
	s.cache.limit = 0 // what is durable is read from the backend
	s.fatal = func(err error) { t.Errorf("the process is to end: %v", err) }
	if err := s.StoreLogs(entries(1, 9, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(nil); err != nil {
		t.Fatal(err)
	}
	b.before = func() { // the reader has seen that the log holds the entry
		b.before = func() {}
		if err := s.DeleteRange(4, 9); err != nil {
			t.Error(err)
		}
		b.hooks(func(string) time.Duration { return 100 * time.Millisecond }, nil)
		if err := s.StoreLogs(entries(4, 9, 2)); err != nil {
			t.Error(err)
		}
	}
	var l raft.Log
	if err := s.GetLog(7, &l); err != nil || l.Index != 7 || l.Term != 2 {
		t.Errorf("read entry %d of term %d: %v", l.Index, l.Term, err)
	}
}
