package token

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conclave-kv/conclave/auth"
)

// Whoever has many passwords checked keeps others waiting for one of them.
func TestPlaces_sourcesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(1)
		var mu sync.Mutex
		var order []string
		var work sync.WaitGroup
		check := func(source string) {
			work.Go(func() {
				if err := p.take(t.Context(), source); err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Second)
				mu.Lock()
				order = append(order, source)
				mu.Unlock()
				p.give()
			})
			synctest.Wait()
		}
		for range 100 {
			check("many")
		}
		for range 2 {
			check("few")
			check("one")
		}
		work.Wait()
		if got := order[1:7]; got[0] != "many" || got[1] != "few" || got[2] != "one" || got[3] != "many" || got[4] != "few" || got[5] != "one" {
			t.Errorf("the turns were %v", order[:10])
		}
		if len(order) != 104 || p.free != 1 || p.waiting != 0 || len(p.queues) != 0 || len(p.sources) != 0 {
			t.Errorf("%d turns, then %+v", len(order), p)
		}
	})
}

// A source that waits too often is refused, and others are not.
func TestPlaces_bounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(1)
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		if err := p.take(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		fill := func(source string) {
			for range maxWaitingOfOne {
				work.Go(func() {
					if err := p.take(ctx, source); !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
				})
			}
			synctest.Wait()
		}
		fill("a")
		if err := p.take(ctx, "a"); !errors.Is(err, ErrBusy) {
			t.Errorf("one too many of a source: %v", err)
		}
		for _, source := range []string{"b", "c", "d"} {
			fill(source)
		}
		if err := p.take(ctx, "e"); !errors.Is(err, ErrBusy) {
			t.Errorf("one too many of all: %v", err)
		}
		cancel()
		work.Wait()
		if p.give(); p.free != 1 || p.waiting != 0 || len(p.queues) != 0 || len(p.sources) != 0 {
			t.Errorf("after all gave up: %+v", p)
		}
	})
}

// Places are neither lost nor made when those who wait give up at the moment in which
// they are given one.
func TestPlaces_givingUp(t *testing.T) {
	p := newPlaces(2)
	var work sync.WaitGroup
	for i := range 8 {
		source := string(rune('a' + i%3))
		work.Go(func() {
			for n := range 2000 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n%50)*time.Microsecond)
				if p.take(ctx, source) == nil {
					p.give()
				}
				cancel()
			}
		})
	}
	work.Wait()
	if p.free != 2 || p.waiting != 0 || len(p.queues) != 0 || len(p.sources) != 0 {
		t.Errorf("%+v", p)
	}
}

// Where a check comes from is in its context.
func TestPasswords_bySource(t *testing.T) {
	p := NewPasswords(MinCost)
	for p.places.free > 0 {
		if err := p.places.take(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(auth.WithSource(t.Context(), "10.0.0.1"), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := p.Check(ctx, nil, "x")
		done <- err
	}()
	for waiting := 0; waiting == 0 && ctx.Err() == nil; {
		p.places.mu.Lock()
		waiting = len(p.places.queues["10.0.0.1"])
		p.places.mu.Unlock()
	}
	p.places.give()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
