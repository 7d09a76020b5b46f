package member

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/conclave-kv/conclave/raftstore"
)

// asked answers each asking in turn, and says how often it was asked.
type asked struct {
	answers []error
	n       int
}

func (a *asked) ask() error {
	a.n++
	return a.answers[min(a.n, len(a.answers))-1]
}

var errNotLeaderThere = &raftstore.CallError{Code: codeNotLeader, Text: "not the leader of that term"}

// Whether a forward that failed may be proposed elsewhere. After a lost
// connection the batch may be in the leader's log: then nothing that leader or
// the connection says afterwards makes it safe.
func TestResend_definiteOrNot(t *testing.T) {
	lost := fmt.Errorf("%w: 2", raftstore.ErrConnectionLost)
	unreachable := fmt.Errorf("%w: 2", raftstore.ErrUnreachable)
	for name, c := range map[string]struct {
		answers  []error
		same     int // how often the leader is still the same
		definite bool
		taken    bool
	}{
		"taken":                      {answers: []error{nil}, taken: true},
		"unreachable":                {answers: []error{unreachable}, same: 9, definite: true},
		"busy":                       {answers: []error{raftstore.ErrBusy}, same: 9, definite: true},
		"refused":                    {answers: []error{errNotLeaderThere}, same: 9, definite: true},
		"answered with another code": {answers: []error{&raftstore.CallError{Code: 99}}, same: 9},
		"lost, leader gone":          {answers: []error{lost}},
		"lost, then unreachable":     {answers: []error{lost, unreachable}, same: 3},
		"lost, then refused":         {answers: []error{lost, errNotLeaderThere}, same: 3},
		"lost, then busy":            {answers: []error{lost, raftstore.ErrBusy}, same: 3},
		"lost, unreachable, taken":   {answers: []error{lost, unreachable, nil}, same: 9, taken: true},
	} {
		t.Run(name, func(t *testing.T) {
			a := &asked{answers: c.answers}
			err := resend(context.Background(), a.ask, func() bool { c.same--; return c.same >= 0 })
			if c.taken != (err == nil) || c.definite != errors.Is(err, raftstore.ErrNotLeader) {
				t.Fatalf("after %d askings: %v", a.n, err)
			}
		})
	}
}

// The end of the request's time ends the asking.
func TestResend_endsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	a := &asked{answers: []error{raftstore.ErrConnectionLost}}
	err := resend(ctx, func() error {
		if a.n == 2 {
			cancel()
		}
		return a.ask()
	}, func() bool { return true })
	if err == nil || errors.Is(err, raftstore.ErrNotLeader) {
		t.Fatalf("got %v", err)
	}
}

// The leader takes a batch once in a term, unless it definitely could not
// propose it.
func TestForwarded_once(t *testing.T) {
	var f forwarded
	expect := func(origin, term, batch uint64, want taking) {
		t.Helper()
		if got := f.take(origin, term, batch); got != want {
			t.Fatalf("batch %d of %d in term %d: %d, want %d", batch, origin, term, got, want)
		}
	}
	expect(1, 5, 100, takenNow)
	expect(1, 5, 100, takenBefore)
	expect(2, 5, 100, takenNow) // another member's batch is another one
	f.release(1, 5, 100)
	expect(1, 5, 100, takenNow)
	expect(1, 5, 98, takenNow) // batches overtake each other
	expect(1, 5, 98, takenBefore)
	expect(1, 5, 100, takenBefore)
	expect(1, 6, 100, takenNow)
	// What comes late, of a term that is over, changes nothing in this one.
	expect(1, 5, 101, takenMaybe)
	f.release(1, 5, 100)
	expect(1, 6, 100, takenBefore)
}

// However many batches follow, none is taken twice.
func TestForwarded_neverTwice(t *testing.T) {
	for _, first := range []uint64{1, math.MaxUint64 - 10} { // ids may wrap around
		var f forwarded
		for i := range uint64(3 * takenWindow) {
			if got := f.take(1, 5, first+i); got != takenNow {
				t.Fatalf("batch %d: %d", i, got)
			}
		}
		for i := range uint64(3 * takenWindow) {
			if f.take(1, 5, first+i) == takenNow {
				t.Fatalf("batch %d was taken twice", i)
			}
		}
		if got := f.take(1, 5, first+20*takenWindow); got != takenNow {
			t.Fatalf("a batch far ahead: %d", got)
		}
		if got := f.take(1, 5, first+20*takenWindow-5); got != takenNow {
			t.Fatalf("a batch that was overtaken by it: %d", got)
		}
		if f.take(1, 5, first+3*takenWindow-1) == takenNow {
			t.Fatal("a batch from before the leap was taken twice")
		}
	}
}

// A restarted origin counts from another id; what remains under way of its
// earlier run is still told apart.
func TestForwarded_runs(t *testing.T) {
	var f forwarded
	runs := []uint64{1 << 60, 3, 1 << 40, math.MaxUint64 - 1<<50}
	for _, first := range runs {
		if f.take(1, 5, first) != takenNow || f.take(1, 5, first+1) != takenNow {
			t.Fatalf("run at %x is not taken", first)
		}
	}
	for _, first := range runs {
		if f.take(1, 5, first) != takenBefore {
			t.Fatalf("run at %x is taken twice", first)
		}
	}
	for i := range uint64(20) {
		f.take(1, 5, i*(7<<55))
	}
	if n := len(f.origins[1]); n > takenRuns {
		t.Fatalf("%d runs are remembered", n)
	}
}
