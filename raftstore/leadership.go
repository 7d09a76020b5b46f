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

// retryOpen is the pause after a term could not be opened.
const retryOpen = 100 * time.Millisecond

// leadership follows raft's events: it announces changes, and opens each term
// this member leads.
type leadership struct {
	node    *Node
	events  chan struct{} // holds one: something happened since the last look
	changes atomic.Uint64 // leaders seen after the first
	opening sync.WaitGroup
	busy    atomic.Bool // a term is being opened

	mu      sync.Mutex
	current Leadership
	since   time.Time     // for how long the leader, or none, has been the same
	changed chan struct{} // closed at the next change
}

func newLeadership(n *Node) *leadership {
	return &leadership{node: n, events: make(chan struct{}, 1), since: time.Now(), changed: make(chan struct{})}
}

// observe is the filter of raft's observer, called from raft's goroutines for
// every event. It takes note of those that matter and passes none on: an
// observer's channel may be full, a note is never lost.
func (l *leadership) observe(o *raft.Observation) bool {
	switch o.Data.(type) {
	case raft.LeaderObservation, raft.RaftState:
		l.wake()
	}
	return false
}

// wake has run look again.
func (l *leadership) wake() {
	select {
	case l.events <- struct{}{}:
	default:
	}
}

func (l *leadership) run() {
	for {
		now := l.refresh()
		if now.Leader == l.node.cfg.Self && l.node.openTerm.Load() != now.Term && l.node.votes() && l.busy.CompareAndSwap(false, true) {
			l.opening.Go(func() { l.open(now.Term) })
		}
		select {
		case <-l.events:
		case <-l.node.ctx.Done():
			return
		}
	}
}

// refresh announces the leadership if it is not what was announced last.
func (l *leadership) refresh() Leadership {
	now := l.node.leadership()
	l.mu.Lock()
	defer l.mu.Unlock()
	if now == l.current {
		return now
	}
	if now.Leader != 0 && l.current.Leader != now.Leader {
		l.changes.Add(1)
	}
	if l.current.Leader != now.Leader {
		l.since = time.Now()
	}
	l.current = now
	l.announce()
	return now
}

// known is who leads, and since when it has been that member, or nobody.
func (l *leadership) known() (Leadership, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current, l.since
}

// stir has whoever waits for a change look again.
func (l *leadership) stir() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.announce()
}

// announce is called with the lock held.
func (l *leadership) announce() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// open proposes the command that opens the term this member leads. Until it
// was applied no read is confirmed.
func (l *leadership) open(term uint64) {
	n := l.node
	ctx, cancel := context.WithTimeout(n.ctx, n.cfg.RequestTimeout)
	defer cancel()
	err := n.Propose(ctx, term, n.cfg.OpenTerm(term))
	if err == nil {
		n.openTerm.Store(term)
		l.stir()
	} else {
		if !errors.Is(err, ErrNotLeader) {
			n.cfg.Log.Warn().Err(err).Uint64("term", term).Msg("term is not open yet")
		}
		pause(n.ctx, retryOpen)
	}
	l.busy.Store(false)
	l.wake() // for a term that began meanwhile
}

// pause waits for d, or for the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// leadership asks raft.
func (n *Node) leadership() Leadership { return leadershipOf(n.raft()) }

// leadershipOf reads who leads and in which term. Raft forgets the leader before it
// takes a new term; read just before that and just after, the old leader would seem
// to lead the new term, and who asked it for something in that term, when it stands
// still, would wait for an answer while another one leads.
func leadershipOf(r interface {
	CurrentTerm() uint64
	LeaderWithID() (raft.ServerAddress, raft.ServerID)
}) Leadership {
	for term := r.CurrentTerm(); ; {
		_, id := r.LeaderWithID()
		leader, err := memberID(string(id))
		if err != nil {
			leader = 0
		}
		before := term
		if term = r.CurrentTerm(); term == before {
			return Leadership{Leader: leader, Term: term}
		}
	}
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

// Silence is how long ago this member last led, or heard of who leads; to the length
// of an election timeout. It is very long where it has not heard of any since the
// start. A vote, which it may give without a majority, is nothing heard.
func (n *Node) Silence() time.Duration {
	now, since := n.leaders.known()
	switch now.Leader {
	case 0:
		return time.Since(since)
	case n.cfg.Self:
		return 0
	}
	if contact := n.raft().LastContact(); !contact.IsZero() {
		return time.Since(contact)
	}
	return 0 // a leader is known, of whom this instance of raft has just heard
}
