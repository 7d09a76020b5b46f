package member

import (
	"sync"
	"time"

	"github.com/conclave-kv/conclave/auth"
	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

const (
	// renewTokensEvery is how often tokens that are used are made to last longer,
	// many at once.
	renewTokensEvery = time.Second
	// maxUsedTokens bounds them. What does not fit is noted at its next use.
	maxUsedTokens = 10_000
)

// usedTokens collects the tokens that are past half of their time, and used.
type usedTokens struct {
	mu   sync.Mutex
	used map[auth.TokenHash]struct{}
	some chan struct{}
}

func newUsedTokens() *usedTokens {
	return &usedTokens{used: make(map[auth.TokenHash]struct{}), some: make(chan struct{}, 1)}
}

func (u *usedTokens) use(h auth.TokenHash) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.used) < maxUsedTokens {
		u.used[h] = struct{}{}
		signal(u.some)
	}
}

// take returns what was collected, and forgets it.
func (u *usedTokens) take() [][]byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	hashes := make([][]byte, 0, len(u.used))
	for h := range u.used {
		hashes = append(hashes, h[:])
	}
	clear(u.used)
	return hashes
}

// renewTokens has tokens that are used last longer. What cannot be agreed is tried
// again when the token is used again.
func (m *Member) renewTokens() {
	for {
		select {
		case <-m.tokens.some:
		case <-m.ctx.Done():
			return
		}
		ctx, cancel := m.bounded(m.ctx)
		now := time.Now()
		_, err := m.proposer.do(ctx, fsm.ByMember, fsm.KindTokenRenew, &conclavepb.TokenRenew{
			Hashes: m.tokens.take(), Deadline: now.Add(m.tokenTTL()).UnixMilli(), Now: now.UnixMilli(),
		})
		cancel()
		if err != nil && m.ctx.Err() == nil {
			m.cfg.Log.Warn().Err(err).Msg("tokens that are used could not be made to last longer yet")
		}
		if !m.pause(renewTokensEvery) {
			return
		}
	}
}
