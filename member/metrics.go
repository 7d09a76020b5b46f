package member

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/conclave-kv/conclave/internal/version"
)

// memberMetrics are the member's figures under etcd's names, and with etcd's
// help. Those that count events are here; the others are read when somebody
// asks and cost nothing otherwise.
type memberMetrics struct {
	promotions       prometheus.Counter
	promotionsFailed *prometheus.CounterVec // by Reason, of which valid has few
	commits          prometheus.Histogram
	defrags          prometheus.Histogram
	defragging       prometheus.Gauge
	hash, hashRev    prometheus.Histogram
	leases           *leaseFigures
}

func newMemberMetrics(m *Member) *memberMetrics {
	own := &memberMetrics{
		promotions: prometheus.NewCounter(prometheus.CounterOpts{Name: "etcd_server_learner_promote_successes",
			Help: "The total number of successful learner promotions while this member is leader."}),
		promotionsFailed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "etcd_server_learner_promote_failures",
			Help: "The total number of failed learner promotions (likely learner not ready) while this member is leader."}, []string{"Reason"}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "etcd_disk_backend_commit_duration_seconds",
			Help:    "The latency distributions of commit called by backend.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}), // 1 ms to 8 s
	}
	own.defrags = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "etcd_disk_backend_defrag_duration_seconds",
		Help:    "The latency distribution of backend defragmentation.",
		Buckets: prometheus.ExponentialBuckets(.1, 2, 13)}) // 100 ms to 410 s
	hashBuckets := prometheus.ExponentialBuckets(.01, 2, 15) // 10 ms to 164 s
	own.hash = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "etcd_mvcc_hash_duration_seconds",
		Help: "The latency distribution of storage hash operation.", Buckets: hashBuckets})
	own.hashRev = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "etcd_mvcc_hash_rev_duration_seconds",
		Help: "The latency distribution of storage hash by revision operation.", Buckets: hashBuckets})
	own.defragging = prometheus.NewGauge(prometheus.GaugeOpts{Name: "etcd_disk_defrag_inflight",
		Help: "Whether or not defrag is active on the member. 1 means active, 0 means not."})
	m.cfg.Registry.MustRegister(own.defrags, own.defragging, own.promotions, own.promotionsFailed, own.commits, clusterVersion{m}, alarmFigures{m}, watchFigures{m},
		constant("etcd_server_id", "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.", "server_id", fmt.Sprintf("%x", m.cfg.ID)),
		constant("etcd_server_version", "Which version is running. 1 for 'server_version' label with current version.", "server_version", version.EtcdServer),
		constant("etcd_server_go_version", "Which Go version server is running with. 1 for 'server_go_version' label with current version.", "server_go_version", runtime.Version()),
	)
	own.leases = newLeaseFigures(m)
	m.cfg.Registry.MustRegister(m.raftFigures()...)
	m.cfg.Registry.MustRegister(m.stateFigures()...)
	m.cfg.Registry.MustRegister(m.keyFigures()...)
	m.cfg.Registry.MustRegister(m.loginFigures()...)
	m.cfg.Registry.MustRegister(own.hash, own.hashRev)
	return own
}

// raftFigures are about agreeing.
func (m *Member) raftFigures() []prometheus.Collector {
	return []prometheus.Collector{
		gauge("etcd_server_has_leader", "Whether or not a leader exists. 1 is existence, 0 is not.",
			m.running(func() float64 { return truth(m.Leader() != 0) })),
		gauge("etcd_server_is_leader", "Whether or not this member is a leader. 1 if is, 0 otherwise.",
			m.running(func() float64 { return truth(m.Leader() == m.cfg.ID) })),
		gauge("etcd_server_is_learner", "Whether or not this member is a learner. 1 if is, 0 otherwise.", func() float64 {
			self, _ := m.View().Members.Get(m.cfg.ID)
			return truth(self.Learner)
		}),
		counter("etcd_server_leader_changes_seen_total", "The number of leader changes seen.",
			m.running(func() float64 { return float64(m.node.LeaderChanges()) })),
		gauge("etcd_server_proposals_committed_total", "The total number of consensus proposals committed.",
			m.running(func() float64 { return float64(m.node.CommitIndex()) })),
		gauge("etcd_server_proposals_applied_total", "The total number of consensus proposals applied.",
			func() float64 { return float64(m.View().Applied) }),
		gauge("etcd_server_proposals_pending", "The current number of pending proposals to commit.",
			func() float64 { return float64(m.proposer.pending.Load()) }),
		counter("etcd_server_proposals_failed_total", "The total number of failed proposals seen.",
			func() float64 { return float64(m.proposer.failed.Load()) }),
	}
}

// loginFigures are about logins with a password, through this member.
func (m *Member) loginFigures() []prometheus.Collector {
	pick := func(of func(failed, delayed, refused int64) int64) func() float64 {
		return func() float64 { return float64(of(m.throttle.Counts())) }
	}
	return []prometheus.Collector{
		counter("conclave_auth_login_failures_total", "Logins that were tried and failed.", pick(func(n, _, _ int64) int64 { return n })),
		counter("conclave_auth_logins_delayed_total", "Logins that waited because earlier ones of the same user from the same address had failed.",
			pick(func(_, n, _ int64) int64 { return n })),
		counter("conclave_auth_logins_refused_total", "Logins that were refused because earlier ones of the same user from the same address had failed, or too many wait.",
			pick(func(_, _, n int64) int64 { return n })),
	}
}

// keyFigures are about what was done with keys, here as on every member.
func (m *Member) keyFigures() []prometheus.Collector {
	counts := m.machine.Counts()
	total := func(n *atomic.Int64) func() float64 { return func() float64 { return float64(n.Load()) } }
	return []prometheus.Collector{
		counter("etcd_mvcc_put_total", "Total number of puts seen by this member.", total(&counts.Puts)),
		counter("etcd_mvcc_delete_total", "Total number of deletes seen by this member.", total(&counts.Deletes)),
		counter("etcd_mvcc_range_total", "Total number of ranges seen by this member.", total(&counts.Ranges)),
		counter("etcd_mvcc_txn_total", "Total number of txns seen by this member.", total(&counts.Txns)),
		gauge("etcd_debugging_mvcc_total_put_size_in_bytes", "The total size of put kv pairs seen by this member.", total(&counts.PutBytes)),
		gauge("etcd_mvcc_db_open_read_transactions", "The number of currently open read transactions.",
			func() float64 { return float64(m.machine.OpenReads()) }),
	}
}

// stateFigures are about what is stored.
func (m *Member) stateFigures() []prometheus.Collector {
	size := func(pick func(total, inUse int64) int64) func() float64 {
		return func() float64 {
			total, inUse, err := m.machine.Size()
			if err != nil {
				return 0
			}
			return float64(pick(total, inUse))
		}
	}
	return []prometheus.Collector{
		gauge("etcd_server_quota_backend_bytes", "Current backend storage quota size in bytes.", func() float64 { return float64(m.quota()) }),
		gauge("conclave_answers_bytes", "Memory that long answers take until their clients have taken them, in bytes.", func() float64 { return float64(m.answers.now()) }),
		gauge("etcd_debugging_mvcc_current_revision", "The current revision of store.", func() float64 { return float64(m.View().KV.Rev()) }),
		gauge("etcd_debugging_mvcc_compact_revision", "The revision of the last compaction in store.", func() float64 { return float64(m.View().KV.CompactRev()) }),
		gauge("etcd_debugging_mvcc_keys_total", "Total number of keys.", func() float64 { return float64(m.View().KV.Len()) }),
		gauge("etcd_debugging_auth_revision", "The current revision of auth store.", func() float64 { return float64(m.AuthView().Revision()) }),
		gauge("etcd_mvcc_db_total_size_in_bytes", "Total size of the underlying database physically allocated in bytes.",
			size(func(total, _ int64) int64 { return total })),
		gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Total size of the underlying database logically in use in bytes.",
			size(func(_, inUse int64) int64 { return inUse })),
	}
}

// quota is the quota in bytes, negative where there is none.
func (m *Member) quota() int64 {
	if m.cfg.Quota == 0 {
		return defaultQuota
	}
	return m.cfg.Quota
}

// running is 0 until the member was started.
func (m *Member) running(f func() float64) func() float64 {
	return func() float64 {
		if !m.started.Load() {
			return 0
		}
		return f()
	}
}

// promotionReason is etcd's text for why a learner was not promoted.
func promotionReason(err error) string {
	switch {
	case errors.Is(err, ErrMemberNotFound):
		return "membership: ID not found"
	case errors.Is(err, ErrNotLearner):
		return "membership: can only promote a learner member"
	default:
		return "etcdserver: " + err.Error()
	}
}

// clusterVersion is 1 for the cluster's version, once that is decided.
type clusterVersion struct{ m *Member }

var clusterVersionDesc = prometheus.NewDesc("etcd_cluster_version",
	"Which version is running. 1 for 'cluster_version' label with current cluster version", []string{"cluster_version"}, nil)

func (c clusterVersion) Describe(out chan<- *prometheus.Desc) { out <- clusterVersionDesc }

func (c clusterVersion) Collect(out chan<- prometheus.Metric) {
	if v := c.m.View().ClusterVersion; v != "" {
		out <- prometheus.MustNewConstMetric(clusterVersionDesc, prometheus.GaugeValue, 1, minor(v))
	}
}

// minor is the part of a version before its second dot.
func minor(v string) string {
	for i, dots := 0, 0; i < len(v); i++ {
		if v[i] == '.' {
			if dots++; dots == 2 {
				return v[:i]
			}
		}
	}
	return v
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func gauge(name, help string, f func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
}

func counter(name, help string, f func() float64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, f)
}

func constant(name, help, label, value string) prometheus.Collector {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{label})
	g.WithLabelValues(value).Set(1)
	return g
}
