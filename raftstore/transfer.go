package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// ErrBadTransferee: the member asked to take over has no vote, is not
// connected, or lacks entries.
var ErrBadTransferee = errors.New("raftstore: member cannot take over leadership")

// MoveLeader hands leadership to a voter and returns when that one leads. It
// must be connected and level, because this leader takes no proposals until the
// transfer is done or has failed.
func (n *Node) MoveLeader(ctx context.Context, to uint64) error {
	if n.raft().State() != raft.Leader {
		return ErrNotLeader
	}
	if to == n.cfg.Self {
		return nil
	}
	conf, err := decodeConfiguration(n.configuration())
	if err != nil {
		return err
	}
	for _, s := range conf.Servers {
		if s.Id == to && !s.Learner && !s.Pending && n.level(ctx, to, n.CommitIndex()) {
			return n.transferTo(ctx, to)
		}
	}
	return fmt.Errorf("%w: %x", ErrBadTransferee, to)
}

// transferTo asks raft to, and waits until another member leads.
func (n *Node) transferTo(ctx context.Context, to uint64) error {
	ctx, cancel := context.WithTimeout(ctx, 2*n.cfg.ElectionTimeout)
	defer cancel()
	r := n.raft()
	future := r.LeadershipTransferToServer(serverID(to), raft.ServerAddress(serverID(to)))
	if err := r.answer(ctx, future); err != nil {
		return fmt.Errorf("transfer leadership to %x: %w", to, err)
	}
	for {
		lead, changed := n.Leadership()
		if lead.Leader != 0 && lead.Leader != n.cfg.Self {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("transfer leadership to %x: %w", to, ctx.Err())
		}
	}
}

// handOver transfers leadership to some member that can take it, before a stop.
// It returns nil where this member does not lead, or is the only voter.
func (n *Node) handOver() error {
	others := n.otherVoters()
	if n.raft().State() != raft.Leader || len(others) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(n.ctx, n.cfg.ElectionTimeout)
	defer cancel()
	heir := n.firstLevel(ctx, others)
	if heir == 0 {
		return ErrBadTransferee
	}
	return n.transferTo(ctx, heir)
}

// otherVoters are the ids that have a vote, without this member's.
func (n *Node) otherVoters() []uint64 {
	var others []uint64
	for _, id := range voters(n.configuration()) {
		if id != n.cfg.Self {
			others = append(others, id)
		}
	}
	return others
}

// firstLevel asks all of ids at once and returns the one that first says that
// it has everything agreed, 0 if none does in time.
func (n *Node) firstLevel(ctx context.Context, ids []uint64) uint64 {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.ElectionTimeout/2)
	defer cancel()
	bound := n.CommitIndex()
	found := make(chan uint64, len(ids))
	for _, id := range ids {
		go func() {
			if !n.level(ctx, id, bound) {
				id = 0
			}
			found <- id
		}()
	}
	for range ids {
		if id := <-found; id != 0 {
			return id
		}
	}
	return 0
}

// transferWatch notices a transfer of leadership that never ends: raft then
// refuses every proposal, in later terms too (hashicorp/raft issue 696).
type transferWatch struct {
	mu    sync.Mutex
	since time.Time // of the first refusal in a row; zero when there is none
}

// stuck takes note of how a proposal ended, and reports whether a transfer has
// outlived the limit.
func (w *transferWatch) stuck(err error, limit time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.since = time.Time{}
	case !errors.Is(err, raft.ErrLeadershipTransferInProgress):
	case w.since.IsZero():
		w.since = time.Now()
	case time.Since(w.since) > limit:
		w.since = time.Time{}
		return true
	}
	return false
}

// noteTransfer takes note of how a proposal ended, and starts raft anew when a
// transfer has been under way for longer than any can take.
func (n *Node) noteTransfer(err error) {
	if !n.transfer.stuck(err, 2*n.cfg.ElectionTimeout) {
		return
	}
	n.work.Go(func() { _ = n.restart("a transfer of leadership does not end", nil) })
}
