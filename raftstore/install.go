package raftstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// drainAfter is how long the file that an install replaced stays open for those
// who read it.
const drainAfter = 10 * time.Second

var (
	errNewerSnapshot = errors.New("raftstore: a newer snapshot came")
	errOtherFile     = errors.New("raftstore: received state file is at another position than was said")
)

// installer receives snapshots of the state, beside raft: raft's own install
// blocks its main loop, and writes metadata and content separately, so that a
// crash between them loses the state. One is received at a time, on one
// goroutine:
//
//	stage   the content goes to a file beside the state, synced and checked
//	prepare the Machine loads it, while the old state still serves
//	swap    with raft stopped, in the steps of swap.steps
//
// Until the intent is written the old state is whole, and a crash leaves at
// most a staged file that Recover removes. From then on the only way is forward.
type installer struct {
	node  *Node
	log   zerolog.Logger
	wake  chan struct{} // holds one: there is a next one
	count prometheus.Gauge
	// drained is closed when no replaced file is open; run's goroutine's.
	drained chan struct{}

	mu            sync.Mutex
	current, next *arriving
}

func newInstaller(n *Node) *installer {
	in := &installer{
		node:    n,
		log:     n.cfg.Log,
		wake:    make(chan struct{}, 1),
		drained: closedChan,
		count: registered(n.cfg.Registry, prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "etcd", Subsystem: "server", Name: "snapshot_apply_in_progress_total",
			Help: "1 if this member is installing a snapshot.",
		})),
	}
	n.cfg.Mesh.installs.Store(in)
	return in
}

// run receives one snapshot after the other until the node stops.
func (in *installer) run() {
	defer in.node.cfg.Mesh.installs.CompareAndSwap(in, nil)
	for {
		select {
		case <-in.wake:
			if a := in.take(); a != nil {
				in.serve(a)
			}
		case <-in.node.ctx.Done():
			return
		}
	}
}

// take makes the next snapshot the current one.
func (in *installer) take() *arriving {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.current, in.next = in.next, nil
	return in.current
}

// serve receives one snapshot and answers its sender.
func (in *installer) serve(a *arriving) {
	in.count.Set(1)
	defer in.count.Set(0)
	resp, err := in.receive(a)
	in.mu.Lock()
	in.current = nil
	in.mu.Unlock()
	a.cancel(errNewerSnapshot)
	if err != nil {
		in.log.Warn().Err(err).Str("peer", a.peer.text).Uint64("index", a.req.LastLogIndex).Msg("snapshot was not installed")
		a.peer.answer(a.id, nil, err)
		return
	}
	payload, err := encodeReply(nil, resp)
	a.peer.answer(a.id, payload, err)
}

// receive does all of an install. Resp is the answer, err a failure that the
// sender may try again after.
func (in *installer) receive(a *arriving) (resp *raft.InstallSnapshotResponse, err error) {
	if resp := in.settled(a.req); resp != nil {
		return resp, nil
	}
	staged, err := in.stage(a)
	if staged != nil {
		defer func() {
			if !a.final {
				err = errors.Join(err, removeFile(staged.path))
			}
		}()
	}
	if err != nil {
		return nil, err
	}
	select { // one replaced file at a time
	case <-in.drained:
	case <-a.ctx.Done():
		return nil, context.Cause(a.ctx)
	}
	start := time.Now()
	prepared, err := in.prepare(a.req, staged)
	if err != nil {
		return nil, err
	}
	in.log.Info().Dur("took", time.Since(start)).Uint64("index", a.req.LastLogIndex).Msg("loaded the received state")
	return in.swap(a, staged, prepared)
}

// prepare loads the staged file, which must be what the sender announced.
func (in *installer) prepare(req *raft.InstallSnapshotRequest, staged *stagedFile) (Prepared, error) {
	prepared, err := in.node.cfg.Machine.Prepare(staged.path)
	if err != nil {
		return nil, fmt.Errorf("load the received state: %w", err)
	}
	index, term := prepared.Position()
	if index != req.LastLogIndex || term != req.LastLogTerm {
		return nil, errors.Join(fmt.Errorf("%w: index %d of term %d, not %d of term %d",
			errOtherFile, index, term, req.LastLogIndex, req.LastLogTerm), prepared.Close())
	}
	return prepared, nil
}

// settled answers a snapshot that must not, or need not, be installed: of an
// old term; not newer than what is applied here; or one whose last entry is in
// the log here. In that case the log is kept (section 7 of the Raft paper):
// entries that follow may have been acknowledged.
func (in *installer) settled(req *raft.InstallSnapshotRequest) *raft.InstallSnapshotResponse {
	n := in.node
	term := n.Term()
	if req.Term < term {
		in.log.Info().Uint64("term", req.Term).Uint64("current-term", term).Msg("refused a snapshot of an old term")
		return &raft.InstallSnapshotResponse{Term: term}
	}
	n.raft().transport.commits.follow(req.Term)
	done := &raft.InstallSnapshotResponse{Term: req.Term, Success: true}
	var entry raft.Log
	if req.LastLogIndex <= n.cfg.Machine.Applied() {
		return done
	}
	if n.logs.GetLog(req.LastLogIndex, &entry) != nil || entry.Term != req.LastLogTerm {
		return nil
	}
	if n.logs.AwaitDurable(req.LastLogIndex, n.ctx.Done()) != nil {
		return nil // the process is ending
	}
	return done
}

// swap puts the staged file in place of the state, unless raft has moved on
// meanwhile.
func (in *installer) swap(a *arriving, staged *stagedFile, prepared Prepared) (*raft.InstallSnapshotResponse, error) {
	in.mu.Lock()
	if a.ctx.Err() != nil {
		in.mu.Unlock()
		return nil, errors.Join(context.Cause(a.ctx), prepared.Close())
	}
	a.final = true // nothing replaces it any more
	in.mu.Unlock()

	s := &swap{
		state: in.node.cfg.State, log: in.node.logs, prepared: prepared, term: a.req.Term,
		intent: intent{Index: a.req.LastLogIndex, Term: a.req.LastLogTerm, Size: staged.size, Sum: staged.sum},
	}
	var resp *raft.InstallSnapshotResponse
	var refused error
	err := in.node.restart(fmt.Sprintf("installing the state at index %d", s.intent.Index), func() error {
		if resp = in.settled(a.req); resp != nil {
			return nil
		}
		if refused = perform(s.announce(), in.node.cfg.afterStep); refused != nil {
			return s.retract()
		}
		return perform(s.steps(), in.node.cfg.afterStep)
	})
	if s.drain == nil { // nothing was swapped
		err = errors.Join(err, refused, prepared.Close())
		if !s.announced {
			err = errors.Join(err, removeFile(staged.path))
		}
		return resp, err
	}
	in.release(s.drain)
	if err != nil {
		return nil, err
	}
	in.log.Info().Uint64("index", s.intent.Index).Uint64("term", s.intent.Term).Msg("installed a state from the leader")
	return &raft.InstallSnapshotResponse{Term: a.req.Term, Success: true}, nil
}

// release closes the file that was replaced, later.
func (in *installer) release(drain func() error) {
	drained := make(chan struct{})
	in.drained = drained
	in.node.work.Go(func() {
		defer close(drained)
		pause(in.node.ctx, drainAfter)
		if err := drain(); err != nil {
			in.log.Warn().Err(err).Msg("closing the state file that was replaced")
		}
	})
}

// removeFile removes a file that may not exist.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
