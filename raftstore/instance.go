package raftstore

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// instance is one run of raft over the node's log and Machine. A node has one
// after the other: an install, or a transfer of leadership that got stuck, ends
// one and starts the next.
type instance struct {
	*raft.Raft
	transport *Transport
	observer  *raft.Observer
	quit      chan struct{}   // closed before raft is stopped
	ended     context.Context // until raft has stopped
	end       context.CancelFunc
	stopping  sync.Once
	stopped   error // set by stopping
}

// start makes and starts the next instance, from what is in the log and in the
// Machine.
func (n *Node) start() error {
	in := &instance{transport: n.cfg.Mesh.Transport(local{n.logs, n}), quit: make(chan struct{})}
	in.ended, in.end = context.WithCancel(context.Background())
	fsm := &applier{
		machine:   n.cfg.Machine,
		durable:   func(index uint64) error { return n.logs.AwaitDurable(index, in.quit) },
		committed: n.onCommit,
		changed:   n.onMembership,
		metrics:   n.metrics,
		log:       n.cfg.Log,
	}
	r, err := raft.NewRaft(n.raftConfig(), fsm, n.logs, n.logs, n.snapshotStore(in.quit), in.transport)
	if err != nil {
		in.end()
		return fmt.Errorf("start raft: %w", err)
	}
	in.Raft = r
	in.observer = raft.NewObserver(nil, false, n.leaders.observe)
	r.RegisterObserver(in.observer)
	n.current.Store(in)
	in.transport.serve()
	n.leaders.wake()
	return nil
}

// stop ends raft; the instance still answers what it last knew. A node whose
// restart failed stops its instance a second time when it is closed.
func (in *instance) stop() error {
	in.stopping.Do(func() {
		in.DeregisterObserver(in.observer)
		close(in.quit)
		ending := in.Shutdown()
		in.transport.abandon()
		in.stopped = ending.Error()
		in.end()
	})
	return in.stopped
}

// local is the node as its transport sees it.
type local struct {
	*logStore
	node *Node
}

// Term is the newest term this member has seen.
func (l local) Term() uint64 {
	if r := l.node.raft(); r != nil {
		return r.CurrentTerm()
	}
	return 0
}

// SilentLeader is the leader that this member knows and has not heard of for as
// long as the shortest election timer lasts. A candidate may know one, too: one
// that was asked to stand at once stays a candidate of the term whose leader it
// hears of, and raft has no timer by which it forgets that leader.
func (l local) SilentLeader() raft.ServerAddress {
	r := l.node.raft()
	if r == nil || r.State() == raft.Leader || time.Since(r.LastContact()) < l.node.cfg.ElectionTimeout/2 {
		return ""
	}
	leader, _ := r.LeaderWithID()
	return leader
}

// Voter is wanted, or another voter of the newest membership.
func (l local) Voter(wanted string) string {
	r := l.node.raft()
	if r == nil {
		return ""
	}
	voter := ""
	for _, s := range r.GetConfiguration().Configuration().Servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		if voter = string(s.ID); voter == wanted {
			break
		}
	}
	return voter
}

// raft is the instance that runs now, or ran last.
func (n *Node) raft() *instance { return n.current.Load() }

// restart ends raft, runs between while nothing is applied, and starts raft
// again. After an error, which is fatal, nothing runs any more.
func (n *Node) restart(reason string, between func() error) error {
	select {
	case n.instances <- struct{}{}:
		defer func() { <-n.instances }()
	case <-n.ctx.Done():
		return ErrStopped
	}
	if n.ctx.Err() != nil {
		return ErrStopped
	}
	n.cfg.Log.Info().Str("reason", reason).Msg("starting raft anew")
	err := n.raft().stop()
	if err == nil && between != nil {
		err = between()
	}
	if err == nil {
		err = n.start()
	}
	if err != nil {
		err = fmt.Errorf("start raft anew (%s): %w", reason, err)
		if n.cfg.Fatal != nil {
			n.cfg.Fatal(err)
		}
		return err
	}
	if index, conf := n.cfg.Machine.Synced().Membership(); index > n.members.at() {
		n.members.agreed(index, conf) // of an installed state
	}
	n.namePeers(n.configuration())
	n.reads.applied(n.cfg.Machine.Applied())
	return nil
}

// configuration is the newest membership in raft's form, agreed or not.
func (n *Node) configuration() raft.Configuration {
	return n.raft().GetConfiguration().Configuration()
}

func (n *Node) raftConfig() *raft.Config {
	return &raft.Config{
		ProtocolVersion:          raft.ProtocolVersionMax,
		LocalID:                  serverID(n.cfg.Self),
		HeartbeatTimeout:         n.cfg.ElectionTimeout / 2,
		LeaderLeaseTimeout:       n.cfg.ElectionTimeout / 2,
		ElectionTimeout:          n.cfg.ElectionTimeout,
		CommitTimeout:            commitTimeout(n.cfg.ElectionTimeout),
		MaxAppendEntries:         maxAppendEntries,
		BatchApplyCh:             true,
		TrailingLogs:             math.MaxUint64,
		SnapshotInterval:         24 * time.Hour,
		SnapshotThreshold:        math.MaxUint64,
		NoSnapshotRestoreOnStart: true,
		PreVoteDisabled:          !n.cfg.PreVote,
		NoLegacyTelemetry:        true,
		Logger:                   newRaftLogger(n.cfg.Log, "raft"),
	}
}

// onCommit runs on raft's apply goroutine after each batch was published.
func (n *Node) onCommit(index uint64) {
	n.cfg.Mesh.PushCommit(index)
	n.reads.applied(index)
}

// onMembership runs on raft's apply goroutine.
func (n *Node) onMembership(index uint64, conf *conclavepb.Configuration) {
	n.members.agreed(index, conf)
	n.namePeers(encodeConfiguration(conf))
}

// namePeers tells the mesh whom to dial. A membership without this member leaves
// it as it is: it is one of the time before this member was added, which its log
// brings it through while it joins, or the one by which it was removed.
func (n *Node) namePeers(conf raft.Configuration) {
	for _, s := range conf.Servers {
		if s.ID == serverID(n.cfg.Self) {
			n.cfg.Mesh.SetPeers(peerURLs(conf, n.cfg.Self))
			return
		}
	}
}
