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

// ReadIndex returns when this member's Machine holds everything that was
// acknowledged anywhere before the call (section 6.4 of the raft thesis). It
// fails only with ctx or when the node stops; without a leader it waits.
func (n *Node) ReadIndex(ctx context.Context) error {
	r := n.reads.join()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	case <-n.ctx.Done():
		return ErrStopped
	}
}

// readRounds shares confirmations among concurrent reads: whoever asks while a
// round is under way waits for the next one, because a round only speaks for
// reads that began before it.
type readRounds struct {
	node    *Node
	running sync.WaitGroup

	mu     sync.Mutex
	next   *readRound // joined by new reads, not started
	active bool
	ended  bool                       // no round starts any more
	reach  map[uint64][]chan struct{} // waits for the Machine, by index
}

var closedChan = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

type readRound struct {
	done chan struct{}
	err  error
}

func newReadRounds(n *Node) *readRounds {
	return &readRounds{node: n, reach: make(map[uint64][]chan struct{})}
}

// join adds a read to the round that starts next.
func (r *readRounds) join() *readRound {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return &readRound{done: closedChan, err: ErrStopped}
	}
	if r.next == nil {
		r.next = &readRound{done: make(chan struct{})}
	}
	joined := r.next
	if !r.active {
		r.active = true
		r.running.Add(1)
		go r.run()
	}
	return joined
}

// run holds rounds until nobody waits for one.
func (r *readRounds) run() {
	defer r.running.Done()
	for {
		r.mu.Lock()
		round := r.next
		r.next = nil
		r.active = round != nil
		r.mu.Unlock()
		if round == nil {
			return
		}
		ctx, cancel := context.WithTimeout(r.node.ctx, r.node.cfg.RequestTimeout)
		round.err = r.hold(ctx)
		cancel()
		close(round.done)
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
		return r.node.confirmLead(ctx, lead.Term)
	}
	ctx, cancel := context.WithTimeout(ctx, r.node.cfg.ElectionTimeout)
	defer cancel()
	answer, err := r.node.cfg.Mesh.Call(ctx, lead.Leader, KindReadIndex, nil)
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

// confirmLead is the leader's half of a read: it notes the commit index, then
// has a majority say, by messages sent after that, that the term is still
// theirs. No later term can have committed anything before the noting, because
// its leader would have needed a vote from that majority.
func (n *Node) confirmLead(ctx context.Context, term uint64) (uint64, error) {
	if n.openTerm.Load() != term {
		return 0, errDeposed
	}
	index := n.CommitIndex()
	ids := voters(n.configuration())
	need := len(ids)/2 + 1
	if len(ids) == 1 && ids[0] == n.cfg.Self {
		return index, n.stillTerm(term)
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.ElectionTimeout)
	defer cancel()
	answers := make(chan bool, len(ids))
	for _, id := range ids {
		if id == n.cfg.Self {
			answers <- true
			continue
		}
		go func() { answers <- n.confirmedBy(ctx, id, term) }()
	}
	for yes, no := 0, 0; yes < need; {
		if <-answers {
			yes++
		} else if no++; no > len(ids)-need {
			return 0, errDeposed
		}
	}
	return index, n.stillTerm(term)
}

// stillTerm is this member's own voice in a confirmation.
func (n *Node) stillTerm(term uint64) error {
	if n.Term() != term {
		return errDeposed
	}
	return nil
}

func (n *Node) confirmedBy(ctx context.Context, id, term uint64) bool {
	payload, err := proto.Marshal(&conclavepb.Confirm{Term: term})
	if err != nil {
		return false
	}
	answer, err := n.cfg.Mesh.Call(ctx, id, KindConfirm, payload)
	if err != nil {
		return false
	}
	var msg conclavepb.Confirm
	return proto.Unmarshal(answer, &msg) == nil && msg.Term == term
}
