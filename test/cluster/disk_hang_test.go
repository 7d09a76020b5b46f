//go:build interop

package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"
)

// The leader's disk does not answer any more. Another member leads, writes go
// on, the stuck one says that it is not alive, and ends with one line that names
// the disk. When the disk is well it comes back.
func TestDiskRoot_leaderHangs(t *testing.T) {
	t.Parallel()
	g := startDisks(t, conclave)
	l := newLoad(t, g.group)
	for round := range 2 {
		stuck := g.awaitLeader()
		l.mark()
		l.outage(outageLimit)
		g.disk(stuck, "hang", "sync")
		l.mark()
		t.Logf("round %d: next write %v after the hang", round, l.outage(outageLimit).Round(time.Millisecond))
		if leader := g.otherLeader(stuck); leader == nil {
			t.Error("nobody else leads")
		}
		eventually(t, serveTimeout, stuck.name+" to say that it is not alive", func() error { return notAlive(stuck) })
		if !stuck.proc.running() {
			t.Errorf("%s said so only when it ended", stuck.name)
		}
		refusal(t, stuck.proc, stuck.data, "disk")
		back(t, g, l, stuck)
	}
	l.end()
	sameOnDisk(t, g.group)
}

// A follower's disk hangs: nobody else notices.
func TestDiskRoot_followerHangs(t *testing.T) {
	t.Parallel()
	g := startDisks(t, conclave)
	l := newLoad(t, g.group)
	leader := g.awaitLeader()
	stuck := g.other(leader)
	g.disk(stuck, "hang", "sync")
	l.mark()
	l.outage(outageLimit)
	refusal(t, stuck.proc, stuck.data, "disk")
	if now := g.awaitLeader(); now != leader {
		t.Errorf("%s leads, %s did, and only %s had trouble", now.name, leader.name, stuck.name)
	}
	back(t, g, l, stuck)
	l.end()
	sameOnDisk(t, g.group)
}

// A disk that does not even let go of a process that ends: its connections stay
// open, and nobody answers on them. The others must not wait for it.
func TestDiskRoot_leaderHangsAndCannotEnd(t *testing.T) {
	t.Parallel()
	g := startDisks(t, conclave)
	l := newLoad(t, g.group)
	stuck := g.awaitLeader()
	l.mark()
	l.outage(outageLimit)
	g.disk(stuck, "hang-hard", "sync")
	l.mark()
	t.Logf("next write %v after the hang", l.outage(outageLimit).Round(time.Millisecond))
	stuck.proc.says(refusalTimeout, "Error: ")
	l.mark()
	l.outage(outageLimit)
	g.disk(stuck, "release")
	refusal(t, stuck.proc, stuck.data, "disk")
	back(t, g, l, stuck)
	l.end()
	sameOnDisk(t, g.group)
}

// otherLeader waits until a member that is not this one says that it leads.
func (g *diskGroup) otherLeader(than *member) (leader *member) {
	g.t.Helper()
	eventually(g.t, outageLimit, "another leader", func() error {
		for i, m := range g.members {
			if m == than {
				continue
			}
			ctx, cancel := context.WithTimeout(g.t.Context(), time.Second)
			status, err := g.clients[i].Status(ctx, m.clientURL())
			cancel()
			if err == nil && status.Leader == status.Header.MemberId {
				leader = m
				return nil
			}
		}
		return errors.New("neither says that it leads")
	})
	return leader
}

// notAlive fails while /livez is good.
func notAlive(m *member) error {
	client := http.Client{Timeout: time.Second}
	resp, err := client.Get(m.clientURL() + "/livez")
	if err != nil {
		return fmt.Errorf("/livez does not answer: %w", err) // it has ended
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return errors.New("/livez says 200")
	}
	return nil
}
