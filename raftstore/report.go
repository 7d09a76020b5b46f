package raftstore

import (
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// Where raft keeps its vote in the stable store.
var (
	keyLastVoteTerm = []byte("LastVoteTerm")
	keyLastVoteCand = []byte("LastVoteCand")
)

// Names of roles and of kinds of members in a report.
const (
	roleLeader    = "leader"
	roleFollower  = "follower"
	roleCandidate = "candidate"
	roleLearner   = "learner"
	rolePending   = "pending"
	roleRemoved   = "removed"
	roleJoining   = "joining" // no membership with this member in it has come yet
	roleStopped   = "stopped"
	suffrageVoter = "voter"
)

// Report says how this member sees itself and the others, for an operator. It
// asks nobody, and while the disk hangs it leaves out what is only there. name
// gives the name of a member, "" where none is known.
func (n *Node) Report(name func(id uint64) string) *conclavepb.RaftReport {
	in := n.raft()
	lead, since := n.leaders.known()
	stuck := n.logs.Stuck()
	agreedIndex, agreed := n.Membership()
	newest := agreed
	if conf, err := decodeConfiguration(n.configuration()); err == nil {
		newest = conf
	}
	stateIndex, stateTerm := n.cfg.Machine.Synced().Position()
	r := &conclavepb.RaftReport{
		MemberId:      hexID(n.cfg.Self),
		Name:          name(n.cfg.Self),
		Role:          n.role(in, newest),
		Term:          in.CurrentTerm(),
		Leader:        hexID(lead.Leader),
		LeaderSeconds: time.Since(since).Seconds(),
		Log:           n.logReport(stuck == 0),
		CommitIndex:   n.CommitIndex(),
		AppliedIndex:  n.cfg.Machine.Applied(),
		StateIndex:    stateIndex,
		StateTerm:     stateTerm,
		Membership:    membershipReport(0, newest, name),
		Install:       n.installs.report(),
		Disk:          n.diskReport(stuck),
	}
	if contact := in.LastContact(); lead.Leader != n.cfg.Self && !contact.IsZero() {
		r.ContactSeconds = time.Since(contact).Seconds()
	}
	if sameMembership(newest, agreed) {
		r.Membership.Index = agreedIndex
	} else {
		r.AgreedMembership = membershipReport(agreedIndex, agreed, name)
	}
	if stuck == 0 {
		r.VotedFor, r.VotedTerm = votedFor(n.logs)
	}
	peers := n.cfg.Mesh.Peers()
	for _, p := range peers {
		r.Peers = append(r.Peers, peerReport(p, in.transport.commits.acked(p.ID)))
	}
	r.Troubles = troubles(r, peers, n.cfg.ElectionTimeout)
	return r
}

// role names what this member is at present.
func (n *Node) role(in *instance, newest *conclavepb.Configuration) string {
	select {
	case <-n.Gone():
		return roleRemoved
	default:
	}
	switch self := serverOf(newest, n.cfg.Self); {
	case self == nil:
		return roleJoining
	case self.Pending:
		return rolePending
	case self.Learner:
		return roleLearner
	}
	switch in.State() {
	case raft.Leader:
		return roleLeader
	case raft.Candidate:
		return roleCandidate
	case raft.Follower:
		return roleFollower
	default:
		return roleStopped
	}
}

// logReport is what the log holds; segments are counted on disk.
func (n *Node) logReport(disk bool) *conclavepb.RaftLog {
	first, last, bytes := n.logs.Span()
	r := &conclavepb.RaftLog{
		FirstIndex: first, LastIndex: last, Bytes: bytes,
		DurableIndex: n.logs.Durable(), StartIndex: n.logs.Start(),
	}
	if disk {
		r.Segments = segments(n.cfg.Dir)
		r.LastTerm = termAt(n.logs, last)
	}
	return r
}

// termAt is the term of an entry, 0 if it is not there.
func termAt(logs raft.LogStore, index uint64) uint64 {
	var entry raft.Log
	if index == 0 || logs.GetLog(index, &entry) != nil {
		return 0
	}
	return entry.Term
}

// segments counts the files that raft-wal keeps entries in.
func segments(dir string) int32 {
	found, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil {
		return 0
	}
	return int32(len(found))
}

// votedFor is the newest vote, "" if none was given.
func votedFor(stable raft.StableStore) (id string, term uint64) {
	raw, err := stable.Get(keyLastVoteCand)
	if err != nil || len(raw) == 0 {
		return "", 0
	}
	if term, err = stable.GetUint64(keyLastVoteTerm); err != nil {
		return "", 0
	}
	number, err := memberID(string(raw))
	if err != nil {
		return "", 0
	}
	return hexID(number), term
}

func (n *Node) diskReport(stuck time.Duration) *conclavepb.RaftDisk {
	r := &conclavepb.RaftDisk{StuckSeconds: stuck.Seconds()}
	r.SyncP50Seconds, r.SyncP99Seconds = quantile(n.logs.meters.fsync, 0.5), quantile(n.logs.meters.fsync, 0.99)
	if stuck == 0 && n.cfg.Dir != "" {
		r.FreeBytes, _ = freeSpace(n.cfg.Dir) // 0 where it is unknown
	}
	return r
}

// freeSpace is what a user may still write to the file system of a directory, in
// bytes. It may block while the disk hangs.
func freeSpace(dir string) (int64, error) {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(dir, &disk); err != nil {
		return 0, err
	}
	return int64(disk.Bavail) * int64(disk.Bsize), nil //nolint:unconvert // other systems have other types
}

// quantile is the upper bound of the histogram's bucket that q falls into; 0
// when nothing was observed.
func quantile(h prometheus.Histogram, q float64) float64 {
	var m dto.Metric
	if err := h.Write(&m); err != nil {
		return 0
	}
	count := m.GetHistogram().GetSampleCount()
	buckets := m.GetHistogram().GetBucket()
	for _, b := range buckets {
		if count > 0 && float64(b.GetCumulativeCount()) >= q*float64(count) {
			return b.GetUpperBound()
		}
	}
	if count > 0 && len(buckets) > 0 {
		return buckets[len(buckets)-1].GetUpperBound() // or more
	}
	return 0
}

func membershipReport(index uint64, conf *conclavepb.Configuration, name func(uint64) string) *conclavepb.RaftMembership {
	r := &conclavepb.RaftMembership{Index: index}
	for _, s := range conf.GetServers() {
		suffrage := suffrageVoter
		switch {
		case s.Pending:
			suffrage = rolePending
		case s.Learner:
			suffrage = roleLearner
		}
		r.Servers = append(r.Servers, &conclavepb.RaftServer{Id: hexID(s.Id), Name: name(s.Id), PeerUrls: s.PeerUrls, Suffrage: suffrage})
	}
	return r
}

// sameMembership compares two memberships as raft would write them.
func sameMembership(a, b *conclavepb.Configuration) bool {
	return string(raft.EncodeConfiguration(encodeConfiguration(a))) == string(raft.EncodeConfiguration(encodeConfiguration(b)))
}

func peerReport(p PeerStatus, acked uint64) *conclavepb.RaftPeer {
	r := &conclavepb.RaftPeer{
		Id: hexID(p.ID), Inbound: p.Inbound, Outbound: p.Outbound,
		RoundTripSeconds: p.RTT.Seconds(), ClockSkewSeconds: p.Skew.Seconds(), AckedIndex: acked,
	}
	if !p.Since.IsZero() {
		r.ConnectedSeconds = time.Since(p.Since).Seconds()
	}
	if p.LastError != nil {
		r.Error = p.LastError.Error()
	}
	return r
}

// hexID is how members are shown to people; "" for none.
func hexID(id uint64) string {
	if id == 0 {
		return ""
	}
	return strconv.FormatUint(id, 16)
}
