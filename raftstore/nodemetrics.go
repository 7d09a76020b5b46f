package raftstore

import (
	"cmp"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// nodeMetrics count what goes wrong or takes long in a Node, under etcd's names.
type nodeMetrics struct {
	slowApplies prometheus.Counter
	slowReads   prometheus.Counter
	failedReads prometheus.Counter
	slowApply   time.Duration // Config.SlowApply
	log         zerolog.Logger
}

func newNodeMetrics(cfg *Config) *nodeMetrics {
	reg := cfg.Registry
	count := func(name, help string) prometheus.Counter {
		return registered(reg, prometheus.NewCounter(prometheus.CounterOpts{Namespace: "etcd", Subsystem: "server", Name: name, Help: help}))
	}
	return &nodeMetrics{
		slowApply: cmp.Or(cfg.SlowApply, 100*time.Millisecond), log: cfg.Log.Sample(&zerolog.BurstSampler{Burst: 10, Period: time.Second}),
		slowApplies: count("slow_apply_total", "The total number of slow apply requests (likely overloaded from slow disk)."),
		slowReads:   count("slow_read_indexes_total", "The total number of pending read indexes not in sync with leader's or timed out read index requests."),
		failedReads: count("read_indexes_failed_total", "The total number of failed read indexes seen."),
	}
}

// applied counts a group of entries, up to index, that was applied since start, and
// tells of it if it was slow.
func (m *nodeMetrics) applied(start time.Time, entries int, index uint64) {
	if m == nil {
		return
	}
	if took := time.Since(start); took > m.slowApply {
		m.slowApplies.Inc()
		m.log.Warn().Dur("took", took).Dur("expected-duration", m.slowApply).Int("entries", entries).Uint64("index", index).
			Msg("apply request took too long")
	}
}
