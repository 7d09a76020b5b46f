package member

import (
	"context"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/kv"
	"github.com/conclave-kv/conclave/raftstore"
)

const (
	// keepHashes is how many hashes are remembered: members that start together
	// ask for the same one.
	keepHashes = 4
	// hashAwait is how long a member waits until it has reached a revision.
	hashAwait = 5 * time.Second
)

// hasher hashes for comparisons, one at a time, in half of the time of a core.
type hasher struct {
	m    *Member
	turn turns

	mu     sync.Mutex
	recent []kv.Hash
}

// at hashes the history up to a revision. Fresh has it read again what it
// remembers. Errors: kv.ErrCompacted, kv.ErrFutureRevision, those of ctx.
func (h *hasher) at(ctx context.Context, revision int64, fresh bool) (kv.Hash, error) {
	if err := h.turn.enter(ctx); err != nil {
		return kv.Hash{}, err
	}
	defer h.turn.leave()
	if known, ok := h.known(revision); ok && !fresh {
		return known, nil
	}
	for end := time.Now().Add(hashAwait); h.m.View().KV.Rev() < revision && time.Now().Before(end); {
		if !pause(ctx, 10*time.Millisecond) {
			return kv.Hash{}, contextError(ctx)
		}
	}
	start := time.Now()
	sum, err := h.m.machine.HashKVBeside(revision, func() error {
		if !pause(ctx, min(time.Since(start), time.Second)) {
			return contextError(ctx)
		}
		start = time.Now()
		return nil
	})
	if err == nil {
		h.remember(sum)
	}
	return sum, err
}

func (h *hasher) known(revision int64) (kv.Hash, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	compacted := h.m.View().KV.CompactRev()
	for _, r := range h.recent {
		if r.Revision == revision && r.CompactRev == compacted {
			return r, true
		}
	}
	return kv.Hash{}, false
}

func (h *hasher) remember(sum kv.Hash) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.recent = append(h.recent, sum)
	h.recent = h.recent[max(0, len(h.recent)-keepHashes):]
}

// hashAll asks all members at once.
func (m *Member) hashAll(ctx context.Context, revision int64, fresh bool) []hashed {
	var all []hashed
	for _, e := range m.View().Members.All() {
		if !e.Pending {
			all = append(all, hashed{member: e.ID, voter: !e.Learner})
		}
	}
	var asked sync.WaitGroup
	for i := range all {
		asked.Go(func() { all[i].Hash, all[i].err = m.hashOf(ctx, all[i].member, revision, fresh) })
	}
	asked.Wait()
	for _, h := range all {
		if h.err != nil {
			m.cfg.Log.Info().Err(h.err).Uint64("peer", h.member).Int64("revision", revision).Msg("a member could not be compared")
		}
	}
	return all
}

// hashOf asks one member, perhaps this one.
func (m *Member) hashOf(ctx context.Context, id uint64, revision int64, fresh bool) (kv.Hash, error) {
	if id == m.cfg.ID {
		return m.hasher.at(ctx, revision, fresh)
	}
	request, err := proto.Marshal(&pb.HashKVRequest{Revision: revision})
	if err != nil {
		return kv.Hash{}, err
	}
	how := byte(hashKnown)
	if fresh {
		how = hashFresh
	}
	payload, err := m.mesh.Call(ctx, id, raftstore.KindHashKV, append([]byte{how}, request...))
	if err != nil {
		return kv.Hash{}, err
	}
	var r pb.HashKVResponse
	if err := proto.Unmarshal(payload, &r); err != nil {
		return kv.Hash{}, err
	}
	return kv.Hash{Sum: r.Hash, Revision: r.HashRevision, CompactRev: r.CompactRevision}, nil
}

// The first byte of a request for a hash; etcd's HashKVRequest follows.
const (
	hashKnown = 'k' // one that is remembered will do
	hashFresh = 'f'
)

// answerHash answers a peer.
func (m *Member) answerHash(ctx context.Context, _ uint64, payload []byte) ([]byte, error) {
	var r pb.HashKVRequest
	if len(payload) == 0 {
		return nil, errMalformed
	}
	if err := proto.Unmarshal(payload[1:], &r); err != nil {
		return nil, err
	}
	h, err := m.hasher.at(ctx, r.Revision, payload[0] == hashFresh)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&pb.HashKVResponse{Hash: h.Sum, HashRevision: h.Revision, CompactRevision: h.CompactRev})
}
