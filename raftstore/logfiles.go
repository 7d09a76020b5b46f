package raftstore

import (
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// logFiles makes and opens segments (a types.SegmentFiler), and notes how far
// what is written to them is on stable storage.
type logFiles struct {
	*segment.Filer
	meta     *logMeta
	codec    *entryCodec
	contents logContents // when it was opened
}

// Create makes a segment; everything before it is on stable storage.
func (f *logFiles) Create(info types.SegmentInfo) (types.SegmentWriter, error) {
	info.Codec = entryCodecID
	f.codec.synced.Store(info.BaseIndex - 1)
	w, err := f.Filer.Create(info)
	return &logSegment{w, f}, err
}

// RecoverTail opens the segment that is written to.
func (f *logFiles) RecoverTail(info types.SegmentInfo) (types.SegmentWriter, error) {
	w, err := f.Filer.RecoverTail(info)
	if err != nil {
		return nil, err
	}
	f.codec.synced.Store(max(w.LastIndex(), info.BaseIndex-1))
	return &logSegment{w, f}, nil
}

// logSegment is the segment that is written to.
type logSegment struct {
	types.SegmentWriter
	files *logFiles
}

// Append writes and syncs entries.
func (s *logSegment) Append(entries []types.LogEntry) error {
	if err := s.SegmentWriter.Append(entries); err != nil {
		return err
	}
	last := s.LastIndex()
	s.files.codec.synced.Store(last)
	return s.files.meta.reach(last)
}
