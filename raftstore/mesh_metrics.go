package raftstore

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// meshMetrics carries etcd's names, so that its dashboards fit.
type meshMetrics struct {
	self            string
	sent, received  *prometheus.CounterVec
	unsent, unheard *prometheus.CounterVec
	trips           *prometheus.HistogramVec
	actives, knowns *prometheus.GaugeVec
	disconnects     *prometheus.CounterVec
	heldBack        prometheus.Counter // messages of a leader, by its watchdog
}

func newMeshMetrics(reg prometheus.Registerer, self uint64) *meshMetrics {
	m := &meshMetrics{
		self: fmt.Sprintf("%x", self),
		sent: registered(reg, prometheus.NewCounterVec(networkOpts("peer_sent_bytes_total",
			"The total number of bytes sent to peers."), []string{"To"})),
		received: registered(reg, prometheus.NewCounterVec(networkOpts("peer_received_bytes_total",
			"The total number of bytes received from peers."), []string{"From"})),
		unsent: registered(reg, prometheus.NewCounterVec(networkOpts("peer_sent_failures_total",
			"The total number of send failures from peers."), []string{"To"})),
		unheard: registered(reg, prometheus.NewCounterVec(networkOpts("peer_received_failures_total",
			"The total number of receive failures from peers."), []string{"From"})),
		trips: registered(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "etcd", Subsystem: "network", Name: "peer_round_trip_time_seconds",
			Help: "Round-trip time between peers.",
			// 0.1 ms to 3.3 s.
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}, []string{"To"})),
		actives: registered(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts(networkOpts("active_peers",
			"The current number of active peer connections.")), []string{"Local", "Remote"})),
		knowns: registered(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts(networkOpts("known_peers",
			"The current number of known peers.")), []string{"Local", "Remote"})),
		disconnects: registered(reg, prometheus.NewCounterVec(networkOpts("disconnected_peers_total",
			"The total number of disconnected peers."), []string{"Local", "Remote"})),
		heldBack: registered(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "etcd", Subsystem: "server", Name: "heartbeat_send_failures_total",
			Help: "The total number of leader heartbeat send failures (likely overloaded from slow disk).",
		})),
	}
	m.knowns.WithLabelValues(m.self, m.self).Set(1)
	return m
}

func networkOpts(name, help string) prometheus.CounterOpts {
	return prometheus.CounterOpts{Namespace: "etcd", Subsystem: "network", Name: name, Help: help}
}

// registered returns the collector in use: two meshes may share a registry.
func registered[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	if reg == nil {
		return c
	}
	var twice prometheus.AlreadyRegisteredError
	if err := reg.Register(c); errors.As(err, &twice) {
		if existing, ok := twice.ExistingCollector.(C); ok {
			return existing
		}
	}
	return c
}

// known starts the series of a peer.
func (m *meshMetrics) known(r *remote) {
	r.sent = m.sent.WithLabelValues(r.text)
	r.received = m.received.WithLabelValues(r.text)
	r.unsent = m.unsent.WithLabelValues(r.text)
	r.unheard = m.unheard.WithLabelValues(r.text)
	r.trips = m.trips.WithLabelValues(r.text)
	m.knowns.WithLabelValues(m.self, r.text).Set(1)
	m.actives.WithLabelValues(m.self, r.text).Set(0)
	m.disconnects.WithLabelValues(m.self, r.text)
}

// forget ends the series of a peer that is no longer one.
func (m *meshMetrics) forget(r *remote) {
	for _, vec := range []*prometheus.MetricVec{
		m.sent.MetricVec, m.received.MetricVec, m.unsent.MetricVec, m.unheard.MetricVec, m.trips.MetricVec,
	} {
		vec.DeleteLabelValues(r.text)
	}
	for _, vec := range []*prometheus.MetricVec{m.knowns.MetricVec, m.actives.MetricVec, m.disconnects.MetricVec} {
		vec.DeleteLabelValues(m.self, r.text)
	}
}

// active notes that a peer is connected, or is no longer. r.mu is held, so that
// the last change is the one that stays, and nothing comes after forget.
func (m *meshMetrics) active(r *remote, up bool) {
	if r.removed {
		return
	}
	if up {
		m.actives.WithLabelValues(m.self, r.text).Set(1)
		return
	}
	m.actives.WithLabelValues(m.self, r.text).Set(0)
	m.disconnects.WithLabelValues(m.self, r.text).Inc()
}
