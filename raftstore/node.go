package raftstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
	// minCommitTimeout is a floor below which idle followers would be told of
	// commits more often than they can have missed one: pushes tell them at
	// once, and this is for a push that was lost.
	minCommitTimeout = 50 * time.Millisecond
)

// commitTimeout is after how long without a new entry, at least and at most twice
// as long, raft sends to a follower by itself.
func commitTimeout(election time.Duration) time.Duration {
	return max(election/4, minCommitTimeout)
}

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
	// Join says that this member was added to a running cluster: an empty log
	// is filled by its leader, and Bootstrap is not used. The Mesh must know the
	// peers already, and goes by them until the log says that this member is one.
	Join bool
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
	// State is the path of the Machine's state file. Beside it is staged what
	// the leader sends of its own. Without it no snapshots are taken.
	State string
	// SnapshotCount is how many entries the state file has to have more than at
	// the last truncation for the log to be truncated again. 0 keeps all of it.
	SnapshotCount uint64
	// SnapshotCatchUpEntries is how many entries stay in the log for members
	// that are a little behind, if they are not more than 64 MiB.
	SnapshotCatchUpEntries uint64
	// SlowApply is how long a group of entries may take to be applied before that is
	// counted and logged. Zero means 100 ms, as in etcd.
	SlowApply time.Duration
	// Fatal is called once, and must not block, when the log cannot be written:
	// the process must end. May be nil.
	Fatal    func(error)
	Log      zerolog.Logger
	Registry prometheus.Registerer

	logs      *logStore         // instead of the one in Dir; for tests
	afterStep func(name string) // told of each step of an install; for tests
	// truncateEvery and holdAfter are other times than those of these names;
	// for tests.
	truncateEvery, holdAfter time.Duration
}

// Node is one member's part in agreeing on a log.
type Node struct {
	cfg      Config
	logs     *logStore
	leaders  *leadership
	members  *membership
	reads    *readRounds
	metrics  *nodeMetrics
	openTerm atomic.Uint64 // newest term whose opening command was applied here
	// confirmFirst tells which voter confirmLead asks first.
	confirmFirst atomic.Uint64

	// instances is full while one instance of raft gives way to the next.
	instances chan struct{}
	current   atomic.Pointer[instance]
	transfer  transferWatch
	othersLow atomic.Bool                // see Full
	hung      atomic.Pointer[Leadership] // the leader that told so; see vacancy
	refused   atomic.Pointer[refusal]
	// stateSpace is of the state file's disk, where that is another.
	stateSpace spaceWatch
	installs   *installer
	sending    chan struct{} // holds one: an install is being sent
	holds      *logHolds

	ctx     context.Context
	cancel  context.CancelFunc
	work    sync.WaitGroup
	closing sync.Once
	closed  error // set by closing
}

// Open opens the log, brings the Machine to the highest commit index recorded
// in it, and starts raft.
func Open(cfg Config) (*Node, error) {
	registered[prometheus.Collector](cfg.Registry, raftMetrics())
	logs := cfg.logs
	if logs == nil {
		var err error
		if logs, err = openLogStore(cfg.Dir, cfg.Registry, cfg.Log); err != nil {
			return nil, err
		}
	}
	logs.fatal, logs.async = cfg.Fatal, true
	n, err := open(cfg, logs)
	if err != nil {
		return nil, errors.Join(err, logs.Close())
	}
	return n, nil
}

func open(cfg Config, logs *logStore) (*Node, error) {
	if err := bootstrap(logs, cfg.Machine, cfg.Bootstrap, cfg.Join); err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, logs: logs, members: newMembership(cfg.Self, cfg.Machine),
		instances: make(chan struct{}, 1), sending: make(chan struct{}, 1), metrics: newNodeMetrics(&cfg),
		holds: newLogHolds(cmp.Or(cfg.holdAfter, holdAfter)),
	}
	if err := replay(cfg.Machine, logs, n.members.agreed, cfg.Log); err != nil {
		return nil, err
	}
	n.watchState()
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.reads = newReadRounds(n)
	n.leaders = newLeadership(n)
	cfg.Mesh.Watch(n.leads)
	if err := n.start(); err != nil {
		n.cancel()
		return nil, err
	}
	n.handleCalls() // peers are connected already, and ask at once
	n.namePeers(n.configuration())
	n.installs = newInstaller(n)
	for _, run := range []func(){
		n.leaders.run, n.followVacancy, n.followExcluded, n.followPending, n.followRemoval, n.followDisk, n.followSpace, n.installs.run, n.truncateLog,
	} {
		n.work.Go(run)
	}
	return n, nil
}

// Propose has data agreed as an entry of the given term, and returns once the
// Machine of this member has applied it. ErrNotLeader, which is also the answer
// where ctx ends before raft has taken it, and ErrTooLarge are definite; any other
// error leaves the outcome unknown.
func (n *Node) Propose(ctx context.Context, term uint64, data []byte) error {
	if len(data) > MaxEntry {
		return ErrTooLarge
	}
	r := n.raft()
	if r.State() != raft.Leader || r.CurrentTerm() != term {
		return ErrNotLeader
	}
	room := n.cfg.ElectionTimeout // how long the library may wait for room in its queue
	if deadline, ok := ctx.Deadline(); ok {
		room = min(room, time.Until(deadline))
	}
	if room <= 0 || ctx.Err() != nil { // it would wait for ever
		return ErrNotLeader
	}
	future := r.ApplyLog(raft.Log{
		Data:       data,
		Extensions: recordCommit(n.CommitIndex()),
	}, room)
	err := r.answer(ctx, future)
	n.noteTransfer(err)
	if err == nil && n.cfg.Machine.Applied() < future.Index() {
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, ErrStopped) // raft was stopped before it was applied
	}
	return proposalError(err)
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

// CommitIndex is the highest index that is agreed and, here, durable. Nothing
// beyond it is told to anybody: see logStore.
func (n *Node) CommitIndex() uint64 { return min(n.raft().CommitIndex(), n.logs.Durable()) }

// Term is the newest term this member has seen.
func (n *Node) Term() uint64 { return n.raft().CurrentTerm() }

// LastIndex is the index of the last entry in this member's log.
func (n *Node) LastIndex() uint64 { return n.raft().LastIndex() }

// Stuck is how long the write to the log that is under way has taken so far; 0
// when there is none.
func (n *Node) Stuck() time.Duration { return n.logs.Stuck() }

// Close hands leadership over if this member leads and somebody can take it,
// stops raft, and closes the log. It returns when all goroutines have ended.
// Only the first call counts.
func (n *Node) Close() error {
	n.closing.Do(func() { n.closed = n.close() })
	return n.closed
}

func (n *Node) close() error {
	if err := n.handOver(); err != nil {
		n.cfg.Log.Warn().Err(err).Msg("leadership was not handed over before the stop")
	}
	n.cancel()
	n.work.Wait()
	n.instances <- struct{}{}
	defer func() { <-n.instances }()
	err := n.raft().stop()
	n.leaders.opening.Wait()
	n.reads.stop()
	return errors.Join(err, n.logs.Close())
}
