package raftstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// openMemory opens a log store over a backend and closes it at the end.
func openMemory(t *testing.T, b logBackend, async bool) *logStore {
	t.Helper()
	s, err := newLogStore(b, prometheus.NewRegistry(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	s.async = async
	t.Cleanup(func() { s.Close() })
	return s
}

// entries makes consecutive entries, first to last, of a term.
func entries(first, last, term uint64) []*raft.Log {
	var logs []*raft.Log
	for i := first; i <= last; i++ {
		logs = append(logs, &raft.Log{Index: i, Term: term, Data: fmt.Append(nil, "entry ", i)})
	}
	return logs
}

// A log that could not be written once is not written again: what the failed
// write left behind is unknown, and so is what a later sync means.
func TestLogStore_failedWriteStays(t *testing.T) {
	b := newMemoryBackend()
	s := openMemory(t, b, false)
	fatal := 0
	s.fatal = func(error) { fatal++ }
	if err := s.StoreLogs(entries(1, 1, 1)); err != nil {
		t.Fatal(err)
	}
	b.hooks(nil, func(string) error { return syscall.ENOSPC })
	err := s.StoreLogs(entries(2, 2, 1))
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "disk is full") {
		t.Fatalf("written to a full disk: %v", err)
	}
	b.hooks(nil, nil) // the disk is back
	if err := s.StoreLogs(entries(3, 3, 1)); err == nil {
		t.Error("written after a write that failed")
	}
	if err := s.DeleteRange(1, 1); err == nil {
		t.Error("removed after a write that failed")
	}
	if err := s.AwaitDurable(2, nil); err == nil || s.Durable() != 1 {
		t.Errorf("entry 2 counts as durable: %v, %d", err, s.Durable())
	}
	if err := s.Flush(nil); err == nil {
		t.Error("flushed after a write that failed")
	}
	if fatal != 1 {
		t.Errorf("the process was told to end %d times", fatal)
	}
}

// A member that cannot write its log says so, and acknowledges nothing.
func TestNode_logWriteFails(t *testing.T) {
	n := openLone(t, t.TempDir(), &toyMachine{})
	term := lead(t, n)
	fatal := make(chan error, 1)
	n.logs.mu.Lock()
	n.logs.fatal = func(err error) { fatal <- err }
	n.logs.mu.Unlock()
	n.logs.backend.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := n.Propose(ctx, term, []byte("x")); err == nil {
		t.Fatal("acknowledged without a log")
	}
	select {
	case <-fatal:
	case <-ctx.Done():
		t.Fatal("nobody was told")
	}
}

// The largest entry that is taken can be read again after a restart; the log
// would write a larger one too, and be unreadable.
func TestNode_largestEntry(t *testing.T) {
	if testing.Short() {
		t.Skip("moves hundreds of MiB, which the race detector makes slow")
	}
	dir := t.TempDir()
	machine := &toyMachine{}
	n := openLone(t, dir, machine)
	term := lead(t, n)
	if err := n.Propose(context.Background(), term, make([]byte, MaxEntry+1)); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("got %v", err)
	}
	propose(t, n, term, string(make([]byte, MaxEntry)))
	propose(t, n, term, "after")
	n.Close()
	n.cfg.Mesh.Close()
	again := machine.crash()
	openLone(t, dir, again)
	if got := again.all(); len(got) == 0 || len(got[0]) != MaxEntry {
		t.Fatalf("%d entries after the restart", len(got))
	}
}
