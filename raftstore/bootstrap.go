package raftstore

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// ErrEmptyLog: there is no log to continue and no membership to begin with.
var ErrEmptyLog = errors.New("raftstore: the log is empty and no first membership was given")

// keyCurrentTerm is where raft keeps its term in the stable store.
var keyCurrentTerm = []byte("CurrentTerm")

// bootstrap writes the first entry, the same on every member, to an empty log.
// The term goes first: an interrupted bootstrap leaves an empty log and is done
// again, while a log without its term would be continued in term 0. A member
// that joins writes nothing: its first entries come from the leader.
// A state file that holds something had a log, whose loss must be noticed before
// a new one is begun.
func bootstrap(logs *logStore, machine Machine, conf *conclavepb.Configuration, join bool) error {
	last, err := logs.LastIndex()
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	if last > 0 || logs.Start() > 0 {
		return nil
	}
	if synced, _ := machine.Synced().Position(); synced > 0 {
		return fmt.Errorf("%w: state at index %d, the log is empty; %s", ErrLogBehindState, synced, wayBack)
	}
	if join {
		return nil // the leader fills it
	}
	if conf == nil {
		return ErrEmptyLog
	}
	if err := logs.SetUint64(keyCurrentTerm, 1); err != nil {
		return fmt.Errorf("write first term: %w", err)
	}
	return logs.StoreLog(&raft.Log{
		Index: 1,
		Term:  1,
		Type:  raft.LogConfiguration,
		Data:  raft.EncodeConfiguration(encodeConfiguration(conf)),
	})
}
