package member

import (
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/kv"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

const (
	// leaseClockInterval is how often the clock is agreed while there are leases.
	// That much, and the slack, a change of leader may add to a TTL, and the time
	// without a leader.
	leaseClockInterval = time.Second
	// renewPause is how long renewals are collected for one entry.
	renewPause = 25 * time.Millisecond
	// maxRenewals bounds the renewals of one entry.
	maxRenewals = 4096
	// maxEnding bounds the leases that end in one entry, one per tick, and with
	// it how fast leases end: a thousand a second. maxEndingKeys bounds the keys
	// that go with them, unless they are one lease's.
	maxEnding     = 250
	maxEndingKeys = 5000
	// retryLease is the pause after an entry that was not agreed.
	retryLease = 100 * time.Millisecond
)

// lead follows leadership, and keeps the clock while this member leads and
// there are leases.
func (m *Member) lead() {
	l := m.lessor
	timer := time.NewTicker(leaseTick)
	defer timer.Stop()
	timer.Stop()
	running := false
	for {
		lead, changed := m.node.Leadership()
		if lead.Leader != m.cfg.ID {
			l.drop()
		} else if l.leads() != lead.Term {
			l.drop()
			if l.opened.Load() >= lead.Term {
				l.takeOver(lead.Term, func() *kv.View { return m.View().KV })
			}
		}
		busy, confirmed := l.tick()
		if busy != running {
			running = busy
			if timer.Stop(); busy {
				timer.Reset(leaseTick)
			}
		}
		if busy {
			if !confirmed {
				signal(l.over) // which confirms first
			} else if l.anyEnded() {
				signal(l.over)
			}
			signal(m.clockDue)
		}
		select {
		case <-m.ctx.Done():
			l.drop()
			return
		case <-changed:
		case <-l.wake:
		case <-timer.C:
		}
	}
}

// leads returns the term that this member looks after leases in, 0 if none.
func (l *lessor) leads() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.term
}

func (l *lessor) anyEnded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue) > 0 && l.queue[0].listed <= l.now()
}

// keepClock has the clock and renewals agreed.
func (m *Member) keepClock() {
	var last time.Time
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.lessor.renew:
			if !m.pause(renewPause) {
				return
			}
		case <-m.clockDue:
			if time.Since(last) < leaseClockInterval {
				continue
			}
		}
		term, clock, ids, busy := m.lessor.takeDue(maxRenewals)
		if !busy {
			continue
		}
		last = time.Now()
		if err := m.propose1(fsm.KindLeaseClock, &conclavepb.LeaseClock{Term: term, Clock: clock, Renewed: ids}); err != nil {
			m.lessor.putBack(term, ids)
			if !m.pause(retryLease) {
				return
			}
		}
	}
}

// propose1 has an entry about leases agreed.
func (m *Member) propose1(kind fsm.Kind, msg proto.Message) error {
	ctx, cancel := m.bounded(m.ctx)
	defer cancel()
	_, err := m.proposer.do(ctx, fsm.ByMember, kind, msg)
	return err
}

// pause reports false when the member stops.
func (m *Member) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-m.ctx.Done():
		return false
	}
}

// endLeases has the end of leases agreed.
func (m *Member) endLeases() {
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.lessor.over:
		}
		term := m.lessor.leads()
		if term == 0 || !m.confirmLead(term) {
			continue
		}
		if m.View().Alarms.StopWrites() {
			continue // keys do not change: leases end, with theirs, when the alarm does
		}
		term, ids := m.lessor.ended(maxEnding)
		if len(ids) == 0 {
			continue
		}
		// Others may lead since the last look at the clock.
		if !m.confirmLead(term) {
			m.lessor.spare(term, ids)
			continue
		}
		for _, part := range m.portions(ids) {
			if !m.endAll(term, part) {
				return
			}
		}
	}
}

// confirmLead asks the others whether this member still leads in term.
func (m *Member) confirmLead(term uint64) bool {
	ctx, cancel := m.bounded(m.ctx)
	defer cancel()
	gaps := m.lessor.gaps.Load()
	if m.node.ReadIndex(ctx) != nil {
		return false
	}
	if lead, _ := m.node.Leadership(); lead.Leader != m.cfg.ID || lead.Term != term {
		return false
	}
	m.lessor.confirm(term, gaps)
	return true
}

// portions cuts a list of leases so that no entry deletes too many keys.
func (m *Member) portions(ids []int64) (parts [][]int64) {
	view := m.View().KV
	first, keys := 0, 0
	for i, id := range ids {
		n := view.LeaseKeyCount(id)
		if keys+n > maxEndingKeys && i > first {
			parts = append(parts, ids[first:i])
			first, keys = i, 0
		}
		keys += n
	}
	return append(parts, ids[first:])
}

// endAll proposes the end of leases until it is agreed, or another term makes
// it meaningless: whether an attempt that failed is still on its way, nobody
// knows, and so nobody may renew them. It reports false when the member stops.
func (m *Member) endAll(term uint64, ids []int64) bool {
	for m.lessor.leads() == term {
		if ids = m.lessor.stillEnding(ids); len(ids) == 0 {
			return true
		}
		err := m.propose1(fsm.KindLeaseExpire, &conclavepb.LeaseExpire{Term: term, Ids: ids})
		switch {
		case err == nil, errors.Is(err, fsm.ErrDeposed):
			return true
		case errors.Is(err, fsm.ErrCorruptCluster): // the alarm came in between
			m.lessor.spare(term, ids)
			return true
		}
		if !m.pause(retryLease) {
			return false
		}
	}
	return m.ctx.Err() == nil
}
