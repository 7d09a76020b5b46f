package member

import (
	"context"
	"io"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/internal/version"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// maxSnapshots is how many clients may read a snapshot of this member at once:
// each may keep disk space, and all of them share the disk with writes.
const maxSnapshots = 4

// Snapshot is a copy of the state file for a client to read at its own pace. A
// read after the member had to give it up says why. Close may be called beside
// Read.
type Snapshot interface {
	// Size is how many bytes there are to read, exactly.
	Size() int64
	// Version is the storage version in the file.
	Version() string
	io.ReadCloser
}

// Snapshot opens a copy of this member's state that holds every write which was
// acknowledged anywhere before the call. Where there is no leader to confirm
// that, it is what this member has: a backup must be had from the last member
// left, too. Error: ErrTooManySnapshots.
func (m *Member) Snapshot(ctx context.Context) (Snapshot, error) {
	if m.snapshots.Add(1) > maxSnapshots {
		m.snapshots.Add(-1)
		return nil, ErrTooManySnapshots
	}
	s, err := m.openSnapshot(ctx)
	if err != nil {
		m.snapshots.Add(-1)
		return nil, err
	}
	return s, nil
}

func (m *Member) openSnapshot(ctx context.Context) (Snapshot, error) {
	if m.Leader() == 0 {
		m.cfg.Log.Warn().Msg("snapshot without a leader: it is what this member has")
	} else if err := m.linearizeWithin(ctx); err != nil {
		if ctx.Err() != nil || m.ctx.Err() != nil {
			return nil, err
		}
		m.cfg.Log.Warn().Err(err).Msg("snapshot without a confirmed leader: it is what this member has")
	}
	if err := m.flush(ctx); err != nil {
		return nil, err
	}
	b, err := m.machine.Backup()
	if err != nil {
		return nil, err
	}
	return &snapshot{Backup: b, m: m}, nil
}

func (m *Member) linearizeWithin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.RequestTimeout)
	defer cancel()
	return m.linearize(ctx)
}

// flush returns when the state file holds everything that is applied by now.
func (m *Member) flush(ctx context.Context) error {
	applied := m.machine.Applied()
	m.committer.flush()
	return m.committer.await(ctx, func() bool {
		index, _ := m.machine.Synced().Position()
		return index >= applied
	})
}

// Hash is a checksum of everything this member has applied.
func (m *Member) Hash(ctx context.Context) (*pb.HashResponse, error) {
	if err := m.hashing.enter(ctx); err != nil {
		return nil, err
	}
	defer m.hashing.leave()
	if err := m.flush(ctx); err != nil {
		return nil, err
	}
	revision := m.View().KV.Rev()
	start := time.Now()
	sum, err := m.machine.Hash()
	m.metrics.hash.Observe(time.Since(start).Seconds())
	if err != nil {
		return nil, err
	}
	return &pb.HashResponse{Header: m.Header(revision), Hash: sum}, nil
}

// HashKV is a checksum of the history up to a revision, 0 for the newest that
// this member has. Equal histories have equal ones, here and in etcd.
func (m *Member) HashKV(ctx context.Context, revision int64) (*pb.HashKVResponse, error) {
	if err := m.hashing.enter(ctx); err != nil {
		return nil, err
	}
	defer m.hashing.leave()
	start := time.Now()
	h, err := m.machine.HashKV(revision)
	m.metrics.hashRev.Observe(time.Since(start).Seconds())
	if err != nil {
		return nil, err
	}
	return &pb.HashKVResponse{
		Header:          m.Header(h.CurrentRev),
		Hash:            h.Sum,
		CompactRevision: h.CompactRev,
		HashRevision:    h.Revision,
	}, nil
}

// turns lets one request at a time through: hashing reads the whole file.
type turns chan struct{}

func (t turns) enter(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return contextError(ctx)
	}
}

func (t turns) leave() { <-t }

// snapshot counts as one that is being read until it is closed.
type snapshot struct {
	*fsm.Backup
	m      *Member
	closed sync.Once
}

func (s *snapshot) Version() string { return version.Storage }

func (s *snapshot) Close() error {
	s.closed.Do(func() { s.m.snapshots.Add(-1) })
	return s.Backup.Close()
}
