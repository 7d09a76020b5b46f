package raftstore

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// Errors of a log and a state file that do not go together, because one of them
// is of another time or member.
var (
	// ErrLogBehindState: the state file holds more than the log.
	ErrLogBehindState = errors.New("raftstore: the log ends before the state file")
	// ErrLogAheadOfState: entries between the two are missing.
	ErrLogAheadOfState = errors.New("raftstore: the log begins behind the end of the state file")
)

// replayPublish bounds what is replayed between two publications, in bytes.
const replayPublish = 1 << 20

// committer is a Machine that writes to its state file what it queues for it,
// so that replaying a long log does not hold all of that in memory.
type committer interface{ CommitDue() error }

// replay brings the Machine from its state file to the highest commit index
// that any entry in the log records. Entries beyond it may not be agreed and
// are left to raft.
func replay(machine Machine, logs *logStore, changed func(uint64, *conclavepb.Configuration), log zerolog.Logger) error {
	synced, _ := machine.Synced().Position()
	first, last, _ := logs.Span()
	if end := max(last, logs.Start()); synced > end {
		return fmt.Errorf("%w: state at index %d, log at %d; %s", ErrLogBehindState, synced, end, wayBack)
	}
	if begin := max(first, logs.Start()+1); synced+1 < begin {
		return fmt.Errorf("%w: state at index %d, log from %d; %s", ErrLogAheadOfState, synced, begin, wayBack)
	}
	r := &replayer{logs: logs, applier: &applier{
		machine:   machine,
		durable:   func(uint64) error { return nil }, // read from there
		committed: func(uint64) {},
		changed:   changed,
		log:       log,
	}}
	committed := min(logs.committed, last)
	for index := synced + 1; index <= committed; index++ {
		if err := r.add(index); err != nil {
			return err
		}
	}
	if err := r.publish(); err != nil {
		return err
	}
	log.Info().Uint64("state-index", synced).Uint64("commit-index", max(committed, synced)).
		Uint64("last-index", last).Msg("replayed the log")
	return nil
}

// replayer applies entries in batches.
type replayer struct {
	*applier
	logs  *logStore
	batch []*raft.Log
	bytes int // of batch
}

func (r *replayer) add(index uint64) error {
	entry := new(raft.Log)
	if err := r.logs.GetLog(index, entry); err != nil {
		return fmt.Errorf("read log entry %d: %w", index, err)
	}
	r.batch = append(r.batch, entry)
	if r.bytes += loggedSize(entry); r.bytes < replayPublish {
		return nil
	}
	return r.publish()
}

// publish applies the batch.
func (r *replayer) publish() error {
	if len(r.batch) == 0 {
		return nil
	}
	r.ApplyBatch(r.batch)
	r.batch, r.bytes = r.batch[:0], 0
	if c, ok := r.machine.(committer); ok {
		return c.CommitDue()
	}
	return nil
}
