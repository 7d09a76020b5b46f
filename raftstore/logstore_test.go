package raftstore

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// A log that could not be written once is not written again: what the failed
// write left behind is unknown, and so is what a later sync means.
func TestLogStore_failedWriteStays(t *testing.T) {
	dir := t.TempDir()
	s, err := openLogStore(dir, prometheus.NewRegistry(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	fatal := 0
	s.fatal = func(error) { fatal++ }
	if err := s.StoreLog(&raft.Log{Index: 1, Term: 1}); err != nil {
		t.Fatal(err)
	}
	s.logBackend.Close() // every write fails from here
	if err := s.StoreLog(&raft.Log{Index: 2, Term: 1}); err == nil {
		t.Fatal("written to a closed file")
	}
	if s.logBackend, err = wal.Open(dir); err != nil { // the disk is back
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.StoreLog(&raft.Log{Index: 2, Term: 1}); err == nil {
		t.Error("written after a write that failed")
	}
	if err := s.DeleteRange(1, 1); err == nil {
		t.Error("removed after a write that failed")
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
	n.logs.logBackend.Close()
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
