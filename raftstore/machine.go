package raftstore

import (
	"io"
	"time"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// Machine is the state that a Node replicates.
//
// Command, Configure and Publish are called from one goroutine at a time:
// during Open from the caller's, afterwards from raft's. Indexes rise without
// repetition. The calls must not block on a disk, a network or a client, and
// must be deterministic; there is no error to return, because a member that
// cannot apply what was agreed must stop.
type Machine interface {
	// Command applies one agreed command. The Machine may keep data.
	Command(index, term uint64, data []byte)
	// Configure applies an agreed membership.
	Configure(index, term uint64, conf *conclavepb.Configuration)
	// Publish ends a batch of the calls above: readers see all of it, and
	// whoever waits for its results is woken.
	Publish()
	// Applied is the index of the newest command or membership published.
	// Safe for concurrent use.
	Applied() uint64
	// Synced tells what the state file holds: everything up to index, of term,
	// and the membership in force there. Zero and nil for a new file.
	Synced() Synced
	// Snapshot opens a copy of the state file as it is now. The caller closes
	// it. Safe for concurrent use.
	Snapshot() (Snapshot, error)
	// Prepare opens and loads a state file that was received at path, beside
	// the one in use and beside everything else. It may take minutes.
	Prepare(path string) (Prepared, error)
}

// Synced is the position of a state file in the log. It is an alias so that a
// Machine need not import this package.
type Synced = interface {
	Position() (index, term uint64)
	Membership() (index uint64, conf *conclavepb.Configuration)
}

// Snapshot is a copy of a state file as it was at one moment, for another
// member. It is read once and closed. An alias, like Synced.
type Snapshot = interface {
	// Position and Membership tell what the copy holds, as Synced does.
	Position() (index, term uint64)
	Membership() (index uint64, conf *conclavepb.Configuration)
	// Size is how many bytes WriteTo writes, exactly.
	Size() int64
	io.WriterTo
	io.Closer
}

// Prepared is a state file that was received and is loaded, beside the one in
// use. It is either installed or closed. An alias, like Synced.
type Prepared = interface {
	// Position and Membership tell what the file holds, as Synced does.
	Position() (index, term uint64)
	Membership() (index uint64, conf *conclavepb.Configuration)
	// Install makes it the state of the Machine. It is called while nothing is
	// applied, after the file got its final name. Drain closes the file that
	// was in use; it may wait for those who still read it.
	Install() (drain func() error)
	// Close gives it up.
	Close() error
}

// applier feeds a Machine from raft: it skips what the Machine already holds
// and tells the node of each commit.
type applier struct {
	machine   Machine
	durable   func(index uint64) error // returns when the log holds index on stable storage
	committed func(index uint64)
	changed   func(index uint64, conf *conclavepb.Configuration)
	metrics   *nodeMetrics // nil while the log is replayed
	log       zerolog.Logger
}

// Apply is unused by raft for a BatchingFSM and serves single entries alike.
func (a *applier) Apply(l *raft.Log) any {
	return a.ApplyBatch([]*raft.Log{l})[0]
}

// ApplyBatch hands committed entries to the Machine, in order, once this member
// has them on stable storage too: raft counts entries of the leader's log that
// are still being written. Nothing is applied when the log fails or raft is
// being stopped; its futures then are not to be believed, which Propose knows.
func (a *applier) ApplyBatch(logs []*raft.Log) []any {
	if err := a.durable(logs[len(logs)-1].Index); err != nil {
		return make([]any, len(logs))
	}
	start := time.Now()
	for _, l := range logs {
		a.apply(l)
	}
	a.machine.Publish()
	a.metrics.applied(start, len(logs), logs[len(logs)-1].Index)
	a.committed(logs[len(logs)-1].Index)
	return make([]any, len(logs))
}

func (a *applier) apply(l *raft.Log) {
	if l.Index <= a.machine.Applied() {
		return
	}
	switch l.Type {
	case raft.LogCommand:
		a.machine.Command(l.Index, l.Term, l.Data)
	case raft.LogConfiguration:
		conf, err := decodeConfiguration(raft.DecodeConfiguration(l.Data))
		if err != nil {
			a.log.Panic().Err(err).Uint64("index", l.Index).Msg("membership entry is unreadable")
		}
		a.machine.Configure(l.Index, l.Term, conf)
		a.changed(l.Index, conf)
	}
}

// Snapshot is never asked for: the state file is the snapshot.
func (a *applier) Snapshot() (raft.FSMSnapshot, error) {
	return nil, raft.ErrNothingNewToSnapshot
}

// Restore would replace the state through raft, which this package never asks
// for.
func (a *applier) Restore(source io.ReadCloser) error {
	source.Close()
	return errNoRestore
}
