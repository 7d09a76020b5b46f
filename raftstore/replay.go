package raftstore

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// ErrLogBehindState: the state file holds more than the log, which only a log
// directory of another time or member can cause.
var ErrLogBehindState = errors.New("raftstore: the log ends before the state file")

// replayBatch is how many entries are applied between two publications.
const replayBatch = 256

// replay brings the Machine from its state file to the highest commit index
// that any entry in the log records. Entries beyond it may not be agreed and
// are left to raft.
func replay(machine Machine, logs raft.LogStore, changed func(uint64, *conclavepb.Configuration), log zerolog.Logger) error {
	synced, _ := machine.Synced().Position()
	last, err := logs.LastIndex()
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	if synced > max(last, startOf(logs)) {
		return fmt.Errorf("%w: state at index %d, log at %d", ErrLogBehindState, synced, last)
	}
	committed, err := highestCommit(logs, synced+1, last)
	if err != nil {
		return err
	}
	a := &applier{
		machine:   machine,
		durable:   func(uint64) error { return nil }, // read from there
		committed: func(uint64) {},
		changed:   changed,
		log:       log,
	}
	batch := make([]*raft.Log, 0, replayBatch)
	for index := synced + 1; index <= committed; index++ {
		entry := new(raft.Log)
		if err := logs.GetLog(index, entry); err != nil {
			return fmt.Errorf("read log entry %d: %w", index, err)
		}
		batch = append(batch, entry)
		if len(batch) == replayBatch || index == committed {
			a.ApplyBatch(batch)
			batch = batch[:0]
			if err := commitDue(machine); err != nil {
				return err
			}
		}
	}
	log.Info().Uint64("state-index", synced).Uint64("commit-index", max(committed, synced)).
		Uint64("last-index", last).Msg("replayed the log")
	return nil
}

// commitDue lets a Machine write to its state file what it queues for it, so
// that replaying a long log does not hold all of that in memory.
func commitDue(machine Machine) error {
	if m, ok := machine.(interface{ CommitDue() error }); ok {
		return m.CommitDue()
	}
	return nil
}

// highestCommit is the highest commit index recorded in entries first to last.
// A leader that was just elected may record less than the one before it.
func highestCommit(logs raft.LogStore, first, last uint64) (uint64, error) {
	var highest uint64
	var entry raft.Log
	for index := first; index <= last; index++ {
		if err := logs.GetLog(index, &entry); err != nil {
			return 0, fmt.Errorf("read log entry %d: %w", index, err)
		}
		highest = max(highest, recordedCommit(&entry))
	}
	return highest, nil
}

// startOf is where a log continues when it is empty: see logStore.Reset.
func startOf(logs raft.LogStore) uint64 {
	if s, ok := logs.(interface{ Start() uint64 }); ok {
		return s.Start()
	}
	return 0
}
