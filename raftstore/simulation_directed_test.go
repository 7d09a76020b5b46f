package raftstore

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"
)

// directed runs a cluster without clients in a bubble, for tests that bring
// about by their own steps what random schedules seldom or never do. All
// observations are judged as in a schedule.
func directed(t *testing.T, members int, test func(t *testing.T, s *simulation)) {
	t.Helper()
	directedWith(t, schedule{seed: 1, members: members, async: true}, test)
}

func directedWith(t *testing.T, with schedule, test func(t *testing.T, s *simulation)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(with, zerolog.Nop())
		s.quiet = true
		defer s.watch()()
		for _, m := range s.members {
			s.start(m.id)
		}
		defer func() {
			s.endAll()
			if err := s.history.failure(); err != nil {
				t.Error(err)
			}
		}()
		test(t, s)
	})
}

// leader waits for a process that leads an open term.
func (s *simulation) leader(t *testing.T) (run *simRun, term uint64) {
	t.Helper()
	eventually(t, "a leader", func() bool {
		for _, run = range s.runs() {
			now, _ := run.node.Leadership()
			if term = now.Term; now.Leader == run.id && run.node.openTerm.Load() == term {
				return true
			}
		}
		return false
	})
	return run, term
}

// others are the processes besides one.
func (s *simulation) others(one *simRun) []*simRun {
	return slices.DeleteFunc(s.runs(), func(r *simRun) bool { return r == one })
}

// isolate cuts a member off.
func (s *simulation) isolate(id uint64) {
	for _, m := range s.members {
		s.net.isolate(id, m.id)
	}
}

// have waits until every process has applied a value.
func (s *simulation) have(t *testing.T, runs []*simRun, value string) {
	t.Helper()
	for _, run := range runs {
		eventually(t, value+" everywhere", func() bool { return run.machine.has(value) })
	}
}

// setFilter loses the appends and commit messages that keep says no to.
func (n *faultNet) setFilter(keep func(m *raft.AppendEntriesRequest) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.filter = nil
	if keep != nil {
		n.filter = func(_, _ uint64, raw []byte) bool {
			m := appendIn(raw)
			return m == nil || keep(m)
		}
	}
}

// keepEntriesFrom loses the appends to one member that carry entries.
func (n *faultNet) keepEntriesFrom(id uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.filter = func(_, to uint64, raw []byte) bool {
		m := appendIn(raw)
		return to != id || m == nil || len(m.Entries) == 0
	}
}

// A new leader has every acknowledged entry in its log but may not know yet
// that they are agreed. While it cannot learn it, and although a majority
// confirms its term, it answers no read.
func TestNode_noReadBeforeTermIsOpen(t *testing.T) {
	directed(t, 3, func(t *testing.T, s *simulation) {
		old, term := s.leader(t)
		propose(t, old.node, term, "before")
		s.have(t, s.runs(), "before")
		known := old.node.CommitIndex()
		// No follower learns that the next entry is agreed.
		s.net.setFilter(func(m *raft.AppendEntriesRequest) bool { return m.LeaderCommitIndex <= known })
		propose(t, old.node, term, "acknowledged")
		last := old.node.LastIndex()
		for _, run := range s.runs() {
			eventually(t, "the entry in every log", func() bool { return run.node.LastIndex() >= last })
		}
		// The leader is gone, and the next one's entries reach nobody: only its
		// heartbeats, votes and confirmations do.
		s.isolate(old.id)
		s.net.setFilter(func(m *raft.AppendEntriesRequest) bool {
			return len(m.Entries) == 0 && m.LeaderCommitIndex <= known
		})
		var next *simRun
		eventually(t, "the next leader", func() bool {
			for _, run := range s.others(old) {
				if now, _ := run.node.Leadership(); now.Leader == run.id && now.Term > term {
					next = run
				}
			}
			return next != nil
		})
		for _, run := range s.others(old) { // the leader, and who asks it
			ctx, cancel := context.WithTimeout(context.Background(), simElection)
			if err := run.node.ReadIndex(ctx); err == nil && !run.machine.has("acknowledged") {
				t.Errorf("stale read on member %d", run.id)
			}
			cancel()
		}
		s.net.setFilter(nil)
		// Lost frames are missed only after some seconds.
		eventually(t, "a read", func() bool { return next.node.ReadIndex(context.Background()) == nil })
		if !next.machine.has("acknowledged") {
			t.Fatal("a read misses what was acknowledged")
		}
	})
}

// A leader that is cut off confirms no read, however well it believes to lead.
func TestNode_cutOffLeaderConfirmsNothing(t *testing.T) {
	directed(t, 3, func(t *testing.T, s *simulation) {
		run, term := s.leader(t)
		propose(t, run.node, term, "x")
		s.isolate(run.id)
		ctx, cancel := context.WithTimeout(context.Background(), simElection/4)
		defer cancel()
		if now, _ := run.node.Leadership(); now.Leader != run.id {
			t.Fatal("it does not believe to lead")
		}
		if err := run.node.ReadIndex(ctx); err == nil {
			t.Fatal("a leader without a majority confirmed a read")
		}
	})
}
