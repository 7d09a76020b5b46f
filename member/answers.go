package member

import (
	"context"
	"errors"
	"sync"

	"github.com/conclave-kv/conclave/kv"
)

const (
	// answerBytes bounds the memory of all answers that are being built or sent
	// together, in bytes, unless one alone takes more.
	answerBytes = 256 << 20
	// shortAnswer is the memory, in bytes, up to which an answer waits for
	// nobody: who does not take a long one holds up long ones only.
	shortAnswer = 1 << 20
)

// answers is the memory that the answers to ranges take, from when they are read
// until the client has taken them.
type answers struct {
	limit int64
	long  chan struct{} // held by the one answer that is measured and waits for room

	mu    sync.Mutex
	used  int64
	freed chan struct{} // closed and replaced when used falls
}

func newAnswers(limit int64) *answers {
	return &answers{limit: limit, long: make(chan struct{}, 1), freed: make(chan struct{})}
}

// now is how much is taken.
func (a *answers) now() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.used
}

// An Answer accounts for the memory of one answer. A caller of Range, DeleteRange
// or Txn that gives one in the context calls Sent when the answer takes no memory
// any more. Used by one goroutine at a time.
type Answer struct {
	of    *answers
	taken int64
	left  int64 // of what was reserved, not taken yet
	// waited: it has had its turn, and nothing more is refused. The state that is
	// read may be newer than the one that was measured.
	waited bool
}

type answerKey struct{}

// WithAnswer is ctx with an Answer for one call.
func WithAnswer(ctx context.Context) (context.Context, *Answer) {
	a := &Answer{}
	return context.WithValue(ctx, answerKey{}, a), a
}

func answerOf(ctx context.Context) *Answer {
	a, _ := ctx.Value(answerKey{}).(*Answer)
	return a
}

// Bytes is how much is accounted for.
func (a *Answer) Bytes() int64 { return a.taken + a.left }

// Sent gives back what is accounted for.
func (a *Answer) Sent() { a.Shrink(0) }

// Shrink gives back what is accounted for beyond n bytes.
func (a *Answer) Shrink(n int64) {
	more := a.Bytes() - n
	if more <= 0 {
		return
	}
	a.taken, a.left = n, 0
	a.of.mu.Lock()
	defer a.of.mu.Unlock()
	a.of.used -= more
	close(a.of.freed)
	a.of.freed = make(chan struct{})
}

// take accounts for n bytes more, unless others take too much.
func (a *Answer) take(n int64) bool {
	reserved := min(n, a.left)
	a.left -= reserved
	more := n - reserved
	a.of.mu.Lock()
	defer a.of.mu.Unlock()
	if !a.waited && a.taken+n > shortAnswer && a.of.used+more > a.of.limit {
		return false
	}
	a.of.used += more
	a.taken += n
	return true
}

// reserve waits for n bytes, or for all of them if n is more.
func (a *Answer) reserve(ctx context.Context, n int64) error {
	for {
		a.of.mu.Lock()
		if a.of.used+min(n, a.of.limit) <= a.of.limit {
			a.of.used += n
			a.left, a.waited = n, true
			a.of.mu.Unlock()
			return nil
		}
		freed := a.of.freed
		a.of.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// answerWithin builds an answer within the memory that there is. One for which there
// is too little is measured, waits, and is built again: so none waits while it
// holds what another waits for.
func answerWithin(ctx context.Context, m *Member, build func(*kv.Room) error) error {
	a := answerOf(ctx)
	if a == nil {
		return build(nil)
	}
	a.of = m.answers
	room := &kv.Room{Take: a.take}
	err := build(room)
	if !errors.Is(err, kv.ErrNoRoom) {
		return err
	}
	a.Sent()
	if err := m.waitForRoom(ctx, a, build); err != nil {
		return err
	}
	return build(room)
}

// waitForRoom measures an answer and waits until it can be built.
func (m *Member) waitForRoom(ctx context.Context, a *Answer, build func(*kv.Room) error) error {
	wait, cancel := context.WithTimeout(ctx, m.cfg.RequestTimeout)
	defer cancel()
	select {
	case m.answers.long <- struct{}{}:
		defer func() { <-m.answers.long }()
	case <-wait.Done():
		return m.noRoom(ctx)
	case <-m.ctx.Done():
		return ErrStopped
	}
	need := int64(0)
	err := build(&kv.Room{Measure: true, Longest: kv.MaxAnswer, Take: func(n int64) bool {
		need += n
		return wait.Err() == nil
	}})
	switch {
	case errors.Is(err, kv.ErrNoRoom): // it took too long
		return m.noRoom(ctx)
	case err != nil:
		return err
	}
	if a.reserve(wait, need) != nil {
		return m.noRoom(ctx)
	}
	return nil
}

// noRoom is why an answer was given up.
func (m *Member) noRoom(ctx context.Context) error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	return ErrTooManyRequests
}
