package raftstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/durable"
)

// logContents is what reading a log once shows.
type logContents struct {
	spans logSpans
	// committed is the highest commit index that an entry records. A leader that
	// was just elected may record less than the one before it.
	committed uint64
}

func (c *logContents) add(e scannedEntry) {
	c.spans.add(e.index, e.size)
	c.committed = max(c.committed, e.commit)
}

// readContents reads the log of any backend.
func readContents(logs raft.LogStore) (logContents, error) {
	var c logContents
	first, last, err := bounds(logs)
	if err != nil {
		return c, fmt.Errorf("read log: %w", err)
	}
	for index := max(first, 1); index <= last; index++ {
		var l raft.Log
		if err := logs.GetLog(index, &l); err != nil {
			return c, fmt.Errorf("read log entry %d: %w", index, err)
		}
		c.add(scannedEntry{index, recordedCommit(&l), loggedSize(&l)})
	}
	return c, nil
}

// logCheck reads every byte of a log before it is used: damage that is found
// later is found by others, as a member that answers wrong or stops. The log is
// bounded by its truncation.
type logCheck struct {
	dir      string
	meta     *logMeta
	contents logContents
	log      zerolog.Logger
}

// checkLog makes the directory of a log, or checks what it holds.
func checkLog(dir string, log zerolog.Logger) (*logFiles, error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create log directory: %w", err)
	}
	// A process that was killed may have left names that are not on the disk yet.
	if err := durable.SyncDir(dir); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	meta, err := readLogMeta(dir)
	if err != nil {
		return nil, err
	}
	c := &logCheck{dir: dir, meta: meta, log: log}
	if err := c.run(); err != nil {
		return nil, err
	}
	return &logFiles{
		Filer:    segment.NewFiler(dir, walfs.New()),
		meta:     meta,
		codec:    &entryCodec{},
		contents: c.contents,
	}, nil
}

// run checks all segments, ends what a crash interrupted in the last one, and
// leaves the rest to raft-wal.
func (c *logCheck) run() error {
	if err := c.names(); err != nil {
		return err
	}
	next := uint64(0)
	for _, info := range c.meta.kept.Segments {
		if next > 0 && info.BaseIndex != next {
			return damaged(c.meta.path, 0, fmt.Sprintf("it lists no segment that begins with entry %d", next))
		}
		if info.SealTime.IsZero() {
			return c.tail(info)
		}
		if err := c.sealed(info); err != nil {
			return err
		}
		next = info.MaxIndex + 1
	}
	return nil
}

// names compares the files in the directory with the list. A file that is not
// listed was being removed, unless the list is older than it.
func (c *logCheck) names() error {
	names, err := os.ReadDir(c.dir)
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	for _, n := range names {
		if temporary, _ := filepath.Match("."+logMetaName+".tmp-*", n.Name()); temporary {
			if err := os.Remove(filepath.Join(c.dir, n.Name())); err != nil {
				return fmt.Errorf("remove what a crash left: %w", err)
			}
		}
		var base, id uint64
		if filepath.Ext(n.Name()) != ".wal" {
			continue
		}
		if _, err := fmt.Sscanf(n.Name(), "%020d-%016x.wal", &base, &id); err != nil {
			return damaged(filepath.Join(c.dir, n.Name()), 0, "this is no name of a segment")
		}
		if id >= c.meta.kept.NextSegmentID {
			return damaged(c.meta.path, 0, fmt.Sprintf("it is older than %s", n.Name()))
		}
	}
	return nil
}

// open opens a segment for a scan that adds to the contents what the list of
// segments still counts.
func (c *logCheck) open(info types.SegmentInfo, flag int) (*os.File, *segmentScan, error) {
	path := filepath.Join(c.dir, segment.FileName(info))
	file, err := os.OpenFile(path, flag, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, damaged(path, 0, "the file is missing")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read log: %w", err)
	}
	return file, newSegmentScan(path, file, info, func(e scannedEntry) {
		if e.index >= info.MinIndex && (info.MaxIndex == 0 || e.index <= info.MaxIndex) {
			c.contents.add(e)
		}
	}), nil
}

// sealed checks a segment that nothing is written to any more: all of it must
// be there.
func (c *logCheck) sealed(info types.SegmentInfo) error {
	file, s, err := c.open(info, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer file.Close()
	stop, at, err := s.run()
	switch {
	case err != nil:
		return err
	case stop != stopSealed:
		return damaged(s.path, at, "a batch of entries is not what was written")
	case uint64(s.index) != info.IndexStart || s.next <= info.MaxIndex:
		return damaged(s.path, s.index, "the segment is not the one that was sealed")
	}
	return nil
}

// tail checks the segment that is written to.
func (c *logCheck) tail(info types.SegmentInfo) error {
	file, s, err := c.open(info, os.O_RDWR)
	if errors.Is(err, ErrCorruptLog) && c.meta.reached < info.BaseIndex {
		return nil // a crash came before its first entry
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if whole, err := c.whole(file, info); err != nil || !whole {
		return err
	}
	stop, at, err := s.run()
	if err != nil {
		return err
	}
	torn, err := readTear(file, s, stop, at)
	if err != nil {
		return err
	}
	if torn != nil {
		if err := torn.check(); err != nil {
			return err
		}
	}
	if c.meta.reached >= s.next {
		return damaged(s.path, s.end, fmt.Sprintf("entries from %d on are missing, and %d was on stable storage", s.next, c.meta.reached))
	}
	if torn != nil {
		c.log.Warn().Str("file", s.path).Int64("offset", s.end).Int("bytes", len(torn.rest)).Msg("a crash tore the last write to the log, which nobody was told of")
		if err := torn.erase(file); err != nil {
			return err
		}
	}
	if c.meta.reached+1 < s.next || stop == stopSealed {
		if err := s.settle(file); err != nil {
			return err
		}
	}
	if stop == stopSealed {
		return c.seal(info, s)
	}
	return nil
}

// whole checks the size of a segment, which it has from the beginning on. A
// crash or a full disk can prevent that only before its first entry: then the
// file is removed, for raft-wal gives only a file that it makes its size, and a
// shorter one would be taken for damage once it holds an entry.
func (c *logCheck) whole(file *os.File, info types.SegmentInfo) (bool, error) {
	stat, err := file.Stat()
	switch {
	case err != nil:
		return false, fmt.Errorf("read log: %w", err)
	case stat.Size() >= int64(info.SizeLimit):
		return true, nil
	case c.meta.reached >= info.BaseIndex:
		return false, damaged(file.Name(), stat.Size(), "the file ends too early")
	}
	if err := os.Remove(file.Name()); err != nil {
		return false, fmt.Errorf("remove what a crash left: %w", err)
	}
	return false, nil
}

// seal ends a rotation that a crash interrupted: raft-wal would take the sealed
// segment as the one to write to, and refuse every write.
func (c *logCheck) seal(info types.SegmentInfo, s *segmentScan) error {
	state := c.meta.kept.PersistentState
	segments := append([]types.SegmentInfo(nil), state.Segments...)
	info.SealTime, info.MaxIndex, info.IndexStart = time.Now(), s.next-1, uint64(s.index)
	segments[len(segments)-1] = info
	segments = append(segments, types.SegmentInfo{
		ID:         state.NextSegmentID,
		BaseIndex:  s.next,
		MinIndex:   s.next,
		SizeLimit:  info.SizeLimit,
		CreateTime: time.Now(),
	})
	return c.meta.CommitState(types.PersistentState{NextSegmentID: state.NextSegmentID + 1, Segments: segments})
}
