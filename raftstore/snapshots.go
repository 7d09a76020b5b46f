package raftstore

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"
)

// errNoRestore answers requests to replace the state through raft itself.
var errNoRestore = errors.New("raftstore: the state is never restored through raft")

// sendAlone is how long an install waits for another one of this member to end.
// One that is still not done takes little, and must not keep a member out.
const sendAlone = 2 * time.Minute

// snapshotStore is the state file as raft sees it: how far it is, so that raft
// starts there, and its content for members that are too far behind. Raft
// stores nothing in it.
type snapshotStore struct {
	machine Machine
	slot    chan struct{} // holds one: the install that is being sent
	holds   *logHolds
	quit    <-chan struct{} // the raft instance ends
}

func (n *Node) snapshotStore(quit <-chan struct{}) snapshotStore {
	return snapshotStore{machine: n.cfg.Machine, slot: n.sending, holds: n.holds, quit: quit}
}

// List returns the one snapshot there is, or none for a new state file.
func (s snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	synced := s.machine.Synced()
	if index, _ := synced.Position(); index == 0 {
		return nil, nil
	}
	return []*raft.SnapshotMeta{metaOf(synced)}, nil
}

func metaOf(at Synced) *raft.SnapshotMeta {
	index, term := at.Position()
	confIndex, conf := at.Membership()
	return &raft.SnapshotMeta{
		Version:            raft.SnapshotVersionMax,
		ID:                 "state",
		Index:              index,
		Term:               term,
		Configuration:      encodeConfiguration(conf),
		ConfigurationIndex: confIndex,
	}
}

// Create is never asked for: the log is truncated beside raft, see truncation.
func (s snapshotStore) Create(raft.SnapshotVersion, uint64, uint64, raft.Configuration, uint64, raft.Transport) (raft.SnapshotSink, error) {
	return nil, raft.ErrNothingNewToSnapshot
}

// Open yields the state file as it is now: what is said of it and its content
// are of one transaction. It waits while another member is being sent one.
func (s snapshotStore) Open(string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	release, err := s.turn()
	if err != nil {
		return nil, nil, err
	}
	synced, _ := s.machine.Synced().Position()
	held := s.holds.hold(synced) // the snapshot is of that position or a later one
	snapshot, err := s.machine.Snapshot()
	if err != nil {
		s.holds.release(held, false)
		release()
		return nil, nil, fmt.Errorf("open a snapshot of the state: %w", err)
	}
	meta := metaOf(snapshot)
	meta.Size = snapshot.Size()
	s.holds.sized(held, meta.Size)
	return meta, newSnapshotReader(snapshot, func(read bool) {
		s.holds.release(held, read)
		release()
	}), nil
}

// turn returns when no other install is being sent, or for too long.
func (s snapshotStore) turn() (release func(), err error) {
	patience := time.NewTimer(sendAlone)
	defer patience.Stop()
	select {
	case s.slot <- struct{}{}:
		return func() { <-s.slot }, nil
	case <-patience.C:
		return func() {}, nil
	case <-s.quit:
		return nil, raft.ErrRaftShutdown
	}
}

// snapshotReader reads a Snapshot, which writes itself from a goroutine that
// Close ends and waits for.
type snapshotReader struct {
	pipe     *io.PipeReader
	snapshot Snapshot
	written  chan struct{}
	ended    func(read bool)
	read     bool
}

// newSnapshotReader begins to read. Ended is told whether anybody did.
func newSnapshotReader(snapshot Snapshot, ended func(read bool)) *snapshotReader {
	r, w := io.Pipe()
	s := &snapshotReader{pipe: r, snapshot: snapshot, written: make(chan struct{}), ended: ended}
	go func() {
		defer close(s.written)
		_, err := snapshot.WriteTo(w)
		w.CloseWithError(err)
	}()
	return s
}

func (s *snapshotReader) Read(p []byte) (int, error) {
	s.read = true
	return s.pipe.Read(p)
}

// Close ends the reading wherever it is.
func (s *snapshotReader) Close() error {
	_ = s.pipe.Close() // documented to return nil
	<-s.written
	err := s.snapshot.Close()
	s.ended(s.read)
	return err
}
