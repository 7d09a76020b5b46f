package raftstore

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

func TestNode_report(t *testing.T) {
	nodes := openCluster(t, 3, 300*time.Millisecond)
	leader := leaderAmong(t, nodes, 0)
	term := leader.Term()
	propose(t, leader, term, "x")
	eventually(t, "a report of a cluster that works", func() bool {
		r := leader.Report(nameless)
		acked := 0
		for _, p := range r.Peers {
			if p.AckedIndex >= r.CommitIndex && p.Inbound && p.Outbound {
				acked++
			}
		}
		return acked == 2 && len(r.Troubles) == 0
	})
	r := leader.Report(nameless)
	if r.Role != roleLeader || r.Leader != r.MemberId || r.Term != term || r.VotedFor != r.MemberId || r.VotedTerm != term {
		t.Errorf("leader: %v", r)
	}
	if r.Log.FirstIndex != 1 || r.Log.LastIndex != leader.LastIndex() || r.Log.LastTerm != term || r.Log.DurableIndex == 0 ||
		r.Log.Bytes == 0 || r.Log.Segments == 0 || r.CommitIndex == 0 || r.AppliedIndex != r.CommitIndex {
		t.Errorf("log: %v, commit %d, applied %d", r.Log, r.CommitIndex, r.AppliedIndex)
	}
	if len(r.Membership.Servers) != 3 || r.Membership.Index != 1 || r.AgreedMembership != nil || r.Membership.Servers[0].Suffrage != suffrageVoter {
		t.Errorf("membership %v, agreed %v", r.Membership, r.AgreedMembership)
	}
	if r.Disk.SyncP50Seconds == 0 || r.Disk.SyncP99Seconds < r.Disk.SyncP50Seconds || r.Disk.FreeBytes == 0 {
		t.Errorf("disk %v", r.Disk)
	}
	var left *Node
	for _, n := range nodes {
		if n != leader && left == nil {
			left = n
			continue
		}
		n.cfg.Mesh.Close() // as the kernel does for a process that ended
	}
	want := "no leader for "
	eventually(t, "the last one to say why there is no leader", func() bool {
		r = left.Report(func(id uint64) string { return fmt.Sprintf("m%d", id) })
		return len(r.Troubles) > 0 && strings.HasPrefix(r.Troubles[0], want) && strings.Count(r.Troubles[0], "connection refused") == 2
	})
	if !strings.Contains(r.Troubles[0], ": 2 of 3 voters unreachable: m") || r.Leader != "" {
		t.Errorf("leader %q, %q", r.Leader, r.Troubles)
	}
}

func TestReport_words(t *testing.T) {
	voters := func() *conclavepb.RaftMembership {
		m := &conclavepb.RaftMembership{}
		for i := range 3 {
			m.Servers = append(m.Servers, &conclavepb.RaftServer{Id: hexID(uint64(i + 1)), Name: string(rune('a' + i)), Suffrage: suffrageVoter})
		}
		return m
	}
	wrong := &RefusedError{ByPeer: true, Text: "another", code: conclavepb.PeerRefusal_OTHER_CLUSTER}
	refused := fmt.Errorf("dial http://b: %w", syscall.ECONNREFUSED)
	ok := PeerStatus{ID: 2, Inbound: true}
	for name, c := range map[string]struct {
		report *conclavepb.RaftReport
		peers  []PeerStatus
		want   []string
	}{
		"well": {&conclavepb.RaftReport{Role: roleLeader, Leader: "1"}, []PeerStatus{ok, {ID: 3, Outbound: true}}, nil},
		"two away": {&conclavepb.RaftReport{Role: roleCandidate, LeaderSeconds: 3.21}, []PeerStatus{{ID: 2, LastError: refused}, {ID: 3, LastError: wrong}},
			[]string{"no leader for 3.2s: 2 of 3 voters unreachable: b (connection refused), c (wrong cluster)"}},
		"one away": {&conclavepb.RaftReport{Role: roleFollower, Leader: "2"}, []PeerStatus{ok, {ID: 3, LastError: errors.New("odd")}},
			[]string{"1 of 3 voters unreachable: c (odd)"}},
		"election": {&conclavepb.RaftReport{Role: roleCandidate, LeaderSeconds: 90, Term: 7}, []PeerStatus{ok},
			[]string{"no leader for 1m30s, although a majority is connected: an election is under way in term 7; unreachable: c (not connected yet); ask the others too"}},
		"learner": {&conclavepb.RaftReport{MemberId: "9", Role: roleLearner, LeaderSeconds: 5}, []PeerStatus{ok, {ID: 1, Inbound: true}, {ID: 3, Inbound: true}},
			[]string{"no leader for 5s, and this member has no vote"}},
		"removed": {&conclavepb.RaftReport{Role: roleRemoved}, nil,
			[]string{"this member was removed from the cluster: delete its data directory, or add it again under a new id"}},
		"joining": {&conclavepb.RaftReport{Role: roleJoining, Membership: &conclavepb.RaftMembership{}}, nil,
			[]string{"no entry of the log has come yet: this member waits for the leader of the cluster it was added to"}},
		"silent": {&conclavepb.RaftReport{Role: roleFollower, Leader: "2", ContactSeconds: 4}, []PeerStatus{ok, {ID: 3, Inbound: true}},
			[]string{"leader 2 has not been heard of for 4s"}},
		"much": {&conclavepb.RaftReport{
			Role: roleLeader, Leader: "1", Disk: &conclavepb.RaftDisk{StuckSeconds: 3.2}, AgreedMembership: voters(), CommitIndex: 5000, AppliedIndex: 10,
			Install: &conclavepb.RaftInstall{ReceivingFrom: "2", ReceivingBytes: 3 << 20, TotalBytes: 9 << 20},
		}, []PeerStatus{ok, {ID: 3, Inbound: true}}, []string{
			"disk stuck: a write to the log has been under way for 3.2s",
			"a change of the membership is in the log and not agreed yet",
			"log behind: receiving the state of 2, 3 of 9 MiB",
			"4990 agreed entries are not applied yet",
		}},
	} {
		if c.report.Disk == nil {
			c.report.Disk = &conclavepb.RaftDisk{}
		}
		if c.report.Membership == nil {
			c.report.Membership = voters()
		}
		if c.report.MemberId == "" {
			c.report.MemberId = "1"
		}
		if got := troubles(c.report, c.peers, time.Second); strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s:\ngot  %q\nwant %q", name, got, c.want)
		}
	}
}

func TestQuantile_bounds(t *testing.T) {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h", Buckets: []float64{1, 2, 4}})
	if got := quantile(h, 0.5); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
	for range 98 {
		h.Observe(1.5)
	}
	h.Observe(3)
	h.Observe(100)
	for q, want := range map[float64]float64{0.5: 2, 0.98: 2, 0.99: 4, 1: 4} {
		if got := quantile(h, q); got != want {
			t.Errorf("%v of them: at most %v, want %v", q, got, want)
		}
	}
}
