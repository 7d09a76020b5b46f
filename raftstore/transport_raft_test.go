package raftstore

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"
)

// toyFSM remembers what was agreed.
type toyFSM struct {
	mu   sync.Mutex
	data []string
	mesh *Mesh // told of each index applied, on leaders and followers; or nil
}

func (f *toyFSM) Apply(l *raft.Log) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.data = append(f.data, string(l.Data))
	if f.mesh != nil {
		f.mesh.PushCommit(l.Index)
	}
	return nil
}

func (f *toyFSM) Snapshot() (raft.FSMSnapshot, error) { return nil, raft.ErrNothingNewToSnapshot }
func (f *toyFSM) Restore(io.ReadCloser) error         { return nil }

func (f *toyFSM) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.data)
}

// toyMember is one hashicorp/raft node on a mesh, with everything in memory.
type toyMember struct {
	id   uint64
	mesh *Mesh
	raft *raft.Raft
	fsm  *toyFSM
	logs *raft.InmemStore
}

// toyCluster starts members 1 to n of which each is a voter, and pushes
// commits as a Node does.
func toyCluster(t *testing.T, net *faultNet, n int, commitTimeout time.Duration) []*toyMember {
	t.Helper()
	members := quietCluster(t, net, n, commitTimeout)
	for _, m := range members {
		m.fsm.mu.Lock()
		m.fsm.mesh = m.mesh
		m.fsm.mu.Unlock()
	}
	return members
}

// quietCluster is a toyCluster that pushes no commits by itself.
func quietCluster(t *testing.T, net *faultNet, n int, commitTimeout time.Duration) []*toyMember {
	t.Helper()
	var conf raft.Configuration
	var ids []uint64
	for id := uint64(1); id <= uint64(n); id++ {
		ids = append(ids, id)
		conf.Servers = append(conf.Servers, raft.Server{
			ID: raft.ServerID(memberText(id)), Address: raft.ServerAddress(memURL(id)),
		})
	}
	var members []*toyMember
	for _, id := range ids {
		m := &toyMember{id: id, mesh: net.mesh(id, zerolog.Nop()), fsm: &toyFSM{}, logs: raft.NewInmemStore()}
		m.mesh.Handle(kindEcho, echo)
		m.mesh.SetPeers(memPeers(id, ids...))
		cfg := raft.DefaultConfig()
		cfg.LocalID = raft.ServerID(memberText(id))
		cfg.ElectionTimeout, cfg.HeartbeatTimeout, cfg.LeaderLeaseTimeout = time.Second, 500*time.Millisecond, 500*time.Millisecond
		cfg.CommitTimeout = commitTimeout
		cfg.MaxAppendEntries = 16
		cfg.Logger = hclog.NewNullLogger()
		snaps := raft.NewInmemSnapshotStore()
		trans := servingTransport(m.mesh, allDurable{})
		if err := raft.BootstrapCluster(cfg, m.logs, m.logs, snaps, trans, conf); err != nil {
			t.Fatal(err)
		}
		r, err := raft.NewRaft(cfg, m.fsm, m.logs, m.logs, snaps, trans)
		if err != nil {
			t.Fatal(err)
		}
		m.raft = r
		members = append(members, m)
	}
	return members
}

func stopAll(t *testing.T, members []*toyMember) {
	t.Helper()
	for _, m := range members {
		if err := m.raft.Shutdown().Error(); err != nil {
			t.Error(err)
		}
		m.mesh.Close()
	}
}

// leaderOf waits for a leader among members that a majority agrees on.
func leaderOf(t *testing.T, members []*toyMember) *toyMember {
	t.Helper()
	var lead *toyMember
	eventually(t, "a leader", func() bool {
		lead = nil
		for _, m := range members {
			if m.raft.State() == raft.Leader && m.raft.VerifyLeader().Error() == nil {
				lead = m
			}
		}
		return lead != nil
	})
	return lead
}

func (m *toyMember) apply(t *testing.T, data string) {
	t.Helper()
	if err := m.raft.Apply([]byte(data), 5*time.Second).Error(); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
}

func TestTransport_clusterSurvivesCut(t *testing.T) { synctest.Test(t, clusterSurvivesCut) }

func clusterSurvivesCut(t *testing.T) {
	net := newFaultNet(1)
	members := toyCluster(t, net, 3, 50*time.Millisecond)
	defer stopAll(t, members)
	lead := leaderOf(t, members)
	var futures []raft.ApplyFuture
	var want []string
	for i := range 1000 {
		want = append(want, fmt.Sprint("entry ", i))
		futures = append(futures, lead.raft.Apply([]byte(want[i]), 5*time.Second))
	}
	for _, f := range futures {
		if err := f.Error(); err != nil {
			t.Fatal(err)
		}
	}
	net.isolate(lead.id, 1, 2, 3)
	rest := slices.DeleteFunc(slices.Clone(members), func(m *toyMember) bool { return m == lead })
	next := leaderOf(t, rest)
	next.apply(t, "after the cut")
	want = append(want, "after the cut")
	// What the old leader takes while cut off must be taken back by it.
	lost := lead.raft.Apply([]byte("lost"), time.Second)
	net.heal()
	for _, m := range members {
		eventually(t, "all have the same", func() bool { return slices.Equal(m.fsm.all(), want) })
	}
	if lost.Error() == nil {
		t.Error("a leader cut off agreed with itself")
	}
	if addr, id := next.raft.LeaderWithID(); string(addr) != memberText(next.id) || addr != raft.ServerAddress(id) {
		t.Errorf("the leader is known as %q, %q", addr, id)
	}
}

func TestTransport_leadershipTransfer(t *testing.T) { synctest.Test(t, leadershipTransfer) }

func leadershipTransfer(t *testing.T) {
	members := toyCluster(t, newFaultNet(1), 3, 50*time.Millisecond)
	defer stopAll(t, members)
	lead := leaderOf(t, members)
	lead.apply(t, "x")
	if err := lead.raft.LeadershipTransfer().Error(); err != nil {
		t.Fatal(err)
	}
	if next := leaderOf(t, members); next == lead {
		t.Error("still the leader")
	}
}

// Followers must learn of a commit by the push alone, in no (fake) time: the
// library's own notice would come after ten seconds.
func TestTransport_commitIsPushed(t *testing.T) { synctest.Test(t, commitIsPushed) }

func commitIsPushed(t *testing.T) {
	members := quietCluster(t, newFaultNet(1), 3, 10*time.Second)
	defer stopAll(t, members)
	lead := leaderOf(t, members)
	level := func() bool {
		for _, m := range members {
			if m.raft.CommitIndex() < lead.raft.CommitIndex() {
				return false
			}
		}
		return true
	}
	for i := range 50 {
		lead.apply(t, fmt.Sprint("entry ", i))
		synctest.Wait()
		if level() {
			t.Fatal("followers learn of commits without a push: this test shows nothing")
		}
		start := time.Now()
		lead.mesh.PushCommit(lead.raft.CommitIndex())
		synctest.Wait()
		if !level() || time.Since(start) > 0 {
			t.Fatalf("entry %d: not pushed at once", i)
		}
	}
}

// A follower that only a deposed leader reaches holds entries of that leader's
// term which were never agreed. When the deposed leader learns from its
// successor that those indexes are agreed, it must not tell that follower.
func TestTransport_deposedLeaderPushesNothing(t *testing.T) { synctest.Test(t, deposedLeader) }

func deposedLeader(t *testing.T) {
	net := newFaultNet(1)
	members := toyCluster(t, net, 5, 50*time.Millisecond)
	defer stopAll(t, members)
	lead := leaderOf(t, members)
	lead.apply(t, "before")
	time.Sleep(time.Second)
	rest := slices.DeleteFunc(slices.Clone(members), func(m *toyMember) bool { return m == lead })
	left, rest := rest[0], rest[1:]
	for _, m := range rest {
		net.cut(lead.id, m.id)
		net.cut(left.id, m.id)
	}
	for range 5 {
		lead.raft.Apply([]byte("never agreed"), time.Second)
	}
	next := leaderOf(t, rest)
	for range 3 {
		next.apply(t, "agreed")
	}
	if left.raft.LastIndex() < next.raft.LastIndex() {
		t.Fatal("the follower left behind holds nothing that could be agreed by mistake")
	}
	for _, m := range rest {
		net.set(lead.id, m.id, linkFault{})
		net.set(m.id, lead.id, linkFault{})
	}
	want := []string{"before", "agreed", "agreed", "agreed"}
	eventually(t, "the deposed leader follows", func() bool { return slices.Equal(lead.fsm.all(), want) })
	synctest.Wait()
	if got := left.fsm.all(); !slices.Equal(got, want[:1]) {
		t.Errorf("the follower left behind applied %q", got)
	}
	net.heal()
	eventually(t, "it catches up", func() bool { return slices.Equal(left.fsm.all(), want) })
}
