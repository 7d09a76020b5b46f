package raftstore

import (
	"errors"
	"io"

	"github.com/hashicorp/raft"
)

// errNoRestore answers requests to replace the state through raft itself.
var errNoRestore = errors.New("raftstore: the state is never restored through raft")

// snapshotStore tells raft how far the state file is, so that raft starts
// there. It holds no data: the state file itself is the snapshot.
type snapshotStore struct {
	machine Machine
}

// List returns the one snapshot there is, or none for a new state file.
func (s snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	synced := s.machine.Synced()
	index, term := synced.Position()
	if index == 0 {
		return nil, nil
	}
	confIndex, conf := synced.Membership()
	return []*raft.SnapshotMeta{{
		Version:            raft.SnapshotVersionMax,
		ID:                 "state",
		Index:              index,
		Term:               term,
		Configuration:      encodeConfiguration(conf),
		ConfigurationIndex: confIndex,
	}}, nil
}

// Create is never asked for: the log is kept whole.
func (s snapshotStore) Create(raft.SnapshotVersion, uint64, uint64, raft.Configuration, uint64, raft.Transport) (raft.SnapshotSink, error) {
	return nil, raft.ErrNothingNewToSnapshot
}

// Open is never asked for: the log is kept whole, so no member needs an
// install.
func (s snapshotStore) Open(string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	return nil, nil, errNoRestore
}
