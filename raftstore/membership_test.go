package raftstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// growing is a cluster that members are added to.
type growing struct {
	t     *testing.T
	nodes map[uint64]*Node
}

const growElection = 400 * time.Millisecond

// reserve listens for a member that is not started yet.
func (g *growing) reserve() (net.Listener, string) {
	g.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { ln.Close() })
	return ln, "http://" + ln.Addr().String()
}

// start opens a member: with a first membership, or joining one whose servers
// it is given as peers.
func (g *growing) start(id uint64, ln net.Listener, first, peers *conclavepb.Configuration) *Node {
	g.t.Helper()
	reg := prometheus.NewRegistry()
	mesh := NewMesh(MeshConfig{Self: id, ClusterID: 9, Instance: fmt.Sprint(id), ElectionTimeout: growElection, Log: zerolog.Nop(), Registry: reg})
	mesh.Serve(ln)
	if peers != nil {
		mesh.SetPeers(peerURLs(encodeConfiguration(peers), id))
	}
	node, err := Open(Config{
		Dir: g.t.TempDir(), Self: id, Mesh: mesh, Machine: &toyMachine{}, Bootstrap: first, Join: first == nil,
		OpenTerm:        func(uint64) []byte { return []byte("open") },
		ElectionTimeout: growElection, RequestTimeout: 10 * time.Second,
		PreVote: true, Log: zerolog.Nop(), Registry: reg,
	})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { node.Close(); mesh.Close() })
	g.nodes[id] = node
	return node
}

// newGrowing starts members 1 to n.
func newGrowing(t *testing.T, n int) *growing {
	g := &growing{t: t, nodes: map[uint64]*Node{}}
	conf := &conclavepb.Configuration{}
	var listeners []net.Listener
	for id := range uint64(n) {
		ln, url := g.reserve()
		listeners = append(listeners, ln)
		conf.Servers = append(conf.Servers, &conclavepb.Server{Id: id + 1, PeerUrls: []string{url}})
	}
	for i, ln := range listeners {
		g.start(uint64(i+1), ln, conf, nil)
	}
	return g
}

// leader waits for a leader whose term is open, other than the given ids.
func (g *growing) leader(except ...uint64) *Node {
	g.t.Helper()
	var all []*Node
	for id, n := range g.nodes {
		skip := false
		for _, e := range except {
			skip = skip || e == id
		}
		if !skip {
			all = append(all, n)
		}
	}
	return leaderAmong(g.t, all, 0)
}

// change makes a change through whoever leads, against the newest membership.
func (g *growing) change(c Change) {
	g.t.Helper()
	eventually(g.t, fmt.Sprintf("change %+v", c), func() bool {
		leader := g.leader()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		index, _ := leader.Membership()
		_, err := leader.Change(ctx, index, c)
		if err != nil && !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrMembershipChanged) {
			g.t.Fatal(err)
		}
		return err == nil
	})
}

func (g *growing) propose(text string) {
	g.t.Helper()
	leader := g.leader()
	propose(g.t, leader, leader.Term(), text)
}

func server(n *Node, id uint64) *conclavepb.Server {
	_, conf := n.Membership()
	return serverOf(conf, id)
}

// A voter can be added before it runs: the members there are go on, and it gets
// its vote when it is level. With the vote at once, a cluster of one would stop.
func TestNode_addedVoterWaitsForItsVote(t *testing.T) {
	g := newGrowing(t, 1)
	g.propose("before")
	ln, url := g.reserve()
	g.change(Change{Op: OpAdd, ID: 2, PeerURLs: []string{url}})
	if s := server(g.nodes[1], 2); s == nil || !s.Pending || s.Learner {
		t.Fatalf("added as %v", s)
	}
	for i := range 20 {
		g.propose(fmt.Sprint("while it is away ", i))
	}
	if s := server(g.nodes[1], 2); !s.Pending {
		t.Fatal("a member that never ran has a vote")
	}
	_, conf := g.nodes[1].Membership()
	g.start(2, ln, nil, conf)
	eventually(t, "a vote for the added member", func() bool {
		s := server(g.nodes[1], 2)
		return !s.Pending && !s.Learner
	})
	eventually(t, "everything on the added member", func() bool {
		return len(g.nodes[2].cfg.Machine.(*toyMachine).all()) == 21
	})
	g.propose("by two")
}

// An added voter that runs and is level still has to wait while the others of
// the new majority do not answer.
func TestNode_pendingNeedsTheNewMajority(t *testing.T) {
	g := newGrowing(t, 3)
	leader := g.leader()
	conf := &conclavepb.Configuration{Servers: []*conclavepb.Server{
		{Id: 1}, {Id: 2}, {Id: 3}, {Id: 8, Pending: true}, {Id: 9, Learner: true},
	}}
	if leader.readyFor(conf, 8) {
		t.Fatal("a member that does not answer would get a vote")
	}
	for id, n := range g.nodes {
		if n != leader {
			n.cfg.Mesh.Close()
			conf.Servers[3].Id = id // level until a moment ago
		}
	}
	if leader.readyFor(conf, conf.Servers[3].Id) {
		t.Fatal("a vote would be given without a majority of the new membership")
	}
}

func TestNode_learnerPromotedOnRequest(t *testing.T) {
	g := newGrowing(t, 1)
	ln, url := g.reserve()
	g.change(Change{Op: OpAddLearner, ID: 2, PeerURLs: []string{url}})
	_, conf := g.nodes[1].Membership()
	g.start(2, ln, nil, conf)
	g.propose("x")
	eventually(t, "a level learner", func() bool {
		return g.nodes[1].level(context.Background(), 2, g.nodes[1].CommitIndex())
	})
	if s := server(g.nodes[1], 2); !s.Learner {
		t.Fatal("a learner got a vote by itself")
	}
	if err := g.nodes[1].MoveLeader(context.Background(), 2); !errors.Is(err, ErrBadTransferee) {
		t.Fatalf("leadership to a learner: %v", err)
	}
	g.change(Change{Op: OpPromote, ID: 2})
	if s := server(g.nodes[1], 2); s.Learner || s.Pending {
		t.Fatalf("promoted to %v", s)
	}
}

func TestNode_updateKeepsSuffrage(t *testing.T) {
	g := newGrowing(t, 1)
	g.change(Change{Op: OpAdd, ID: 2, PeerURLs: []string{"http://127.0.0.1:1"}})
	g.change(Change{Op: OpAddLearner, ID: 3, PeerURLs: []string{"http://127.0.0.1:2"}})
	for id := range uint64(3) {
		g.change(Change{Op: OpUpdate, ID: id + 1, PeerURLs: []string{fmt.Sprintf("http://127.0.0.1:1%d", id+1)}})
	}
	_, conf := g.nodes[1].Membership()
	want := "1 [http://127.0.0.1:11] false false, 2 [http://127.0.0.1:12] true false, 3 [http://127.0.0.1:13] false true, "
	got := ""
	for _, s := range conf.Servers {
		got += fmt.Sprintf("%d %v %v %v, ", s.Id, s.PeerUrls, s.Pending, s.Learner)
	}
	if got != want {
		t.Fatalf("membership %s, want %s", got, want)
	}
}

// Each change is made against the membership that was looked at, or not at all.
func TestNode_changeOfOldMembership(t *testing.T) {
	g := newGrowing(t, 1)
	leader := g.leader()
	old, _ := leader.Membership()
	g.change(Change{Op: OpAddLearner, ID: 2, PeerURLs: []string{"http://127.0.0.1:1"}})
	_, err := leader.Change(context.Background(), old, Change{Op: OpAddLearner, ID: 3, PeerURLs: []string{"http://127.0.0.1:2"}})
	if !errors.Is(err, ErrMembershipChanged) {
		t.Fatalf("got %v", err)
	}
	// The same when raft finds it: the entry came after the look.
	leader.members.mu.Lock()
	leader.members.index = old
	leader.members.mu.Unlock()
	_, err = leader.Change(context.Background(), old, Change{Op: OpAddLearner, ID: 3, PeerURLs: []string{"http://127.0.0.1:2"}})
	if !errors.Is(err, ErrMembershipChanged) {
		t.Fatalf("from raft: %v", err)
	}
}

func TestNode_removedMemberLeaves(t *testing.T) {
	for _, who := range []string{"leader", "follower"} {
		t.Run(who, func(t *testing.T) {
			g := newGrowing(t, 3)
			leader := g.leader()
			target := leader
			for _, n := range g.nodes {
				if who == "follower" && n != leader {
					target = n
				}
			}
			g.change(Change{Op: OpRemove, ID: target.cfg.Self})
			if who == "leader" {
				select {
				case <-target.Gone():
				case <-time.After(patience):
					t.Fatal("the removed leader does not know")
				}
			}
			rest := g.leader(target.cfg.Self)
			propose(t, rest, rest.Term(), "without it")
			for id, n := range g.nodes {
				if id != target.cfg.Self {
					select {
					case <-n.Gone():
						t.Errorf("member %d takes itself for removed", id)
					default:
					}
				}
			}
		})
	}
}

func TestNode_moveLeader(t *testing.T) {
	g := newGrowing(t, 3)
	leader := g.leader()
	term := leader.Term()
	var to *Node
	for _, n := range g.nodes {
		if n != leader {
			to = n
		}
	}
	if err := to.MoveLeader(context.Background(), leader.cfg.Self); !errors.Is(err, ErrNotLeader) {
		t.Fatalf("asked of a follower: %v", err)
	}
	if err := leader.MoveLeader(context.Background(), 77); !errors.Is(err, ErrBadTransferee) {
		t.Fatalf("to a stranger: %v", err)
	}
	eventually(t, "a level voter", func() bool {
		return leader.level(context.Background(), to.cfg.Self, leader.CommitIndex())
	})
	if err := leader.MoveLeader(context.Background(), to.cfg.Self); err != nil {
		t.Fatal(err)
	}
	if got := g.leader(); got != to || got.Term() != term+1 {
		t.Fatalf("member %d leads term %d, want member %d and term %d", got.cfg.Self, got.Term(), to.cfg.Self, term+1)
	}
}

// A stop hands leadership over: a new leader in one term more, and quickly.
func TestNode_closeHandsOver(t *testing.T) {
	g := newGrowing(t, 3)
	leader := g.leader()
	term := leader.Term()
	began := time.Now()
	leader.Close()
	next := g.leader(leader.cfg.Self)
	if next.Term() != term+1 {
		t.Errorf("the term went from %d to %d", term, next.Term())
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

// Raft that is started anew goes on where it was, with the same log.
func TestNode_restart(t *testing.T) {
	g := newGrowing(t, 3)
	for i := range 3 {
		leader := g.leader()
		propose(t, leader, leader.Term(), fmt.Sprint(i))
		if err := leader.restart("test", nil); err != nil {
			t.Fatal(err)
		}
	}
	g.propose("last")
	for _, n := range g.nodes {
		eventually(t, "everything, once", func() bool {
			return fmt.Sprint(n.cfg.Machine.(*toyMachine).all()) == "[0 1 2 last]"
		})
	}
}

// A proposal that raft was stopped under never counts as applied.
func TestNode_proposeDuringRestart(t *testing.T) {
	g := newGrowing(t, 1)
	leader := g.leader()
	done := make(chan struct{})
	acked := 0
	go func() {
		defer close(done)
		for i := 0; i < 5000 && acked < 300; i++ {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			if leader.Propose(ctx, leader.Term(), []byte("x")) == nil {
				acked++
			}
			cancel()
		}
	}()
	for range 3 {
		if err := leader.restart("test", nil); err != nil {
			t.Fatal(err)
		}
		g.leader()
	}
	<-done
	if got := len(leader.cfg.Machine.(*toyMachine).all()); got < acked {
		t.Fatalf("%d acknowledged, %d applied", acked, got)
	}
}

// The transfer that never ends is noticed by its refusals, and only by an
// unbroken row of them.
func TestTransferWatch_stuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = time.Second
		var w transferWatch
		for range 3 { // each transfer ends
			if w.stuck(raft.ErrLeadershipTransferInProgress, limit) {
				t.Fatal("at the first refusal")
			}
			time.Sleep(limit)
			if w.stuck(raft.ErrLeadershipTransferInProgress, limit) {
				t.Fatal("at the limit")
			}
			if w.stuck(nil, limit) {
				t.Fatal("at a success")
			}
		}
		w.stuck(raft.ErrLeadershipTransferInProgress, limit)
		time.Sleep(limit + time.Millisecond)
		if !w.stuck(raft.ErrLeadershipTransferInProgress, limit) {
			t.Fatal("not noticed")
		}
	})
}

// A transfer that never ends costs the raft instance, not the leadership of the
// cluster for ever.
func TestNode_endlessTransferStartsRaftAnew(t *testing.T) {
	g := newGrowing(t, 3)
	leader := g.leader()
	before := leader.raft()
	eventually(t, "raft started anew", func() bool {
		leader.noteTransfer(raft.ErrLeadershipTransferInProgress)
		return leader.raft() != before
	})
	g.propose("after")
}

// A member that joins goes by the peers it was told of, while its log brings it
// through memberships of the time before its own.
func TestMembership_joinerKeepsItsPeers(t *testing.T) {
	g := &growing{t: t, nodes: map[uint64]*Node{}}
	ln, url := g.reserve()
	_, absent := g.reserve()
	now := &conclavepb.Configuration{Servers: []*conclavepb.Server{
		{Id: 1, PeerUrls: []string{absent}}, {Id: 2, PeerUrls: []string{absent}}, {Id: 3, PeerUrls: []string{url}, Pending: true},
	}}
	joiner := g.start(3, ln, nil, now)
	listed := func() (ids []uint64) {
		for _, p := range joiner.cfg.Mesh.Peers() {
			ids = append(ids, p.ID)
		}
		return ids
	}
	joiner.onMembership(1, &conclavepb.Configuration{Servers: now.Servers[:1]})
	if got := listed(); len(got) != 2 {
		t.Fatalf("after a membership of the time before it dials %v", got)
	}
	joiner.onMembership(2, &conclavepb.Configuration{Servers: now.Servers[1:]})
	if got := listed(); len(got) != 1 || got[0] != 2 {
		t.Fatalf("after its own membership it dials %v", got)
	}
}
