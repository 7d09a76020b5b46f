package raftstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// nodeSet is three nodes over meshes in memory.
type nodeSet struct {
	net      *faultNet
	nodes    []*Node
	machines []*toyMachine
}

const toyElection = 200 * time.Millisecond

func newNodeSet(t *testing.T, seed int64) *nodeSet {
	t.Helper()
	ids := []uint64{1, 2, 3}
	c := &nodeSet{net: newFaultNet(seed)}
	conf := &conclavepb.Configuration{}
	for _, id := range ids {
		conf.Servers = append(conf.Servers, &conclavepb.Server{Id: id, PeerUrls: []string{memURL(id)}})
	}
	for _, id := range ids {
		mesh := c.net.mesh(id, zerolog.Nop())
		t.Cleanup(mesh.Close)
		machine := &toyMachine{}
		n, err := Open(Config{
			Dir: t.TempDir(), Self: id, Mesh: mesh, Machine: machine, Bootstrap: conf,
			OpenTerm:        func(uint64) []byte { return []byte("open") },
			ElectionTimeout: toyElection, RequestTimeout: 2 * time.Second,
			PreVote: true, Log: zerolog.Nop(), Registry: prometheus.NewRegistry(),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		c.nodes, c.machines = append(c.nodes, n), append(c.machines, machine)
	}
	return c
}

// leader waits for a node that leads an open term.
func (c *nodeSet) leader(t *testing.T) (at int, term uint64) {
	t.Helper()
	eventually(t, "a leader", func() bool {
		for i, n := range c.nodes {
			if now, _ := n.Leadership(); now.Leader == n.cfg.Self && n.openTerm.Load() == now.Term {
				at, term = i, now.Term
				return true
			}
		}
		return false
	})
	return at, term
}

// outcomes is what is known of the proposals made.
type outcomes struct {
	mu      sync.Mutex
	acked   []string
	refused []string // definitely not proposed
}

func (o *outcomes) note(value string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err == nil:
		o.acked = append(o.acked, value)
	case errors.Is(err, ErrNotLeader):
		o.refused = append(o.refused, value)
	}
}

func (o *outcomes) known() (acked []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.acked)
}

// Proposals and reads under cut, slow, lossy and repeating links: every member
// applies the same in the same order, each thing once; what was acknowledged
// before a read began is in it; what was refused is nowhere.
func TestNode_agreeUnderFaults(t *testing.T) {
	for seed := range int64(4) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { agreeUnderFaults(t, seed) })
	}
}

func agreeUnderFaults(t *testing.T, seed int64) {
	c := newNodeSet(t, seed)
	c.leader(t)
	var known outcomes
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var work sync.WaitGroup
	for i, n := range c.nodes {
		work.Go(func() { c.write(ctx, n, &known) })
		work.Go(func() {
			for ctx.Err() == nil {
				c.read(ctx, t, i, &known)
			}
		})
	}
	rng := rand.New(rand.NewPCG(uint64(seed), 1))
	for range 5 {
		c.fault(rng)
		time.Sleep(time.Duration(50+rng.IntN(350)) * time.Millisecond) // how long a fault lasts
		before := len(known.known())
		c.net.heal()
		eventually(t, "progress after the links are healed", func() bool { return len(known.known()) > before })
		for i := range c.machines {
			c.samePrefix(t, i, (i+1)%len(c.machines))
		}
	}
	stop()
	work.Wait()
	for i := range c.nodes {
		// Lost frames are missed only after some seconds.
		eventually(t, "a read after the links are healed", func() bool { return c.read(limited(t), t, i, &known) })
	}
	eventually(t, "equal machines", func() bool {
		all := c.machines[0].all()
		return slices.Equal(all, c.machines[1].all()) && slices.Equal(all, c.machines[2].all())
	})
	c.check(t, &known)
}

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// write proposes one value after the other whenever n takes itself for the
// leader.
func (c *nodeSet) write(ctx context.Context, n *Node, known *outcomes) {
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
		known.note(value, n.Propose(ctx, now.Term, []byte(value)))
	}
}

// read checks one linearizable read of member i; false if it was not answered.
func (c *nodeSet) read(ctx context.Context, t *testing.T, i int, known *outcomes) bool {
	before := known.known()
	if err := c.nodes[i].ReadIndex(ctx); err != nil {
		return false
	}
	have := map[string]bool{}
	for _, v := range c.machines[i].all() {
		have[v] = true
	}
	for _, v := range before {
		if !have[v] {
			t.Errorf("stale read on member %d: %s was acknowledged before it", i+1, v)
			return true
		}
	}
	return true
}

// fault breaks links: one of them, all of one member, or some at random.
func (c *nodeSet) fault(rng *rand.Rand) {
	a := uint64(1 + rng.IntN(3))
	b := a%3 + 1
	switch rng.IntN(4) {
	case 0:
		c.net.cut(a, b)
	case 1:
		c.net.isolate(a, 1, 2, 3)
	case 2: // one way
		c.net.set(a, b, linkFault{cut: true})
	default:
		for from := range uint64(3) {
			for to := range uint64(3) {
				c.net.set(from+1, to+1, linkFault{drop: 0.05, replay: 0.1, delay: 40 * time.Millisecond})
			}
		}
	}
}

func (c *nodeSet) samePrefix(t *testing.T, i, j int) {
	t.Helper()
	a, b := c.machines[i].all(), c.machines[j].all()
	n := min(len(a), len(b))
	if !slices.Equal(a[:n], b[:n]) {
		t.Fatalf("members %d and %d applied different things", i+1, j+1)
	}
}

func (c *nodeSet) check(t *testing.T, known *outcomes) {
	t.Helper()
	times := map[string]int{}
	for _, v := range c.machines[0].all() {
		times[v]++
		if times[v] > 1 {
			t.Errorf("%s was applied %d times", v, times[v])
		}
	}
	for _, v := range known.acked {
		if times[v] == 0 {
			t.Errorf("%s was acknowledged and is lost", v)
		}
	}
	for _, v := range known.refused {
		if times[v] != 0 {
			t.Errorf("%s was refused and is applied", v)
		}
	}
	if len(known.acked) == 0 {
		t.Error("nothing was acknowledged")
	}
	t.Logf("%d acknowledged, %d refused, %d applied", len(known.acked), len(known.refused), len(times))
}

// A new leader has every acknowledged entry in its log but may not know yet
// that they are agreed. While it cannot learn it, and although a majority
// confirms its term, it answers no read.
func TestNode_noReadBeforeTermIsOpen(t *testing.T) {
	c := newNodeSet(t, 1)
	old, term := c.leader(t)
	propose(t, c.nodes[old], term, "before")
	for i := range c.nodes {
		eventually(t, "all level", func() bool { return len(c.machines[i].all()) == 1 })
	}
	known := c.nodes[old].CommitIndex()
	// No follower learns that the next entry is agreed.
	c.setFilter(func(_, _ uint64, m *raft.AppendEntriesRequest) bool { return m.LeaderCommitIndex <= known })
	propose(t, c.nodes[old], term, "acknowledged")
	last := c.nodes[old].LastIndex()
	for _, n := range c.nodes {
		eventually(t, "the entry in every log", func() bool { return n.LastIndex() >= last })
	}
	// The leader is gone, and the next one's entries reach nobody: only its
	// heartbeats, votes and confirmations do.
	c.net.isolate(c.nodes[old].cfg.Self, 1, 2, 3)
	c.setFilter(func(_, _ uint64, m *raft.AppendEntriesRequest) bool {
		return len(m.Entries) == 0 && m.LeaderCommitIndex <= known
	})
	next := -1
	eventually(t, "the next leader", func() bool {
		for i, n := range c.nodes {
			if now, _ := n.Leadership(); i != old && now.Leader == n.cfg.Self && now.Term > term {
				next = i
				return true
			}
		}
		return false
	})
	for _, i := range []int{next, 3 - old - next} { // the leader, and who asks it
		ctx, cancel := context.WithTimeout(context.Background(), toyElection)
		if err := c.nodes[i].ReadIndex(ctx); err == nil && len(c.machines[i].all()) < 2 {
			t.Errorf("stale read on member %d: %v", i+1, c.machines[i].all())
		}
		cancel()
	}
	c.setFilter(nil)
	// Lost frames are missed only after some seconds.
	eventually(t, "a read", func() bool { return c.nodes[next].ReadIndex(limited(t)) == nil })
	if !slices.Contains(c.machines[next].all(), "acknowledged") {
		t.Fatalf("read %v", c.machines[next].all())
	}
}

// setFilter loses the appends and commit messages that keep says no to.
func (c *nodeSet) setFilter(keep func(from, to uint64, m *raft.AppendEntriesRequest) bool) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if keep == nil {
		c.net.filter = nil
		return
	}
	c.net.filter = func(from, to uint64, raw []byte) bool {
		kind := Kind(binary.BigEndian.Uint32(raw[13:]))
		if typ := frameType(raw[4]); typ != frameRequest && typ != frameOneWay || kind != kindAppend && kind != kindCommit {
			return true
		}
		m, err := decodeRequest(kind, slices.Clone(raw[4+frameFixed:len(raw)-4]))
		request, ok := m.(*raft.AppendEntriesRequest)
		return err != nil || !ok || keep(from, to, request)
	}
}

// A leader that is cut off confirms no read, however well it believes to lead.
func TestNode_cutOffLeaderConfirmsNothing(t *testing.T) {
	c := newNodeSet(t, 1)
	at, term := c.leader(t)
	propose(t, c.nodes[at], term, "x")
	c.net.isolate(c.nodes[at].cfg.Self, 1, 2, 3)
	ctx, cancel := context.WithTimeout(context.Background(), toyElection)
	defer cancel()
	if err := c.nodes[at].ReadIndex(ctx); err == nil {
		t.Fatal("a leader without a majority confirmed a read")
	}
}
