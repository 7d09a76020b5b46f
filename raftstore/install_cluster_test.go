package raftstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// shortLogs are three nodes that keep next to nothing in their logs: whoever is
// away for a moment needs an install.
type shortLogs struct {
	net      *faultNet
	nodes    []*Node
	machines []*toyMachine

	mu    sync.Mutex
	acked []string
}

func newShortLogs(t *testing.T, seed int64) *shortLogs {
	t.Helper()
	c := &shortLogs{net: newFaultNet(seed)}
	conf := &conclavepb.Configuration{}
	for id := uint64(1); id <= 3; id++ {
		conf.Servers = append(conf.Servers, &conclavepb.Server{Id: id, PeerUrls: []string{memURL(id)}})
	}
	for id := uint64(1); id <= 3; id++ {
		machine := &toyMachine{}
		mesh := c.net.mesh(id, zerolog.Nop())
		t.Cleanup(mesh.Close)
		logs, err := newLogStore(newSimDisk(uint64(seed)<<8+id), prometheus.NewRegistry(), zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		n, err := Open(Config{
			logs: logs, State: statePath(t.TempDir()), Self: id, Mesh: mesh, Machine: machine, Bootstrap: conf,
			SnapshotCount: 1, SnapshotCatchUpEntries: 1,
			OpenTerm:        func(uint64) []byte { return []byte("open") },
			ElectionTimeout: 500 * time.Millisecond, RequestTimeout: 2 * time.Second,
			PreVote: true, Log: zerolog.Nop(), Registry: prometheus.NewRegistry(),
			truncateEvery: 10 * time.Millisecond, holdAfter: 300 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		c.nodes, c.machines = append(c.nodes, n), append(c.machines, machine)
	}
	return c
}

// commits writes the state files, as a committer does.
func (c *shortLogs) commits(ctx context.Context) {
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		select {
		case <-tick.C:
			for _, m := range c.machines {
				m.sync()
			}
		case <-ctx.Done():
			tick.Stop()
			return
		}
	}
}

// write proposes one value after the other whenever n leads.
func (c *shortLogs) write(ctx context.Context, n *Node) {
	for k := 0; ctx.Err() == nil; k++ {
		now, changed := n.Leadership()
		if now.Leader != n.cfg.Self {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		value := fmt.Sprintf("%d-%d", n.cfg.Self, k)
		if n.Propose(ctx, now.Term, []byte(value)) == nil {
			c.mu.Lock()
			c.acked = append(c.acked, value)
			c.mu.Unlock()
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (c *shortLogs) known() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.acked)
}

// read checks one linearizable read of a member: it has what was acknowledged
// before.
func (c *shortLogs) read(ctx context.Context, t *testing.T, i int) {
	before := c.known()
	if c.nodes[i].ReadIndex(ctx) != nil {
		return
	}
	if missing := lacks(c.machines[i].all(), before); missing != "" {
		t.Errorf("stale read on member %d: %s was acknowledged before it", i+1, missing)
	}
}

// lacks is one of want that is not in have.
func lacks(have, want []string) string {
	set := map[string]bool{}
	for _, v := range have {
		set[v] = true
	}
	for _, v := range want {
		if !set[v] {
			return v
		}
	}
	return ""
}

func (c *shortLogs) samePrefix(t *testing.T) {
	t.Helper()
	all := c.machines[0].all()
	for i, m := range c.machines {
		other := m.all()
		n := min(len(all), len(other))
		if !slices.Equal(all[:n], other[:n]) {
			t.Fatalf("members 1 and %d applied different things", i+1)
		}
	}
}

// leader is the index of the member that most take for the leader.
func (c *shortLogs) leader(t *testing.T) (at int) {
	t.Helper()
	eventually(t, "a leader", func() bool {
		for i, n := range c.nodes {
			if now, _ := n.Leadership(); now.Leader == n.cfg.Self && n.openTerm.Load() == now.Term {
				at = i
				return true
			}
		}
		return false
	})
	return at
}

// Members that need install after install, under load and with links that fail,
// have the same as the others: what was acknowledged, once, in order.
func TestNode_installsAgainAndAgain(t *testing.T) { synctest.Test(t, installsAgainAndAgain) }

func installsAgainAndAgain(t *testing.T) {
	c := newShortLogs(t, 1)
	c.leader(t)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var work sync.WaitGroup
	work.Go(func() { c.commits(ctx) })
	for i, n := range c.nodes {
		work.Go(func() { c.write(ctx, n) })
		work.Go(func() {
			for ctx.Err() == nil {
				c.read(ctx, t, i)
				time.Sleep(20 * time.Millisecond) // time passes only while all wait
			}
		})
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for round := range 6 {
		away := rng.IntN(3)
		if round%2 == 0 {
			away = (c.leader(t) + 1) % 3 // a follower
		}
		c.awayFor(t, away, rng, round == 3)
		c.samePrefix(t)
	}
	stop()
	work.Wait()
	eventually(t, "equal machines", func() bool {
		all := c.machines[0].all()
		return slices.Equal(all, c.machines[1].all()) && slices.Equal(all, c.machines[2].all())
	})
	c.check(t)
}

// awayFor cuts a member off until its log is too short, and waits until it is
// level again.
func (c *shortLogs) awayFor(t *testing.T, away int, rng *rand.Rand, lossy bool) {
	t.Helper()
	id := uint64(away + 1)
	c.net.isolate(id, 1, 2, 3)
	last := c.nodes[away].LastIndex()
	other := c.nodes[(away+1)%3]
	eventually(t, "the others' logs begin after the end of its own", func() bool {
		first, _, _ := other.logs.Span()
		return first > last+1
	})
	c.net.heal()
	if lossy {
		for from := uint64(1); from <= 3; from++ {
			c.net.set(from, id, linkFault{drop: 0.02, delay: 20 * time.Millisecond})
		}
		time.Sleep(time.Duration(500+rng.IntN(300)) * time.Millisecond) // how long that fault lasts
		c.net.heal()
	}
	before, target := len(c.known()), other.CommitIndex()
	eventually(t, "progress after the links are healed", func() bool { return len(c.known()) > before })
	eventually(t, "the member that was away is level", func() bool { return c.machines[away].Applied() >= target })
}

func (c *shortLogs) check(t *testing.T) {
	t.Helper()
	all := c.machines[0].all()
	times := map[string]int{}
	for _, v := range all {
		if times[v]++; times[v] > 1 {
			t.Errorf("%s was applied %d times", v, times[v])
		}
	}
	acked := c.known()
	if missing := lacks(all, acked); missing != "" || len(acked) == 0 {
		t.Errorf("%s was acknowledged and is lost, of %d", missing, len(acked))
	}
	installs := 0
	for _, m := range c.machines {
		m.mu.Lock()
		installs += m.installed
		m.mu.Unlock()
	}
	t.Logf("%d installs, %d values", installs, len(all))
	if installs < 4 {
		t.Errorf("%d installs in 6 rounds", installs)
	}
}

// A member that stops, or whose raft is started anew, does not wait for the
// member that it sends its state to.
func TestNode_stopsWhileSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newShortLogs(t, 2)
		at := c.leader(t)
		away := (at + 1) % 3
		loading, loaded := make(chan struct{}), make(chan struct{})
		c.machines[away].preparing = func() { close(loading); <-loaded }
		ctx, stop := context.WithCancel(context.Background())
		var work sync.WaitGroup
		work.Go(func() { c.commits(ctx) })
		for _, n := range c.nodes {
			work.Go(func() { c.write(ctx, n) })
		}
		c.net.isolate(uint64(away+1), 1, 2, 3)
		last := c.nodes[away].LastIndex()
		eventually(t, "the logs are too short", func() bool {
			for i, n := range c.nodes {
				if first, _, _ := n.logs.Span(); i != away && first <= last+1 {
					return false
				}
			}
			return true
		})
		c.net.heal()
		<-loading
		stop()
		work.Wait()
		for i, n := range c.nodes {
			if i == away {
				continue
			}
			start := time.Now()
			if err := n.Close(); err != nil {
				t.Error(err)
			}
			if took := time.Since(start); took > snapshotStall/2 {
				t.Errorf("member %d took %v to stop", i+1, took)
			}
		}
		close(loaded)
	})
}
