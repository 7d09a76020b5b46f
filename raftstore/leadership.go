package raftstore

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Leadership is who leads, as far as this member knows.
type Leadership struct {
	// Leader is a member id, 0 when none is known.
	Leader uint64
	// Term is the newest term seen.
	Term uint64
}

// leadership follows raft's events: it announces changes, and opens each term
// this member leads.
type leadership struct {
	node     *Node
	events   chan raft.Observation
	observer *raft.Observer
	changes  atomic.Uint64 // leaders seen after the first
	done     sync.WaitGroup
	quit     chan struct{}

	mu      sync.Mutex
	current Leadership
	changed chan struct{} // closed at the next change
}

// leadershipPoll bounds how stale an announcement can be when raft drops an
// event because its reader is behind.
const leadershipPoll = 100 * time.Millisecond

func followLeadership(n *Node) *leadership {
	l := &leadership{
		node:    n,
		events:  make(chan raft.Observation, 64),
		quit:    make(chan struct{}),
		changed: make(chan struct{}),
	}
	l.observer = raft.NewObserver(l.events, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			return true
		}
		return false
	})
	n.raft.RegisterObserver(l.observer)
	l.done.Add(1)
	go l.run()
	return l
}

func (l *leadership) run() {
	defer l.done.Done()
	poll := time.NewTicker(leadershipPoll)
	defer poll.Stop()
	for {
		l.refresh()
		l.open()
		select {
		case <-l.events:
		case <-poll.C:
		case <-l.quit:
			return
		}
	}
}

// refresh announces the leadership if it is not what was announced last.
func (l *leadership) refresh() {
	now := l.node.leadership()
	l.mu.Lock()
	defer l.mu.Unlock()
	if now == l.current {
		return
	}
	if now.Leader != 0 && l.current.Leader != now.Leader {
		l.changes.Add(1)
	}
	l.current = now
	close(l.changed)
	l.changed = make(chan struct{})
}

// open proposes the command that opens the term this member leads. Until it
// was applied no read is confirmed.
func (l *leadership) open() {
	n := l.node
	now := n.leadership()
	if now.Leader != n.cfg.Self || n.openTerm.Load() == now.Term {
		return
	}
	ctx, cancel := context.WithTimeout(n.ctx, n.cfg.RequestTimeout)
	defer cancel()
	err := n.Propose(ctx, now.Term, n.cfg.OpenTerm(now.Term))
	if err != nil {
		if !errors.Is(err, ErrNotLeader) {
			n.cfg.Log.Warn().Err(err).Uint64("term", now.Term).Msg("term is not open yet")
		}
		return
	}
	n.openTerm.Store(now.Term)
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *leadership) stop() {
	l.node.raft.DeregisterObserver(l.observer)
	close(l.quit)
	l.done.Wait()
}

// leadership asks raft.
func (n *Node) leadership() Leadership {
	_, id := n.raft.LeaderWithID()
	leader, err := memberID(string(id))
	if err != nil {
		leader = 0
	}
	return Leadership{Leader: leader, Term: n.raft.CurrentTerm()}
}

// Leadership returns who leads now, and a channel that is closed when that, or
// whether the leader's term is open, has changed.
func (n *Node) Leadership() (Leadership, <-chan struct{}) {
	n.leaders.mu.Lock()
	changed := n.leaders.changed
	n.leaders.mu.Unlock()
	return n.leadership(), changed
}

// LeaderChanges counts the leaders this member has seen.
func (n *Node) LeaderChanges() uint64 { return n.leaders.changes.Load() }
