//go:build interop

package cluster_test

import (
	"context"
	"encoding/json"
	"flag"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

var (
	kills     = flag.Int("kills", 10, "how often TestKill ends the leader")
	blackouts = flag.Int("blackouts", 2, "how often TestKill ends all members at once")
)

// outageLimit is how soon after the leader's end a write must succeed. What is
// usual is printed; bench failover compares it with etcd's.
const outageLimit = 15 * time.Second

// The leader dies again and again while clients write, then everybody dies at
// once. No acknowledged write is lost and no member's revision goes back.
func TestKill_leaderAgainAndAgainThenAll(t *testing.T) {
	t.Parallel()
	g := start(t, 3, true)
	etcdctl := realTool(t, "etcdctl")
	for _, m := range g.members {
		if out, err := m.ctl(etcdctl, "put", "through", m.name); err != nil || out != "OK\n" {
			t.Fatalf("put through %s: %q, %v", m.name, out, err)
		}
		for _, other := range g.members {
			if out, err := other.ctl(etcdctl, "get", "through", "--print-value-only"); err != nil || out != m.name+"\n" {
				t.Fatalf("get through %s: %q, %v", other.name, out, err)
			}
		}
	}
	var clients []*clientv3.Client
	for _, m := range g.members {
		clients = append(clients, m.dial())
		newGauge(t, m)
	}
	killLeaders(t, g, newLoad(t, g), clients)
	for range *blackouts {
		killAll(t, g, newLoad(t, g), clients)
	}
	sameOnDisk(t, g)
}

func killLeaders(t *testing.T, g *group, l *load, clients []*clientv3.Client) {
	defer l.end()
	var outages []time.Duration
	for range *kills {
		var leader *member
		eventually(t, serveTimeout, "a leader", func() error {
			if leader = g.leader(clients); leader == nil {
				return context.DeadlineExceeded
			}
			return nil
		})
		l.mark()
		l.outage(outageLimit) // a write is on its way when it dies
		l.mark()
		leader.proc.kill()
		outages = append(outages, l.outage(outageLimit))
		acked, _ := l.soFar()
		leader.launch()
		leader.serves()
		// A linearizable read on it has succeeded, so its own state has all.
		holds(t, leader.name+" after its return", clients[slices.Index(g.members, leader)], acked, clientv3.WithSerializable())
		if t.Failed() {
			t.FailNow()
		}
	}
	if len(outages) == 0 {
		return
	}
	slices.Sort(outages)
	acked, _ := l.soFar()
	t.Logf("%d kills of the leader under %d acknowledged writes: next write after %v (median), %v (longest)",
		len(outages), len(acked), outages[len(outages)/2].Round(time.Millisecond), outages[len(outages)-1].Round(time.Millisecond))
}

func killAll(t *testing.T, g *group, l *load, clients []*clientv3.Client) {
	l.mark()
	l.outage(outageLimit)
	for _, m := range g.members {
		_ = syscall.Kill(-m.proc.cmd.Process.Pid, syscall.SIGKILL)
	}
	for _, m := range g.members {
		m.proc.kill()
	}
	l.end()
	acked, highest := l.soFar()
	g.launch()
	g.serve()
	for i, m := range g.members {
		own := holds(t, m.name+" by itself", clients[i], acked, clientv3.WithSerializable())
		agreed := holds(t, m.name+" after the restart", clients[i], acked)
		if own < highest || agreed < highest {
			t.Errorf("%s answers at revisions %d and %d, and %d was acknowledged", m.name, own, agreed, highest)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	resp, err := clients[0].Put(ctx, l.prefix+"last", l.prefix+"last")
	if err != nil || resp.Header.Revision <= highest {
		t.Errorf("put after the restart: %v, %v; revisions up to %d were acknowledged", resp, err, highest)
	}
}

// sameOnDisk stops all members and has etcd's tool compare their histories.
func sameOnDisk(t *testing.T, g *group) {
	t.Helper()
	for _, m := range g.members {
		m.serves() // and so has everything
	}
	for _, m := range g.members {
		m.proc.stop()
	}
	// A write whose client gave up may reach those that stop last only.
	common := int64(math.MaxInt64)
	for _, m := range g.members {
		_, revision := hashOnDisk(t, m, 0)
		common = min(common, revision)
	}
	want, _ := hashOnDisk(t, g.members[0], common)
	for _, m := range g.members {
		if got, _ := hashOnDisk(t, m, common); got != want {
			t.Errorf("histories differ up to revision %d: %s has %d, %s %d", common, g.members[0].name, want, m.name, got)
		}
	}
}

// hashOnDisk is etcd's hash of a stopped member's history up to a revision, 0
// for the newest, and the revision it is of.
func hashOnDisk(t *testing.T, m *member, revision int64) (hash uint32, at int64) {
	t.Helper()
	out := must(t, m.home, realTool(t, "etcdutl"), "hashkv", filepath.Join(m.data, "member", "snap", "db"),
		"--rev", strconv.FormatInt(revision, 10), "-w", "json")
	var answer struct {
		Hash     uint32 `json:"hash"`
		Revision int64  `json:"hashRevision"`
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatalf("etcdutl hashkv: %v: %s", err, out)
	}
	return answer.Hash, answer.Revision
}
