package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

var (
	errNoLeader = errors.New("raftstore: no leader is known")
	errDeposed  = errors.New("raftstore: the term was not confirmed by a majority")
)

// retryRead is the pause before a read that could not be confirmed is tried
// again, unless leadership changes first.
const retryRead = 20 * time.Millisecond

const (
	// gatherSome is how many reads are so many that more are likely to follow, and
	// gatherFirst how long the first of them is waited for.
	gatherSome, gatherFirst = 4, 20 * time.Millisecond
	// gatherMany is how many reads are so many that the next round may grow, and
	// gatherTimes how many times longer than the one before it waits for them.
	gatherMany, gatherTimes = 16, 3
	// gatherMost is the longest that reads wait for more of them.
	gatherMost = 20 * time.Millisecond
	// gatherCalm is after how many rounds at the latest one tries to grow again.
	gatherCalm = 64
)

// ReadIndex returns when this member's Machine holds everything that was
// acknowledged anywhere before the call (section 6.4 of the raft thesis). Without a
// leader it waits until ctx ends, or RequestTimeout is over, for reads that have to
// wait for another one twice that.
func (n *Node) ReadIndex(ctx context.Context) error {
	r := n.reads.join()
	if r == nil {
		return n.reads.alone(ctx)
	}
	select {
	case <-r.done: // soon after the node has stopped, too
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// readRounds shares confirmations among concurrent reads: whoever asks while a
// round is under way waits for the next one, because a round only speaks for
// reads that began before it.
type readRounds struct {
	node    *Node
	running sync.WaitGroup

	mu     sync.Mutex
	next   *readRound    // joined by new reads, not started
	enough chan struct{} // closed when next has as many reads as are waited for; nil: nobody waits
	wanted int           // so many
	active bool
	ended  bool                       // no round starts any more
	reach  map[uint64][]chan struct{} // waits for the Machine, by index

	calm, calmed int // of gather: rounds until one tries to grow, and how many they were at first
}

var closedChan = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

type readRound struct {
	done  chan struct{}
	err   error
	reads int // that have joined
}

func newReadRounds(n *Node) *readRounds {
	return &readRounds{node: n, reach: make(map[uint64][]chan struct{})}
}

// join adds a read to the round that starts next; nil if none is under way, and
// the caller has to hold its own.
func (r *readRounds) join() *readRound {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return &readRound{done: closedChan, err: ErrStopped}
	}
	if !r.active {
		r.active = true
		r.running.Add(1)
		return nil
	}
	if r.next == nil {
		r.next = &readRound{done: make(chan struct{})}
	}
	r.next.reads++
	if r.enough != nil && r.next.reads >= r.wanted {
		close(r.enough)
		r.enough = nil
	}
	return r.next
}

// gather waits a moment for as many reads as the last round had: those that were
// answered are likely to be followed by as many, and a round costs the same for all.
// Once one waits, it waits no longer for the others than that round took.
//
// Where they were many it waits longer, and tries to get half as many again: the more
// of them are answered at once the less each of them costs, which counts where there is
// no processor time to spare. That fails where readers have to wait for their answers,
// and then it tries more and more rarely.
func (r *readRounds) gather(reads int, took time.Duration) {
	var first time.Duration
	if reads >= gatherSome {
		first = gatherFirst
	}
	if !r.joined(1, first) {
		return
	}
	wanted := reads
	if reads >= gatherMany {
		took *= gatherTimes
		if r.calm == 0 {
			wanted += reads / 2
		}
	}
	came := r.joined(wanted, min(took, gatherMost))
	switch {
	case wanted == reads:
		r.calm = max(r.calm-1, 0)
	case came:
		r.calmed = 0
	default:
		r.calmed = min(max(2*r.calmed, 1), gatherCalm)
		r.calm = r.calmed
	}
}

// joined waits until so many reads have joined the next round, no longer than limit,
// and reports whether they have.
func (r *readRounds) joined(reads int, limit time.Duration) bool {
	r.mu.Lock()
	if r.next != nil && r.next.reads >= reads {
		r.mu.Unlock()
		return true
	}
	if limit == 0 {
		r.mu.Unlock()
		return false
	}
	enough := make(chan struct{})
	r.enough, r.wanted = enough, reads
	r.mu.Unlock()
	wait := time.NewTimer(limit)
	defer wait.Stop()
	select {
	case <-enough:
		return true
	case <-wait.C:
	case <-r.node.ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.enough = nil
	return false
}

// alone holds a round for the one read that asked when none was under way. With
// few readers that saves them the waking of a goroutine.
func (r *readRounds) alone(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.node.cfg.RequestTimeout)
	defer cancel()
	err := r.hold(ctx)
	if round := r.take(); round != nil {
		go r.run(round)
	} else {
		r.running.Done()
	}
	if r.node.ctx.Err() != nil {
		return ErrStopped
	}
	return err
}

// take starts the round that reads have joined; without one nothing is under way
// any more.
func (r *readRounds) take() *readRound {
	r.mu.Lock()
	defer r.mu.Unlock()
	round := r.next
	r.next = nil
	r.active = round != nil
	return round
}

// run holds rounds until nobody waits for one.
func (r *readRounds) run(round *readRound) {
	defer r.running.Done()
	for ; round != nil; round = r.take() {
		ctx, cancel := context.WithTimeout(r.node.ctx, r.node.cfg.RequestTimeout)
		began := time.Now()
		if round.err = r.hold(ctx); r.node.ctx.Err() != nil {
			round.err = ErrStopped
		}
		cancel()
		close(round.done)
		r.gather(round.reads, time.Since(began))
	}
}

// hold confirms one round and waits for the Machine to reach its index.
func (r *readRounds) hold(ctx context.Context) error {
	for {
		lead, changed := r.node.Leadership()
		index, err := r.confirmed(ctx, lead)
		if err == nil {
			return r.await(ctx, index)
		}
		retry := time.NewTimer(retryRead)
		select {
		case <-changed:
		case <-retry.C:
		case <-ctx.Done():
			retry.Stop()
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-r.node.ctx.Done():
			retry.Stop()
			return ErrStopped
		}
		retry.Stop()
	}
}

// confirmed returns an index that covers everything acknowledged before the
// call, from this member if it leads, else from the leader.
func (r *readRounds) confirmed(ctx context.Context, lead Leadership) (uint64, error) {
	switch lead.Leader {
	case 0:
		return 0, errNoLeader
	case r.node.cfg.Self:
		return r.node.confirmLead(ctx, lead.Term, 0)
	}
	ctx, cancel := context.WithTimeout(ctx, r.node.cfg.ElectionTimeout)
	defer cancel()
	defer context.AfterFunc(r.node.ctx, cancel)()
	answer, err := r.node.cfg.Mesh.Call(ctx, lead.Leader, KindReadIndex, confirmation(r.node.Term()))
	if err != nil {
		return 0, err
	}
	var msg conclavepb.ReadIndex
	if err := proto.Unmarshal(answer, &msg); err != nil {
		return 0, fmt.Errorf("raftstore: read index from the leader: %w", err)
	}
	return msg.Index, nil
}

// await returns when the Machine has published index.
func (r *readRounds) await(ctx context.Context, index uint64) error {
	r.mu.Lock()
	if r.node.cfg.Machine.Applied() >= index {
		r.mu.Unlock()
		return nil
	}
	reached := make(chan struct{})
	r.reach[index] = append(r.reach[index], reached)
	r.mu.Unlock()
	select {
	case <-reached:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-r.node.ctx.Done():
		return ErrStopped
	}
}

// applied wakes the waits that index satisfies.
func (r *readRounds) applied(index uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for at, waits := range r.reach {
		if at > index {
			continue
		}
		for _, reached := range waits {
			close(reached)
		}
		delete(r.reach, at)
	}
}

// stop refuses further reads and waits for the round under way, which the end
// of the node's context ends.
func (r *readRounds) stop() {
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	r.running.Wait()
}
