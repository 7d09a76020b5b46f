package raftstore

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
)

// finishRotation begins the log's next segment if a crash fell between the
// last write to a full one and that. raft-wal v0.4.1 opens such a log, and then
// refuses every write with ErrSealed, for ever. What is done here is what its
// own rotation does: the metadata notes the full segment and names the next,
// whose file Open makes when it is missing.
func finishRotation(dir string) (err error) {
	var meta metadb.BoltMetaDB
	defer func() { err = errors.Join(err, meta.Close()) }()
	state, err := meta.Load(dir)
	if err != nil {
		return err
	}
	if len(state.Segments) == 0 {
		return nil
	}
	tail := &state.Segments[len(state.Segments)-1]
	if !tail.SealTime.IsZero() {
		return nil
	}
	w, err := segment.NewFiler(dir, fs.New()).RecoverTail(*tail)
	if errors.Is(err, os.ErrNotExist) {
		return nil // named, and not made yet
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	sealed, index, err := w.Sealed()
	if err != nil || !sealed {
		return err
	}
	tail.SealTime, tail.MaxIndex, tail.IndexStart = time.Now(), w.LastIndex(), index
	next := *tail
	next.ID = state.NextSegmentID
	next.BaseIndex, next.MinIndex = tail.MaxIndex+1, tail.MaxIndex+1
	next.CreateTime, next.SealTime, next.MaxIndex, next.IndexStart = tail.SealTime, time.Time{}, 0, 0
	state.NextSegmentID++
	state.Segments = append(state.Segments, next)
	if err := meta.CommitState(state); err != nil {
		return fmt.Errorf("note the full segment %s: %w", segment.FileName(*tail), err)
	}
	return nil
}
