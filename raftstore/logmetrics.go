package raftstore

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// logMeters are the log's metrics, with etcd's names where etcd has them.
type logMeters struct {
	fsync   prometheus.Histogram
	written prometheus.Counter
	groups  prometheus.Histogram
}

func newLogMeters(reg prometheus.Registerer) logMeters {
	m := logMeters{
		fsync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "etcd_disk_wal_fsync_duration_seconds",
			Help:    "Seconds to write and sync a group of entries to the raft log.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		written: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "etcd_disk_wal_write_bytes_total",
			Help: "Bytes of entry data written to the raft log.",
		}),
		groups: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "conclave_disk_wal_group_entries",
			Help:    "Entries of the raft log that were written and synced together.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
	}
	reg.MustRegister(m.fsync, m.written, m.groups)
	return m
}

// group counts a group that was written.
func (m logMeters) group(entries, bytes int, took time.Duration) {
	m.fsync.Observe(took.Seconds())
	m.written.Add(float64(bytes))
	m.groups.Observe(float64(entries))
}

// Disk operations that a stuckWatch tells apart, because one of each may run at
// the same time.
const (
	watchGroup  = iota // a group of entries
	watchChange        // a removal
	watchStable        // a setting
	watchKinds
)

// stuckWatch knows since when disk operations have been running.
type stuckWatch struct {
	base  time.Time
	since [watchKinds]atomic.Int64 // nanoseconds from just before base; 0: none runs
}

// begin notes the start of an operation.
func (w *stuckWatch) begin(kind int) { w.since[kind].Store(int64(time.Since(w.base)) + 1) }

// end notes the end, and how long it took.
func (w *stuckWatch) end(kind int) time.Duration {
	return time.Since(w.base) - time.Duration(w.since[kind].Swap(0)-1)
}

// stuck is how long the longest one has been running.
func (w *stuckWatch) stuck() time.Duration {
	var longest time.Duration
	for i := range w.since {
		if at := w.since[i].Load(); at > 0 {
			longest = max(longest, time.Since(w.base)-time.Duration(at-1))
		}
	}
	return longest
}
