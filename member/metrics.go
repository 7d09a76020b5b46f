package member

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/conclave-kv/conclave/internal/version"
)

// registerMetrics exposes the member's figures under etcd's names; they are
// read when somebody asks and cost nothing otherwise.
func registerMetrics(m *Member) {
	m.cfg.Registry.MustRegister(
		gauge("etcd_server_has_leader", "1 when this member knows a leader.", func() float64 { return truth(m.node != nil && m.Leader() != 0) }),
		gauge("etcd_server_is_leader", "1 when this member leads.", func() float64 { return truth(m.node != nil && m.Leader() == m.cfg.ID) }),
		counter("etcd_server_leader_changes_seen_total", "Leaders this member has seen.", func() float64 { return m.whenRunning(func() float64 { return float64(m.node.LeaderChanges()) }) }),
		gauge("etcd_server_proposals_committed_total", "Highest index known to be agreed.", func() float64 { return m.whenRunning(func() float64 { return float64(m.node.CommitIndex()) }) }),
		gauge("etcd_server_proposals_applied_total", "Index of the newest entry applied.", func() float64 { return float64(m.View().Applied) }),
		gauge("etcd_debugging_mvcc_current_revision", "Current revision of the key-value store.", func() float64 { return float64(m.View().KV.Rev()) }),
		gauge("etcd_debugging_mvcc_compact_revision", "Revision up to which history was forgotten.", func() float64 { return float64(m.View().KV.CompactRev()) }),
		gauge("etcd_mvcc_db_total_size_in_bytes", "Size of the state file.", func() float64 { total, _, _ := m.machine.Size(); return float64(total) }),
		gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of the state file in use.", func() float64 { _, used, _ := m.machine.Size(); return float64(used) }),
		constant("etcd_server_id", "This member's id.", "server_id", fmt.Sprintf("%x", m.cfg.ID)),
		constant("etcd_server_version", "etcd version whose API is spoken.", "server_version", version.EtcdServer),
	)
}

// whenRunning is 0 until the member was started.
func (m *Member) whenRunning(f func() float64) float64 {
	if m.node == nil {
		return 0
	}
	return f()
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
