package member

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/conclave-kv/conclave/kv"
)

// leaseFigures count what became of leases. Renewals and ends are those that
// this member saw to as the leader.
type leaseFigures struct {
	granted, revoked prometheus.Counter
	ttl              prometheus.Histogram
}

func newLeaseFigures(m *Member) *leaseFigures {
	f := &leaseFigures{
		granted: prometheus.NewCounter(prometheus.CounterOpts{Name: "etcd_debugging_lease_granted_total",
			Help: "The total number of granted leases."}),
		revoked: prometheus.NewCounter(prometheus.CounterOpts{Name: "etcd_debugging_lease_revoked_total",
			Help: "The total number of revoked leases."}),
		ttl: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "etcd_debugging_lease_ttl_total",
			Help:    "Bucketed histogram of lease TTLs.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 24)}), // 1 s to 3 months
	}
	m.cfg.Registry.MustRegister(f.granted, f.revoked, f.ttl,
		counter("etcd_debugging_lease_renewed_total", "The number of renewed leases seen by the leader.",
			func() float64 { return float64(m.lessor.renewed.Load()) }),
		counter("etcd_debugging_server_lease_expired_total", "The total number of expired leases.",
			func() float64 { return float64(m.lessor.expired.Load()) }),
	)
	return f
}

func (f *leaseFigures) count(changes []kv.LeaseChange) {
	for _, c := range changes {
		switch {
		case c.Gone:
			f.revoked.Inc()
		case c.Granted:
			f.granted.Inc()
			f.ttl.Observe(float64(c.TTL))
		}
	}
}
