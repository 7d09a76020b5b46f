package member

import (
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/conclave-kv/conclave/kv"
)

// defaultCompactionBatch is etcd's.
const defaultCompactionBatch = 1000

// minPrunePause is the pause at least after a step that did nothing.
const minPrunePause = 10 * time.Millisecond

// prunesApart reports whether history is removed at the pace of
// Config.CompactionSleep, and not beside commits and writes.
func (m *Member) prunesApart() bool { return m.cfg.CompactionSleep > 0 }

// pruneStep takes a step in removing history and reports whether there was one to
// take.
func (m *Member) pruneStep() bool {
	start := time.Now()
	if !m.machine.Prune() {
		return false
	}
	m.compactions.indexPause.Observe(milliseconds(time.Since(start)))
	return true
}

// prune removes history apart: Config.CompactionBatch revisions, then a pause. A
// step of the machine is small, because nothing is applied meanwhile; so a large
// batch is several of them.
func (m *Member) prune() {
	if !m.prunesApart() {
		return
	}
	batch := m.cfg.CompactionBatch
	if batch == 0 {
		batch = defaultCompactionBatch
	}
	steps := (min(batch, math.MaxInt32) + kv.DefaultPruneStep - 1) / kv.DefaultPruneStep
	for {
		more := true
		for n := uint(0); n < steps && more && m.ctx.Err() == nil; n++ {
			more = m.pruneStep()
		}
		m.committer.kick()
		due, pause := m.compactions.due, (<-chan time.Time)(nil)
		switch {
		case more:
			due, pause = nil, time.After(m.cfg.CompactionSleep)
		case m.compactions.unfinished(): // an answer is owed from before it, or the commit is to come
			due, pause = nil, time.After(max(m.cfg.CompactionSleep, minPrunePause))
		}
		select {
		case <-pause:
		case <-due:
		case <-m.ctx.Done():
			return
		}
	}
}

// compactions tells what removing history does, under etcd's names.
type compactions struct {
	m   *Member
	due chan struct{} // there may be history to remove

	// indexPause is how long applying waited for a step, diskPause how long a commit
	// took that removed something, and total the time from a compaction to the commit
	// that removed the last of it.
	indexPause, diskPause, total prometheus.Histogram
	last                         prometheus.Gauge

	mu     sync.Mutex
	begun  time.Time // of the oldest compaction under way; zero: none
	pruned uint64    // when the last commit was counted
	before uint64    // the same at begun
}

func newCompactions(m *Member) *compactions {
	histogram := func(name, help string, start float64, count int) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "etcd_debugging", Subsystem: "mvcc", Name: name, Help: help,
			Buckets: prometheus.ExponentialBuckets(start, 2, count),
		})
	}
	c := &compactions{
		m: m, due: make(chan struct{}, 1),
		indexPause: histogram("index_compaction_pause_duration_milliseconds", "Bucketed histogram of index compaction pause duration.", 0.5, 14),
		diskPause:  histogram("db_compaction_pause_duration_milliseconds", "Bucketed histogram of db compaction pause duration.", 1, 13),
		total:      histogram("db_compaction_total_duration_milliseconds", "Bucketed histogram of db compaction total duration.", 100, 14),
		last: prometheus.NewGauge(prometheus.GaugeOpts{Name: "etcd_debugging_mvcc_db_compaction_last",
			Help: "The unix time of the last db compaction. Resets to 0 on start."}),
	}
	m.cfg.Registry.MustRegister(c.indexPause, c.diskPause, c.total, c.last,
		counter("etcd_debugging_mvcc_db_compaction_keys_total", "Total number of db keys compacted.",
			func() float64 { return float64(m.machine.Pruned()) }))
	c.compacted() // before the last stop, perhaps
	return c
}

// unfinished reports whether a compaction left something that is to be removed.
func (c *compactions) unfinished() bool {
	return c.m.machine.View().KV.CompactRev() > c.m.machine.CompactedOnDisk()
}

// compacted is called when there is a new compaction, or another state.
func (c *compactions) compacted() {
	if c.unfinished() {
		c.mu.Lock()
		if c.begun.IsZero() {
			c.begun, c.before = time.Now(), c.m.machine.Pruned()
		}
		c.mu.Unlock()
	}
	signal(c.due)
}

// committed is called after each commit, with the time it took.
func (c *compactions) committed(took time.Duration) {
	pruned := c.m.machine.Pruned()
	rev := c.m.machine.View().KV.CompactRev()
	finished := c.m.machine.CompactedOnDisk() >= rev
	c.mu.Lock()
	defer c.mu.Unlock()
	if pruned != c.pruned {
		c.pruned = pruned
		c.diskPause.Observe(milliseconds(took))
	}
	if c.begun.IsZero() || !finished {
		return
	}
	whole := time.Since(c.begun)
	c.begun = time.Time{}
	c.total.Observe(milliseconds(whole))
	c.last.SetToCurrentTime()
	c.m.cfg.Log.Info().Int64("compact-revision", rev).Str("took", whole.String()).
		Uint64("number-of-keys-compacted", pruned-c.before).Msg("finished scheduled compaction")
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
