package member

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/raftstore"
)

// rememberedBatches is how many batches of one origin the leader remembers in
// order to propose each once; an origin has at most inFlight under way.
const rememberedBatches = 64

// propose brings an entry to the leader of a term: this member, or a peer.
// raftstore.ErrNotLeader means that it was definitely not proposed.
func (m *Member) propose(ctx context.Context, lead raftstore.Leadership, batch uint64, data []byte) error {
	if lead.Leader == m.cfg.ID {
		return m.node.Propose(ctx, lead.Term, data)
	}
	payload, err := proto.Marshal(&conclavepb.Forward{Term: lead.Term, Batch: batch, Payload: data})
	if err != nil {
		return fmt.Errorf("%w: %w", raftstore.ErrNotLeader, err)
	}
	for {
		_, err = m.mesh.Call(ctx, lead.Leader, raftstore.KindForward, payload)
		var refused *raftstore.CallError
		switch {
		case err == nil:
			return nil
		case errors.Is(err, raftstore.ErrUnreachable), errors.Is(err, raftstore.ErrBusy):
			return fmt.Errorf("%w: %w", raftstore.ErrNotLeader, err)
		case errors.As(err, &refused):
			if refused.Code == codeNotLeader || refused.Code == raftstore.CodeNoHandler || refused.Code == raftstore.CodeBusy {
				return raftstore.ErrNotLeader
			}
			return err
		case !errors.Is(err, raftstore.ErrConnectionLost):
			return err
		}
		// The batch may have arrived. The leader of the term takes it once,
		// so asking it again is safe, and asking anybody else is not.
		if now, _ := m.node.Leadership(); now != lead {
			return err
		}
		select {
		case <-time.After(retryPropose):
		case <-ctx.Done():
			return err
		}
	}
}

// codeNotLeader is the code of a forward that was definitely not proposed.
const codeNotLeader = 1

// forwarded is the leader's side: it remembers which batches of a term it took.
type forwarded struct {
	mu   sync.Mutex
	term uint64
	seen map[uint64][]uint64 // newest batch ids by origin
}

// take reports whether batch was not taken yet in term, and remembers it.
func (f *forwarded) take(origin, term, batch uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.term != term || f.seen == nil {
		f.term, f.seen = term, make(map[uint64][]uint64)
	}
	ids := f.seen[origin]
	for _, id := range ids {
		if id == batch {
			return false
		}
	}
	if len(ids) == rememberedBatches {
		ids = ids[1:]
	}
	f.seen[origin] = append(ids, batch)
	return true
}

// release forgets a batch that was definitely not proposed.
func (f *forwarded) release(origin, term, batch uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.term != term {
		return
	}
	ids := f.seen[origin]
	for i, id := range ids {
		if id == batch {
			f.seen[origin] = append(ids[:i:i], ids[i+1:]...)
			return
		}
	}
}

// answerForward proposes a follower's batch; it answers when the batch was
// applied here or refused.
func (m *Member) answerForward(ctx context.Context, from uint64, payload []byte) ([]byte, error) {
	var msg conclavepb.Forward
	if err := proto.Unmarshal(payload, &msg); err != nil {
		return nil, err
	}
	if lead, _ := m.node.Leadership(); lead.Leader != m.cfg.ID || lead.Term != msg.Term {
		return nil, &raftstore.CallError{Code: codeNotLeader, Text: "not the leader of that term"}
	}
	if !m.forwarded.take(from, msg.Term, msg.Batch) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.RequestTimeout)
	defer cancel()
	err := m.node.Propose(ctx, msg.Term, msg.Payload)
	if errors.Is(err, raftstore.ErrNotLeader) {
		m.forwarded.release(from, msg.Term, msg.Batch)
		return nil, &raftstore.CallError{Code: codeNotLeader, Text: err.Error()}
	}
	return nil, err
}
