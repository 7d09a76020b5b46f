package member

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"

	"github.com/conclave-kv/conclave/kv"
)

// prolong renews a lease, if that can be said at once: its TTL in seconds, or
// kv.ErrLeaseNotFound. Otherwise there is a channel to wait on before asking
// again; errNotLessor stands for another member.
func (l *lessor) prolong(id int64) (ttl int64, news, all <-chan struct{}, err error) {
	return l.prolongAsked(id, math.MaxInt64)
}

// prolongAsked is prolong for a renewal that was asked for when the clock showed
// asked. If an entry has given the lease its TTL from then on, and it took
// longer than the slack, the rest is what can be said: the next entry will take
// as long.
func (l *lessor) prolongAsked(id, asked int64) (ttl int64, news, all <-chan struct{}, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, now, all, err := l.find(id)
	if t == nil {
		return 0, nil, all, err
	}
	if !t.ending && t.deadline > now {
		ttl = t.ttl
		if now+ttl*1000 > t.agreed+leaseSlack && t.agreed-ttl*1000 >= asked {
			ttl = (t.agreed + leaseSlack - now) / 1000
		}
		if deadline := now + ttl*1000; ttl > 0 && deadline-t.agreed <= leaseSlack {
			t.deadline = max(t.deadline, deadline)
			l.renewed.Add(1)
			return ttl, nil, nil, nil
		}
		l.agree(t)
	}
	return 0, l.newsOf(id), all, nil
}

// covered returns how many seconds a lease has that was granted just now: all of
// them, if whoever leads next keeps to what this leader promised. Otherwise
// there is a channel to wait on before asking again.
func (l *lessor) covered(id int64) (left int64, news, all <-chan struct{}, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, now, all, err := l.find(id)
	if t == nil {
		return 0, nil, all, err
	}
	if !t.ending && t.deadline-t.agreed <= leaseSlack {
		// Rounded up by what passes while an answer is on its way.
		return min((t.deadline-now+999)/1000, t.ttl), nil, nil, nil
	}
	l.cover(t)
	return 0, l.newsOf(id), all, nil
}

// find returns a lease and the clock, or what to wait for, or an error. That
// there is no such lease needs no promise, and so no steady clock, which stands
// still while there are none; who asks makes sure of it. Held: mu.
func (l *lessor) find(id int64) (t *tenancy, now int64, all <-chan struct{}, err error) {
	t = l.leases[id]
	switch {
	case l.term == 0:
		return nil, 0, nil, errNotLessor
	case t == nil:
		return nil, 0, nil, kv.ErrLeaseNotFound
	case !l.steady():
		return nil, 0, l.news, nil
	}
	return t, l.now(), l.news, nil
}

// newsOf returns a channel that is closed when there is news of a lease. Held:
// mu.
func (l *lessor) newsOf(id int64) <-chan struct{} {
	ch := l.waiting[id]
	if ch == nil {
		ch = make(chan struct{})
		l.waiting[id] = ch
	}
	return ch
}

// awaitAnswer asks one of the above until it has an answer.
func awaitAnswer(ctx context.Context, ask func() (int64, <-chan struct{}, <-chan struct{}, error)) (int64, error) {
	for {
		ttl, news, all, err := ask()
		if all == nil {
			return ttl, err
		}
		if err := awaitNews(ctx, news, all); err != nil {
			return 0, err
		}
	}
}

// awaitRenewal is prolongAsked that waits.
func (l *lessor) awaitRenewal(ctx context.Context, id, asked int64) (ttl int64, err error) {
	return awaitAnswer(ctx, func() (int64, <-chan struct{}, <-chan struct{}, error) { return l.prolongAsked(id, asked) })
}

// renewAll renews leases and waits for all of them: their TTLs, 0 for a lease that
// there is not, unanswered where ctx or this member's term ended first. After each
// wait all that are left are asked for again, so that what has to be agreed is agreed
// together: a leader that has just taken over has nothing agreed before others
// confirmed it, and one entry after the other would take it longer than leases last.
func (l *lessor) renewAll(ctx context.Context, ids []int64) []int64 {
	asked := l.time()
	ttls := slices.Repeat([]int64{unanswered}, len(ids))
	left := make([]int, len(ids)) // what has no answer, as indexes
	for i := range left {
		left[i] = i
	}
	for len(left) > 0 {
		var news, all <-chan struct{} // of the first that has to wait
		left = slices.DeleteFunc(left, func(i int) bool {
			ttl, n, a, err := l.prolongAsked(ids[i], asked)
			switch {
			case a == nil && !errors.Is(err, errNotLessor):
				ttls[i] = ttl
			case all == nil:
				news, all = n, a
			}
			return a == nil
		})
		if len(left) > 0 && awaitNews(ctx, news, all) != nil {
			break
		}
	}
	return ttls
}

// awaitNews waits for news of a lease, nil where only news of all can help.
func awaitNews(ctx context.Context, news, all <-chan struct{}) error {
	select {
	case <-news:
		return nil
	case <-all:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitCover is covered that waits.
func (l *lessor) awaitCover(ctx context.Context, id int64) (left int64, err error) {
	return awaitAnswer(ctx, func() (int64, <-chan struct{}, <-chan struct{}, error) { return l.covered(id) })
}

// time returns the clock.
func (l *lessor) time() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now()
}

// remaining returns how many seconds a lease has, rounded down, -1 if its end
// has come, and its TTL. Errors: kv.ErrLeaseNotFound, errNotLessor.
func (l *lessor) remaining(id int64) (left, ttl int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, now, _, err := l.find(id)
	if t == nil {
		return 0, 0, cmp.Or(err, errNotLessor)
	}
	ms := t.deadline - now
	if t.ending || ms <= 0 {
		return -1, t.ttl, nil
	}
	return ms / 1000, t.ttl, nil
}
