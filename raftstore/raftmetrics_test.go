package raftstore

import (
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-metrics"
	"github.com/prometheus/client_golang/prometheus"
)

// What raft reports while a node works is in its registry, and only what the
// table names.
func TestRaftMetrics_ofANode(t *testing.T) {
	n := openLone(t, t.TempDir(), &toyMachine{})
	term := lead(t, n)
	for range 20 {
		propose(t, n, term, "x")
	}
	metrics.IncrCounter([]string{"raft", "something", "else"}, 1)
	families, err := n.cfg.Registry.(*prometheus.Registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]uint64{}
	for _, f := range families {
		if name := f.GetName(); strings.HasPrefix(name, "raft_") {
			m := f.GetMetric()[0]
			counts[name] = m.GetHistogram().GetSampleCount() + uint64(m.GetCounter().GetValue()+m.GetGauge().GetValue())
		}
	}
	for _, name := range []string{"raft_commit_seconds", "raft_leader_dispatch_seconds", "raft_state_leader_total", "raft_fsm_apply_seconds", "raft_peers"} {
		if counts[name] == 0 {
			t.Errorf("%s is missing or zero among %v", name, counts)
		}
	}
	if len(counts) > len(raftSeries) {
		t.Errorf("%d series, the table has %d", len(counts), len(raftSeries))
	}
}

// The library's milliseconds and seconds are told apart.
func TestRaftSink_units(t *testing.T) {
	s := newRaftSink()
	m, err := metrics.New(&metrics.Config{FilterDefault: true}, s)
	if err != nil {
		t.Fatal(err)
	}
	m.AddSample([]string{"raft", "leader", "lastContact"}, 250)
	m.AddSampleWithLabels([]string{"raft", "replication", "heartbeat"}, 0.25, []metrics.Label{{Name: "peer_id", Value: "1"}})
	m.AddSampleWithLabels([]string{"raft", "replication", "heartbeat"}, 0.25, []metrics.Label{{Name: "peer_id", Value: "2"}})
	reg := prometheus.NewRegistry()
	reg.MustRegister(s)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		h := f.GetMetric()[0].GetHistogram()
		got = append(got, f.GetName())
		if want := 0.25 * float64(h.GetSampleCount()); h.GetSampleSum() != want {
			t.Errorf("%s sums to %v, want %v", f.GetName(), h.GetSampleSum(), want)
		}
	}
	if want := []string{"raft_leader_last_contact_seconds", "raft_replication_heartbeat_seconds"}; !slices.Equal(got, want) {
		t.Errorf("series %v, want %v", got, want)
	}
}

// What raft pays for each figure.
func BenchmarkRaftSink_sample(b *testing.B) {
	for name, sink := range map[string]metrics.MetricSink{"bridged": newRaftSink(), "nowhere": &metrics.BlackholeSink{}} {
		b.Run(name, func(b *testing.B) {
			m, err := metrics.New(&metrics.Config{FilterDefault: true}, sink)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				m.AddSample([]string{"raft", "commitTime"}, 0.001)
			}
		})
	}
}
