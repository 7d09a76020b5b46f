package raftstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

var (
	// ErrNotLeader: this member does not lead the term; nothing was proposed.
	ErrNotLeader = errors.New("raftstore: not the leader of that term")
	// ErrUnknownOutcome: the proposal may or may not be agreed. Nothing will
	// be decided about it once a command of a later term was applied.
	ErrUnknownOutcome = errors.New("raftstore: outcome of the proposal is unknown")
	// ErrStopped: the node is closed.
	ErrStopped = errors.New("raftstore: node is stopped")
)

// Limits of raft's own batching. Entries are batches of requests already, so
// few of them make a full message.
const (
	maxAppendEntries = 16
	commitTimeout    = 50 * time.Millisecond
)

// MaxEntry is the largest proposal in bytes. The log and the frames between
// members end at 64 MiB; the log would take a larger entry and then be
// unreadable.
const MaxEntry = 62 << 20

// Config is what a Node needs.
type Config struct {
	// Dir is the directory of the log; it is created.
	Dir string
	// Self is this member's id.
	Self uint64
	// Mesh carries all messages; the Node installs its handlers on it.
	Mesh *Mesh
	// Machine is the replicated state, already opened.
	Machine Machine
	// Bootstrap is the first membership, written only to an empty log.
	Bootstrap *conclavepb.Configuration
	// OpenTerm makes the command that opens a leader's term.
	OpenTerm func(term uint64) []byte
	// ElectionTimeout bounds how long a cluster may be without a leader
	// before it looks for one. A follower starts an election after half to a
	// whole of it.
	ElectionTimeout time.Duration
	// RequestTimeout bounds one round of confirming reads.
	RequestTimeout time.Duration
	// PreVote asks before an election whether it could be won.
	PreVote bool
	// Fatal is called once, and must not block, when the log cannot be written:
	// the process must end. May be nil.
	Fatal    func(error)
	Log      zerolog.Logger
	Registry prometheus.Registerer
}

// Node is one member's part in agreeing on a log.
type Node struct {
	cfg       Config
	raft      *raft.Raft
	transport *Transport
	logs      *logStore
	leaders   *leadership
	reads     *readRounds
	openTerm  atomic.Uint64 // newest term whose opening command was applied here
	ctx       context.Context
	cancel    context.CancelFunc
	work      sync.WaitGroup
	closing   sync.Once
	closed    error // set by closing
}

// Open opens the log, brings the Machine to the highest commit index recorded
// in it, and starts raft.
func Open(cfg Config) (*Node, error) {
	logs, err := openLogStore(cfg.Dir, cfg.Registry, cfg.Log)
	if err != nil {
		return nil, err
	}
	logs.fatal = cfg.Fatal
	n, err := open(cfg, logs)
	if err != nil {
		return nil, errors.Join(err, logs.Close())
	}
	return n, nil
}

func open(cfg Config, logs *logStore) (*Node, error) {
	if err := bootstrap(logs, cfg.Machine, cfg.Bootstrap); err != nil {
		return nil, err
	}
	if err := replay(cfg.Machine, logs, cfg.Log); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, logs: logs, transport: cfg.Mesh.Transport()}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	fsm := &applier{
		machine:   cfg.Machine,
		committed: n.onCommit,
		changed:   n.onMembership,
		log:       cfg.Log,
	}
	n.reads = newReadRounds(n)
	r, err := raft.NewRaft(n.raftConfig(), fsm, logs, logs, snapshotStore{cfg.Machine}, n.transport)
	if err != nil {
		n.cancel()
		return nil, fmt.Errorf("start raft: %w", err)
	}
	n.raft = r
	n.handleCalls()
	cfg.Mesh.SetPeers(peerURLs(r.GetConfiguration().Configuration(), cfg.Self))
	n.leaders = followLeadership(n)
	n.work.Go(n.followVacancy)
	return n, nil
}

func (n *Node) raftConfig() *raft.Config {
	return &raft.Config{
		ProtocolVersion:          raft.ProtocolVersionMax,
		LocalID:                  serverID(n.cfg.Self),
		HeartbeatTimeout:         n.cfg.ElectionTimeout / 2,
		LeaderLeaseTimeout:       n.cfg.ElectionTimeout / 2,
		ElectionTimeout:          n.cfg.ElectionTimeout,
		CommitTimeout:            commitTimeout,
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

// Propose has data agreed as an entry of the given term, and returns once the
// Machine of this member has applied it. ErrNotLeader and ErrTooLarge are
// definite; any other error leaves the outcome unknown.
func (n *Node) Propose(ctx context.Context, term uint64, data []byte) error {
	if len(data) > MaxEntry {
		return ErrTooLarge
	}
	if n.raft.State() != raft.Leader || n.raft.CurrentTerm() != term {
		return ErrNotLeader
	}
	future := n.raft.ApplyLog(raft.Log{
		Data:       data,
		Extensions: recordCommit(n.raft.CommitIndex()),
	}, n.cfg.ElectionTimeout)
	answered := make(chan error, 1)
	go func() { answered <- future.Error() }()
	select {
	case err := <-answered:
		return proposalError(err)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, ctx.Err())
	}
}

// proposalError sorts the library's errors into definite and unknown.
func proposalError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader),
		errors.Is(err, raft.ErrEnqueueTimeout),
		errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrNotLeader
	default:
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
}

// onCommit runs on raft's apply goroutine after each batch was published.
func (n *Node) onCommit(index uint64) {
	n.cfg.Mesh.PushCommit(index)
	n.reads.applied(index)
}

// onMembership runs on raft's apply goroutine.
func (n *Node) onMembership(conf *conclavepb.Configuration) {
	n.cfg.Mesh.SetPeers(peerURLs(encodeConfiguration(conf), n.cfg.Self))
}

// Membership is the newest membership in the log, which may not be agreed yet.
func (n *Node) Membership() *conclavepb.Configuration {
	conf, err := decodeConfiguration(n.raft.GetConfiguration().Configuration())
	if err != nil {
		n.cfg.Log.Panic().Err(err).Msg("membership is unreadable")
	}
	return conf
}

// CommitIndex is the highest index known here to be agreed.
func (n *Node) CommitIndex() uint64 { return n.raft.CommitIndex() }

// Term is the newest term this member has seen.
func (n *Node) Term() uint64 { return n.raft.CurrentTerm() }

// LastIndex is the index of the last entry in this member's log.
func (n *Node) LastIndex() uint64 { return n.raft.LastIndex() }

// Close hands leadership over if this member leads and somebody can take it,
// stops raft, and closes the log. It returns when all goroutines have ended.
// Only the first call counts.
func (n *Node) Close() error {
	n.closing.Do(func() { n.closed = n.close() })
	return n.closed
}

func (n *Node) close() error {
	if n.raft.State() == raft.Leader && len(voters(n.raft.GetConfiguration().Configuration())) > 1 {
		if err := n.raft.LeadershipTransfer().Error(); err != nil {
			n.cfg.Log.Warn().Err(err).Msg("leadership was not handed over before the stop")
		}
	}
	n.cancel()
	n.work.Wait()
	err := n.raft.Shutdown().Error()
	n.leaders.stop()
	n.reads.stop()
	return errors.Join(err, n.logs.Close())
}
