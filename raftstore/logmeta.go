package raftstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"

	"github.com/conclave-kv/conclave/internal/durable"
)

const (
	// logMetaName is the file beside the segments that lists them and has raft's
	// settings: its term and its vote.
	logMetaName = "log-meta"
	// logMetaHead is its first line: the CRC-32C of all that follows, which is
	// JSON.
	logMetaHead = "conclave log 1, crc32c %08x\n"
)

// ErrOldLog: the log was written by a build before the first release, in a form
// that is not read any more.
var ErrOldLog = errors.New("raftstore: the log is of a form that is not supported any more")

// logMeta is a wal.MetaStore in one small file that is replaced as a whole. A
// checksum covers it, for a vote that changed by itself could elect two leaders.
// The library's own store, a bbolt file, has none for its data.
type logMeta struct {
	path string

	mu   sync.Mutex
	kept metaContent // what the file holds
	// reached is the newest index known to be on stable storage; the file's may
	// be older.
	reached uint64
	written bool // the file exists
}

// metaContent is the content of the file.
type metaContent struct {
	types.PersistentState
	Stable map[string][]byte
	// Reached is an index that was on stable storage when this was written, not
	// below the first entry of the tail segment if that has any: a log that ends
	// before it has lost something.
	Reached uint64
}

// readLogMeta reads the file in dir; a directory without it has no log yet.
func readLogMeta(dir string) (*logMeta, error) {
	m := &logMeta{path: filepath.Join(dir, logMetaName)}
	m.kept.Stable = map[string][]byte{}
	raw, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, m.mayBeNew(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	head := len(fmt.Sprintf(logMetaHead, 0))
	if len(raw) < head {
		return nil, damaged(m.path, int64(len(raw)), "the file ends")
	}
	if want := fmt.Sprintf(logMetaHead, crc32.Checksum(raw[head:], castagnoli)); string(raw[:head]) != want {
		return nil, damaged(m.path, 0, "its checksum is wrong")
	}
	if err := json.Unmarshal(raw[head:], &m.kept); err != nil {
		return nil, damaged(m.path, int64(head), err.Error())
	}
	if m.kept.Stable == nil {
		m.kept.Stable = map[string][]byte{}
	}
	m.reached, m.written = m.kept.Reached, true
	return m, nil
}

// mayBeNew checks that a directory without the file has no segments either. The
// file is written before the first segment is made.
func (m *logMeta) mayBeNew(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, metadb.FileName)); err == nil {
		return fmt.Errorf("%w: %s; start this member with an empty directory", ErrOldLog, filepath.Join(dir, metadb.FileName))
	}
	segments, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err == nil && len(segments) > 0 {
		err = damaged(m.path, 0, "the file is missing")
	}
	return err
}

// Load is part of types.MetaStore.
func (m *logMeta) Load(string) (types.PersistentState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept.PersistentState, nil
}

// CommitState replaces the list of segments. The library writes its own codec's
// id into each that it makes (raft-wal, newSegment), whatever the codec is.
func (m *logMeta) CommitState(state types.PersistentState) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.kept
	next.PersistentState = state
	for i := range state.Segments {
		state.Segments[i].Codec = entryCodecID
	}
	if n := len(state.Segments); n > 0 {
		tail := state.Segments[n-1]
		if old := m.tail(); old == nil || old.ID != tail.ID { // what it continues may be shorter than what was
			m.reached = min(m.reached, tail.BaseIndex-1)
		}
	}
	return m.write(next)
}

// tail is the segment that is written to, nil if there is none.
func (m *logMeta) tail() *types.SegmentInfo {
	if n := len(m.kept.Segments); n > 0 && m.kept.Segments[n-1].SealTime.IsZero() {
		return &m.kept.Segments[n-1]
	}
	return nil
}

// reach notes that index is on stable storage, in the file too when it is the
// first in its segment: a segment that was lost is then not taken for one that a
// crash prevented.
func (m *logMeta) reach(index uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reached = index
	if tail := m.tail(); tail == nil || m.kept.Reached >= tail.BaseIndex {
		return nil
	}
	return m.write(m.kept)
}

// GetStable is part of types.MetaStore.
func (m *logMeta) GetStable(key []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]byte(nil), m.kept.Stable[string(key)]...), nil
}

// SetStable is part of types.MetaStore.
func (m *logMeta) SetStable(key, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.kept
	next.Stable = maps.Clone(next.Stable)
	next.Stable[string(key)] = append([]byte(nil), value...)
	return m.write(next)
}

// write replaces the file; m.mu is held.
func (m *logMeta) write(next metaContent) error {
	next.Reached = m.reached
	body, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("encode list of segments: %w", err)
	}
	raw := fmt.Appendf(nil, logMetaHead, crc32.Checksum(body, castagnoli))
	if err := durable.WriteFile(m.path, append(raw, body...), 0o600); err != nil {
		return err
	}
	m.kept, m.written = next, true
	return nil
}

// Close notes how far the log reaches, so that damage to its end is seen.
func (m *logMeta) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.written || m.reached == m.kept.Reached {
		return nil
	}
	return m.write(m.kept)
}
