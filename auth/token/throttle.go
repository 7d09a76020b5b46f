package token

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// freeFailures is how many logins may fail before the next one is delayed, by
	// firstDelay, and twice as long after each further one, up to maxDelay.
	freeFailures = 3
	firstDelay   = 100 * time.Millisecond
	maxDelay     = 30 * time.Second
	// longestWait is what a login may wait for its delay. One that would have to
	// wait longer is refused, and may be tried again.
	longestWait = 4 * time.Second
	// forgetAfter is how long failures count after the last one.
	forgetAfter = 10 * time.Minute

	// maxPairs bounds each of the two lists of pairs that have failed.
	maxPairs = 10_000
	// maxQueued bounds the logins of one pair that are under way, maxDelayed those
	// of all pairs that wait for a delay.
	maxQueued  = 1000
	maxDelayed = 1000
)

// ErrSlowed: too many logins of this user from this source have failed, and the
// next one is not due yet.
var ErrSlowed = errors.New("too many failed logins of this user from this address; try again in half a minute")

// Throttle delays logins of a user from a source after some of them have failed.
// Each pair of user and source counts by itself, so that nobody can keep a user from
// logging in from elsewhere, nor others behind the same address. There is one login
// of a pair at a time, so that many at once try no more passwords than one after the
// other.
//
// Memory is bounded: only pairs that have failed are remembered. Those that have
// failed so often that they are delayed are in a list of their own, out of which
// names made up at random do not push them.
type Throttle struct {
	mu      sync.Mutex
	pairs   map[pairKey]*pair
	idle    [2]list.List  // pairs that nobody is in, latest first: not delayed, delayed
	delayed chan struct{} // one for each that waits

	failed, waited, refused atomic.Int64
}

type pairKey [sha256.Size]byte

// pair is a user and a source.
type pair struct {
	key  pairKey
	turn chan struct{} // held by the login that is under way

	// What follows is read and changed with the Throttle's lock.
	failures int
	last     time.Time     // of them
	inside   int           // logins, waiting ones included
	element  *list.Element // nil while some are inside
}

// An Attempt is one login of a pair, which has its turn.
type Attempt struct {
	t            *Throttle
	p            *pair
	tried, right bool
}

// NewThrottle makes one that knows of no failure.
func NewThrottle() *Throttle {
	return &Throttle{pairs: make(map[pairKey]*pair), delayed: make(chan struct{}, maxDelayed)}
}

// Counts tells how many logins have failed, were made to wait, and were refused.
func (t *Throttle) Counts() (failed, waited, refused int64) {
	return t.failed.Load(), t.waited.Load(), t.refused.Load()
}

// Enter returns when it is this login's turn and its delay is over; call Leave. The
// source is whatever tells one from another, "" of this host. Errors: ErrSlowed,
// ErrBusy, those of ctx.
func (t *Throttle) Enter(ctx context.Context, user, source string) (*Attempt, error) {
	p, err := t.join(keyOf(user, source))
	if err != nil {
		t.refused.Add(1)
		return nil, err
	}
	a := &Attempt{t: t, p: p}
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		t.part(p)
		return nil, ctx.Err()
	}
	if err := t.wait(ctx, p); err != nil {
		a.Leave()
		return nil, err
	}
	return a, nil
}

// Try says that a password is looked at: unless Right follows, it was a wrong one,
// also when something else kept it from being checked. Or else who gives up early
// could try passwords without being counted, since a known one is right at once.
func (a *Attempt) Try() { a.tried = true }

// Right says that it was the user's.
func (a *Attempt) Right() { a.right = true }

// Leave counts how the login ended, and lets the next one have its turn.
func (a *Attempt) Leave() {
	a.t.mu.Lock()
	switch {
	case a.right:
		a.p.failures = 0
	case a.tried:
		a.p.failures++
		a.p.last = time.Now()
		a.t.failed.Add(1)
	}
	a.t.mu.Unlock()
	<-a.p.turn
	a.t.part(a.p)
}

func keyOf(user, source string) (k pairKey) {
	h := sha256.New()
	_ = binary.Write(h, binary.BigEndian, uint64(len(user))) // a hash takes everything
	h.Write([]byte(user))
	h.Write([]byte(source))
	h.Sum(k[:0])
	return k
}

// join finds a pair, or makes it, and enters it.
func (t *Throttle) join(k pairKey) (*pair, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.pairs[k]
	if p == nil {
		p = &pair{key: k, turn: make(chan struct{}, 1)}
		t.pairs[k] = p
	}
	switch {
	case p.element != nil:
		t.idle[p.class()].Remove(p.element)
		p.element = nil
		if p.stale() {
			p.failures = 0
		}
	case p.inside >= maxQueued:
		return nil, ErrBusy
	case p.inside > 0 && time.Until(p.due()) > 0:
		return nil, ErrSlowed // one is waiting already
	}
	p.inside++
	return p, nil
}

// part leaves a pair. One without failures is forgotten, and of the others the one
// that was here the longest ago when they are too many.
func (t *Throttle) part(p *pair) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.inside--; p.inside > 0 {
		return
	}
	if p.failures == 0 {
		delete(t.pairs, p.key)
		return
	}
	of := &t.idle[p.class()]
	p.element = of.PushFront(p)
	for oldest := of.Back(); oldest != nil && (of.Len() > maxPairs || oldest.Value.(*pair).stale()); oldest = of.Back() {
		delete(t.pairs, of.Remove(oldest).(*pair).key)
	}
}

// wait returns when the delay of a pair is over.
func (t *Throttle) wait(ctx context.Context, p *pair) error {
	t.mu.Lock()
	due := p.due()
	t.mu.Unlock()
	left := time.Until(due)
	if left <= 0 {
		return nil
	}
	if deadline, bounded := ctx.Deadline(); left > longestWait || bounded && deadline.Before(due) {
		t.refused.Add(1)
		return ErrSlowed
	}
	select {
	case t.delayed <- struct{}{}:
		defer func() { <-t.delayed }()
	default:
		t.refused.Add(1)
		return ErrSlowed
	}
	t.waited.Add(1)
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// class is the list that the pair belongs to: 1 of those that are delayed.
func (p *pair) class() int {
	if p.failures < freeFailures {
		return 0
	}
	return 1
}

// stale reports whether the failures do not count any more.
func (p *pair) stale() bool { return time.Since(p.last) > forgetAfter }

// due is when the next login may be tried.
func (p *pair) due() time.Time {
	if p.failures < freeFailures {
		return p.last
	}
	// 2^9 times the first delay is beyond the longest.
	return p.last.Add(min(firstDelay<<min(p.failures-freeFailures, 9), maxDelay))
}
