package member

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/conclave-kv/conclave/raftstore/fsm"
)

func waiting(n int) *batch {
	b := newBatch(1)
	for range n {
		b.waiters = append(b.waiters, newWaiter())
	}
	return b
}

func TestBatch_answersOnce(t *testing.T) {
	b := waiting(2)
	b.deliver([]fsm.Result{{Response: "a"}, {Response: "b"}})
	b.fail(errors.New("late"))
	for i, want := range []string{"a", "b"} {
		if r := <-b.waiters[i].result; r.Response != want || r.Err != nil {
			t.Errorf("waiter %d got %+v", i, r)
		}
		select {
		case r := <-b.waiters[i].result:
			t.Errorf("waiter %d got a second answer %+v", i, r)
		default:
		}
	}
}

// Only the opening of a later term, or being skipped in its own, ends an
// attempt; what concerns an earlier attempt does not.
func TestBatch_losing(t *testing.T) {
	b := waiting(1)
	first := b.attempt(5)
	b.lose(4)
	select {
	case <-first:
		t.Fatal("an attempt of term 5 was ended by term 4")
	default:
	}
	b.lose(5)
	<-first
	second := b.attempt(7)
	b.lose(6) // the opening of term 7 ends all up to 6
	select {
	case <-second:
		t.Fatal("an attempt of term 7 was ended by its own opening")
	default:
	}
	b.deliver([]fsm.Result{{}})
	b.lose(7)
	select {
	case <-second:
		t.Fatal("an answered batch was given up")
	default:
	}
}

// A batch is not proposed in a term that is known to be over: nothing would
// ever tell that it was lost.
func TestProposer_staleTerm(t *testing.T) {
	p := newProposer(&Member{}, 1)
	p.termOpened(6)
	if p.begin(waiting(1), 5) != nil {
		t.Fatal("an attempt began in a term that is over")
	}
	if p.begin(waiting(1), 6) == nil {
		t.Fatal("no attempt in the current term")
	}
}

func TestProposer_fillsAndBounds(t *testing.T) {
	p := newProposer(&Member{}, 1)
	request := func(size int) func([]byte) ([]byte, error) {
		return func(dst []byte) ([]byte, error) { return append(dst, make([]byte, size)...), nil }
	}
	for range batchRequests + 1 {
		if err := p.enqueue(weight{}, request(1), nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.queue) != 2 || len(p.queue[0].waiters) != batchRequests {
		t.Fatalf("%d batches, the first of %d requests", len(p.queue), len(p.queue[0].waiters))
	}
	a, _ := p.take()
	b, _ := p.take()
	if a.id+1 != b.id || p.queued != 0 {
		t.Fatalf("batches %d and %d, %d bytes queued", a.id, b.id, p.queued)
	}
	if err := p.enqueue(weight{}, request(queueBytes+1), nil); err != nil {
		t.Fatal(err)
	}
	if err := p.enqueue(weight{}, request(1), nil); !errors.Is(err, ErrTooManyRequests) {
		t.Fatalf("beyond the bound: %v", err)
	}
}

// A batch stays and fills while few are under way and the last has just left, but no
// longer than a pause; and not at all when one of them is answered.
func TestProposer_pausesWhileFewAreUnderWay(t *testing.T) {
	p := newProposer(&Member{}, 1)
	request := func(dst []byte) ([]byte, error) { return append(dst, 1), nil }
	add := func() {
		t.Helper()
		if err := p.enqueue(weight{}, request, nil); err != nil {
			t.Fatal(err)
		}
	}
	var under []*batch
	for range fewInFlight {
		add()
		b, wait := p.take()
		if b == nil || wait != 0 {
			t.Fatalf("batch %d of few waits %v", len(under), wait)
		}
		under = append(under, b)
	}
	add()
	p.left = time.Now().Add(time.Hour) // however slow this test is
	if b, wait := p.take(); b != nil || wait < time.Hour {
		t.Fatalf("the next one waits %v", wait)
	}
	add() // meanwhile
	p.left = time.Now().Add(-batchPause)
	b, wait := p.take()
	if b == nil || wait != 0 || len(b.waiters) != 2 {
		t.Fatalf("after a pause it waits %v", wait)
	}
	add()
	p.left = time.Now().Add(time.Hour)
	p.land(b)
	p.land(under[0])
	if b, wait := p.take(); b == nil || wait != 0 {
		t.Fatalf("while one is under way the next waits %v", wait)
	}
	if b, wait := p.take(); b != nil || wait != 0 {
		t.Fatalf("an empty queue has %v, and a wait of %v", b, wait)
	}
}

// A request that cannot be encoded leaves the batch as it was.
func TestProposer_encodeError(t *testing.T) {
	p := newProposer(&Member{}, 1)
	bad := errors.New("bad")
	if err := p.enqueue(weight{}, func(dst []byte) ([]byte, error) { return append(dst, 1, 2, 3), bad }, nil); !errors.Is(err, bad) {
		t.Fatalf("got %v", err)
	}
	if b := p.queue[0]; len(b.payload) != 0 || len(b.waiters) != 0 {
		t.Fatalf("left behind: %d bytes, %d waiters", len(b.payload), len(b.waiters))
	}
}

func TestErrors_distinctTexts(t *testing.T) {
	// Every sentinel has a text of its own: clients tell errors by text.
	seen := map[string]bool{}
	for _, err := range []error{ErrNoLeader, ErrLeaderChanged, ErrStopped, ErrTimeout, ErrTimeoutLeaderFail, ErrTimeoutConnLost,
		ErrTimeoutApply, ErrRequestTooLarge, ErrTooManyRequests, ErrMemberNotFound, ErrNotCapable} {
		if seen[err.Error()] {
			t.Errorf("text used twice: %s", fmt.Sprint(err))
		}
		seen[err.Error()] = true
	}
}
