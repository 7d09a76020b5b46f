//go:build interop

package cluster_test

import (
	"math/rand/v2"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Power fails on the leader's host, again and again, then on all hosts at once:
// what was not synced is lost, wholly or in part. What was acknowledged is not.
func TestDiskRoot_crashForgetsNothingAcknowledged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		program func(*testing.T) string
		options []string
	}{
		{"conclave", func(*testing.T) string { return conclave }, []string{"-forget"}},
		// Names need the sync of their directory, as POSIX has it.
		{"conclaveStrictNames", func(*testing.T) string { return conclave }, []string{"-forget", "-strict-names"}},
		// The same trial for etcd: what fails for both is the trial's fault.
		{"etcd", func(t *testing.T) string { return realTool(t, "etcd") }, []string{"-forget"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			random := seeds(t)
			g := startDisks(t, c.program(t), c.options...)
			l := newLoad(t, g.group)
			for range *diskCrashes {
				crashLeader(t, g, l, random)
			}
			l.end()
			for range *diskCrashes {
				crashAll(t, g, newLoad(t, g.group), random)
			}
			sameOnDisk(t, g.group)
		})
	}
}

// forget crashes a member's disk: all that was not synced goes, or some.
func (g *diskGroup) forget(m *member, random *rand.Rand) {
	g.t.Helper()
	if random.IntN(3) == 0 {
		g.disk(m, "crash", "all")
		return
	}
	g.disk(m, "crash", random.Uint32())
}

func crashLeader(t *testing.T, g *diskGroup, l *load, random *rand.Rand) {
	t.Helper()
	leader := g.awaitLeader()
	l.mark()
	l.outage(outageLimit) // a write is on its way when it dies
	l.mark()
	leader.proc.kill()
	g.forget(leader, random)
	l.outage(outageLimit)
	acked, _ := l.soFar()
	leader.launch()
	leader.serves()
	holds(t, leader.name+" after its return", g.client(leader), acked, clientv3.WithSerializable())
	if t.Failed() {
		t.FailNow()
	}
}

func crashAll(t *testing.T, g *diskGroup, l *load, random *rand.Rand) {
	t.Helper()
	l.mark()
	l.outage(outageLimit)
	for _, m := range g.members {
		_ = syscall.Kill(-m.proc.cmd.Process.Pid, syscall.SIGKILL) // kill waits, and says if it runs on
	}
	for _, m := range g.members {
		m.proc.kill()
		g.forget(m, random)
	}
	l.end()
	acked, highest := l.soFar()
	g.launch()
	g.serve()
	for i, m := range g.members {
		if at := holds(t, m.name+" after the restart", g.clients[i], acked); at < highest {
			t.Errorf("%s answers at revision %d, and %d was acknowledged", m.name, at, highest)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}
