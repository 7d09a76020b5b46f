//go:build interop

package cluster_test

import (
	"syscall"
	"testing"
	"time"
)

// A leader that stands still for longer than leases last ends none of them when
// it wakes up: others look after them.
func TestLeaseFault_leaderPaused(t *testing.T) {
	t.Parallel()
	g := start(t, 3, false)
	leader, others := g.leaderAndOthers()
	b := newLeaseBed(t, g, (*leaseBed).renew, others...)
	pid := leader.proc.cmd.Process.Pid
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
		if sig == syscall.SIGSTOP {
			time.Sleep(8 * time.Second) // longer than the shortest TTL
		}
	}
	leader.serves()
	b.verdict(others[0])
}

func TestLeaseFault_leaderKilled(t *testing.T) {
	t.Parallel()
	g := start(t, 3, false)
	leader, others := g.leaderAndOthers()
	b := newLeaseBed(t, g, (*leaseBed).renew, others...)
	leader.proc.kill()
	time.Sleep(2 * time.Second) // how long it is away
	leader.launch()
	leader.serves()
	b.verdict(others[0])
}

// All members end at once: time without them counts for nobody.
func TestLeaseFault_allKilled(t *testing.T) {
	t.Parallel()
	g := start(t, 3, false)
	_, others := g.leaderAndOthers()
	b := newLeaseBed(t, g, (*leaseBed).renewAgain, others...)
	for _, m := range g.members {
		m.proc.kill()
	}
	time.Sleep(6 * time.Second) // longer than the shortest TTL
	g.launch()
	g.serve()
	b.verdict(others[0])
}

// A leader whose disk is slow goes on leading, or does not; renewals go on. The
// clients wait for as long as the leases last by the members' clock.
func TestDiskRoot_leasesOfASlowLeader(t *testing.T) {
	t.Parallel()
	g := startDisks(t, conclave)
	leader, others := g.leaderAndOthers()
	b := newLeaseBed(t, g.group, (*leaseBed).renewAgain, others...)
	const sync = 400 * time.Millisecond
	b.slow = 4 * sync // an entry that just left and one of its own, each behind a sync that is under way
	g.disk(leader, "delay", "sync", sync)
	b.verdict(others[0])
	g.disk(leader, "release")
}

// A leader whose disk hangs is replaced, and ends.
func TestDiskRoot_leasesOfAHungLeader(t *testing.T) {
	t.Parallel()
	g := startDisks(t, conclave)
	leader, others := g.leaderAndOthers()
	b := newLeaseBed(t, g.group, (*leaseBed).renew, others...)
	g.disk(leader, "hang", "sync")
	b.verdict(others[0])
	g.disk(leader, "release")
}
