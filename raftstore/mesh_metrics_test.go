package raftstore

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// series is what a registry shows of etcd_network_: name{labels} and its value,
// of a histogram the number of its observations.
func series(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		name, ok := strings.CutPrefix(f.GetName(), "etcd_network_")
		if !ok {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			out[fmt.Sprintf("%s{%s}", name, strings.Join(labels, ","))] =
				m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return out
}

func TestMesh_metrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	a, urlA := tcpMesh(t, 0xa1, func(c *MeshConfig) { c.Registry = reg })
	b, urlB := tcpMesh(t, 0xb2, nil)
	a.SetPeers(map[uint64][]string{0xb2: {urlB}})
	b.SetPeers(map[uint64][]string{0xa1: {urlA}})
	awaitBoth(t, a, 0xb2)
	if err := call(t, a, 0xb2, "hello", 5*time.Second); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a round trip is measured", func() bool { return statusOf(a, 0xb2).RTT > 0 })
	least := map[string]float64{
		"peer_sent_bytes_total{To=b2}": 10, "peer_received_bytes_total{From=b2}": 10,
		"peer_sent_failures_total{To=b2}": 0, "peer_received_failures_total{From=b2}": 0,
		"peer_round_trip_time_seconds{To=b2}":          1,
		"active_peers{Local=a1,Remote=b2}":             1,
		"disconnected_peers_total{Local=a1,Remote=b2}": 0,
		"known_peers{Local=a1,Remote=a1}":              1, "known_peers{Local=a1,Remote=b2}": 1,
	}
	got := series(t, reg)
	for _, name := range slices.Sorted(maps.Keys(least)) {
		if value, ok := got[name]; !ok || value < least[name] {
			t.Errorf("%s is %v (%v), want at least %v", name, value, ok, least[name])
		}
	}
	if len(got) != len(least) {
		t.Errorf("there are %v", slices.Sorted(maps.Keys(got)))
	}
	b.Close()
	eventually(t, "the peer is counted out", func() bool {
		now := series(t, reg)
		return now["active_peers{Local=a1,Remote=b2}"] == 0 && now["disconnected_peers_total{Local=a1,Remote=b2}"] == 1
	})
	const failures = "peer_sent_failures_total{To=b2}"
	before := series(t, reg)[failures]
	if err := call(t, a, 0xb2, "hello", time.Second); !errors.Is(err, ErrUnreachable) {
		t.Fatal(err)
	}
	if n := series(t, reg)[failures] - before; n != 1 {
		t.Errorf("%v messages failed to leave, want 1", n)
	}
	a.SetPeers(nil)
	eventually(t, "the series of a former peer are gone", func() bool { return len(series(t, reg)) == 1 })
}

// A frame that makes no sense is counted.
func TestMesh_metricsReceiveFailures(t *testing.T) {
	reg := prometheus.NewRegistry()
	a, urlA := tcpMesh(t, 1, func(c *MeshConfig) { c.Registry = reg })
	conn := stuckPeer(t, urlA, 3)
	if _, err := conn.Write(make([]byte, 64)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connection ended", func() bool { return !statusOf(a, 3).Inbound })
	if n := series(t, reg)["peer_received_failures_total{From=3}"]; n != 1 {
		t.Errorf("%v, want 1", n)
	}
}
