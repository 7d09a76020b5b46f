package member

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/kv"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// Compaction says how much history the leader keeps. At most one of the two is
// above zero; if none is, nothing is compacted but on demand.
type Compaction struct {
	// Period is for how long a revision can still be read, at least.
	Period time.Duration
	// Revisions is how many revisions before the newest can still be read.
	Revisions int64
}

const (
	// maxCompactEvery is how often a leader compacts at least, if there is
	// something to compact; with shorter periods it is once in each.
	maxCompactEvery = time.Hour
	// samplesPerEvery is how many times in between the revision is noted, and
	// a compaction that failed tried again.
	samplesPerEvery = 10
	// revisionsEvery is how often a leader compacts that keeps a number of
	// revisions.
	revisionsEvery = 5 * time.Minute
)

// compactor compacts on the leader, by etcd's rules. All members note which
// revision there was when, so that a new leader knows too. Times are of this
// process and monotonic; after a start the period has to pass first.
type compactor struct {
	keep    Compaction
	samples []sample  // in order; the first is the newest of those older than Period
	last    time.Time // of the newest compaction here; zero: none
	failed  bool      // the newest one did
}

type sample struct {
	at  time.Time
	rev int64
}

// every is the pause between two looks; 0: there is nothing to look for.
func (c *compactor) every() time.Duration {
	switch {
	case c.keep.Revisions > 0:
		return revisionsEvery
	case c.keep.Period > 0:
		return max(min(c.keep.Period, maxCompactEvery)/samplesPerEvery, 1)
	}
	return 0
}

// note is told of the newest revision at each look.
func (c *compactor) note(now time.Time, rev int64) {
	c.samples = append(c.samples, sample{now, rev})
	old := 0
	for old+1 < len(c.samples) && now.Sub(c.samples[old+1].at) >= c.keep.Period {
		old++
	}
	c.samples = append(c.samples[:0], c.samples[old:]...)
}

// due is the revision to compact at now, on a leader whose newest compaction was
// at compacted; 0 if there is nothing to do.
func (c *compactor) due(now time.Time, compacted int64) int64 {
	oldest := c.samples[0]
	rev := oldest.rev
	switch {
	case c.keep.Revisions > 0:
		rev -= c.keep.Revisions
	case now.Sub(oldest.at) < c.keep.Period:
		return 0
	case !c.last.IsZero() && !c.failed && now.Sub(c.last) < min(c.keep.Period, maxCompactEvery):
		return 0
	}
	if rev <= 0 || rev <= compacted {
		return 0
	}
	return rev
}

// compact notes and compacts until the member stops.
func (m *Member) compact() {
	c := &compactor{keep: m.cfg.Compaction}
	every := c.every()
	if every == 0 {
		return
	}
	c.note(time.Now(), m.View().KV.Rev())
	look := time.NewTicker(every)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-m.ctx.Done():
			return
		}
		now, view := time.Now(), m.View()
		c.note(now, view.KV.Rev())
		if m.Leader() != m.cfg.ID {
			continue
		}
		if rev := c.due(now, view.KV.CompactRev()); rev > 0 {
			c.last, c.failed = now, !m.compactAt(rev)
		}
	}
}

// compactAt compacts and reports whether it is done, be it by another.
func (m *Member) compactAt(rev int64) bool {
	ctx, cancel := context.WithTimeout(m.ctx, m.cfg.RequestTimeout)
	defer cancel()
	start := time.Now()
	m.cfg.Log.Info().Int64("revision", rev).Msg("starting auto compaction")
	_, err := m.proposer.do(ctx, fsm.ByMember, fsm.KindCompact, &pb.CompactionRequest{Revision: rev})
	if err != nil && !errors.Is(err, kv.ErrCompacted) {
		if m.ctx.Err() == nil {
			m.cfg.Log.Warn().Err(err).Int64("revision", rev).Msg("failed auto compaction; it is tried again")
		}
		return false
	}
	m.cfg.Log.Info().Int64("revision", rev).Dur("took", time.Since(start)).Msg("completed auto compaction")
	return true
}
