package raftstore

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// slowApply is how long a group of entries may take to be applied before it
// counts as slow; it is etcd's limit.
const slowApply = 100 * time.Millisecond

// nodeMetrics count what goes wrong or takes long in a Node, under etcd's names.
type nodeMetrics struct {
	slowApplies prometheus.Counter
	slowReads   prometheus.Counter
	failedReads prometheus.Counter
}

func newNodeMetrics(reg prometheus.Registerer) *nodeMetrics {
	count := func(name, help string) prometheus.Counter {
		return registered(reg, prometheus.NewCounter(prometheus.CounterOpts{Namespace: "etcd", Subsystem: "server", Name: name, Help: help}))
	}
	return &nodeMetrics{
		slowApplies: count("slow_apply_total", "The total number of slow apply requests (likely overloaded from slow disk)."),
		slowReads:   count("slow_read_indexes_total", "The total number of pending read indexes not in sync with leader's or timed out read index requests."),
		failedReads: count("read_indexes_failed_total", "The total number of failed read indexes seen."),
	}
}

// applied counts a group of entries that was applied since start.
func (m *nodeMetrics) applied(start time.Time) {
	if m != nil && time.Since(start) > slowApply {
		m.slowApplies.Inc()
	}
}
