package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

var (
	errLogClosed = errors.New("raftstore: the log is closed")
	errLogQuit   = errors.New("raftstore: raft is being stopped")
	errLogGap    = errors.New("raftstore: entries are not consecutive")
	errLogMiddle = errors.New("raftstore: only the head or the tail of the log can be removed")
)

// keyLogStart is where Reset marks, in the stable store, after which index the
// log continues.
var keyLogStart = []byte("LogStart")

// logBackend keeps a log and raft's few settings on stable storage: raft-wal,
// or a forgetful one in tests. Each change is durable when its call returns.
// Entries are stored by one goroutine; the head may be removed, and a setting
// set, meanwhile.
type logBackend interface {
	raft.LogStore
	raft.StableStore
	IsMonotonic() bool
	Close() error
}

// logStore is raft's log and stable store. Entries are in memory as soon as
// they are stored; one goroutine writes all that are waiting as one group, with
// one write and one sync.
//
// With async, StoreLogs returns before its entries are written, which raft's
// user need not and must not see. Why that is safe, when nothing that leaves this
// process (commit indexes, answers, applied commands) goes beyond Durable:
//
//   - A follower's answer to an append waits for Flush, so the leader counts it
//     when its entries are durable, as ever.
//   - A leader counts its own entry at once. It may so reach a commit index that
//     a majority does not hold durably; but it tells nobody, records it nowhere
//     and applies nothing before its own disk has the entry, and then a majority
//     does. If its process ends before, the entry was never acknowledged.
//   - If it does not end, it keeps what it holds in memory, whether it leads or
//     not, and so refuses its vote to whoever lacks the entry, as if it were
//     durable. What is lost is only ever lost with the process.
//   - A vote and the term are in the stable store, which stays synchronous, so a
//     member that lost entries neither votes twice nor leads again in the term in
//     which it wrote them: (index, term) names one entry for ever.
//   - A candidate counts what is in memory only for being elected; electing it
//     promises nothing about its entries before they are committed as above.
//   - Configuration entries take effect when stored, and are durable then.
type logStore struct {
	backend logBackend
	log     zerolog.Logger
	meters  logMeters
	// async lets StoreLogs return before its entries are durable. It is set
	// before use.
	async bool
	// committed is the highest commit index that an entry recorded when the log
	// was opened.
	committed uint64
	// fatal is told of the first failure, once; may be nil. It must not block.
	fatal func(error)

	// durable is the newest index on stable storage, and last the newest one
	// (or, of an empty log, the one that it continues after): the entries
	// between them are queued.
	durable, last atomic.Uint64
	watch         stuckWatch
	space         spaceWatch
	stables       slowLock // one change of the stable store at a time
	changes       slowLock // one removal at a time

	mu     sync.RWMutex
	first  uint64 // 0: the log is empty
	start  uint64 // the mark of the last Reset
	cuts   uint64 // how often the tail was removed
	cache  logCache
	spans  logSpans
	queued int // bytes that are not durable
	failed error
	closed bool
	// writing says that a group is being written, held that none may be begun.
	writing, held bool
	work          sync.Cond // of the writer: there may be something to write
	idle          sync.Cond // of others: a group was written, or room was made
	waits, spare  []*durableWait
	ended         sync.WaitGroup // the writer
}

// openLogStore opens or creates the log in dir, and checks all that it holds.
func openLogStore(dir string, reg prometheus.Registerer, log zerolog.Logger) (*logStore, error) {
	files, err := checkLog(dir, log)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	w, err := openWAL(dir, files, log)
	if err != nil {
		return nil, fmt.Errorf("open log in %s: %w", dir, err)
	}
	s, err := newCheckedLog(w, files.contents, reg, log)
	if err == nil {
		s.space.free = func() (int64, error) { return freeSpace(dir) }
	}
	return s, err
}

// openWAL opens a log that was checked.
func openWAL(dir string, files *logFiles, log zerolog.Logger) (*wal.WAL, error) {
	return wal.Open(dir, wal.WithCodec(files.codec), wal.WithMetaStore(files.meta), wal.WithSegmentFiler(files),
		wal.WithLogger(newRaftLogger(log, "wal")))
}

// newLogStore opens the log that a backend holds, and owns the backend from
// then on.
func newLogStore(backend logBackend, reg prometheus.Registerer, log zerolog.Logger) (*logStore, error) {
	contents, err := readContents(backend)
	if err != nil {
		return nil, errors.Join(err, backend.Close())
	}
	return newCheckedLog(backend, contents, reg, log)
}

// newCheckedLog is newLogStore for a log whose contents are known.
func newCheckedLog(backend logBackend, contents logContents, reg prometheus.Registerer, log zerolog.Logger) (*logStore, error) {
	s := &logStore{
		backend:   backend,
		log:       log,
		meters:    newLogMeters(reg),
		watch:     stuckWatch{base: time.Now()},
		space:     spaceWatch{base: time.Now()},
		cache:     logCache{limit: cacheBytes},
		spans:     contents.spans,
		committed: contents.committed,
	}
	s.work.L, s.idle.L = &s.mu, &s.mu
	if err := s.load(); err != nil {
		return nil, errors.Join(err, backend.Close())
	}
	s.ended.Go(s.write)
	return s, nil
}

// load takes over what the backend holds, and ends a Reset that a crash
// interrupted.
func (s *logStore) load() error {
	first, last, err := bounds(s.backend)
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	if s.start, err = s.backend.GetUint64(keyLogStart); err != nil {
		return fmt.Errorf("read start of log: %w", err)
	}
	if first > 0 && first <= s.start {
		if err := s.backend.DeleteRange(first, last); err != nil {
			return fmt.Errorf("empty log: %w", err)
		}
		first, last = 0, 0
		s.spans, s.committed = logSpans{}, 0
	}
	s.first = first
	s.last.Store(max(last, s.start))
	s.durable.Store(s.last.Load())
	return nil
}

// bounds are the first and last index of a log, 0 when it is empty.
func bounds(logs raft.LogStore) (first, last uint64, err error) {
	if first, err = logs.FirstIndex(); err != nil {
		return 0, 0, err
	}
	last, err = logs.LastIndex()
	return first, last, err
}

// FirstIndex is the index of the oldest entry, 0 when there is none.
func (s *logStore) FirstIndex() (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.first, nil
}

// LastIndex is the index of the newest entry, durable or not; 0 when there is
// none.
func (s *logStore) LastIndex() (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.first == 0 {
		return 0, nil
	}
	return s.last.Load(), nil
}

// Start is the index after which the last Reset had the log continue, 0 if there
// was none. A state file that ends at or below it, or at or below the last
// index, goes with this log.
func (s *logStore) Start() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.start
}

// Begin is the index of the first entry, or of the next one if there is none.
// The entries before it are in the state, so they are agreed.
func (s *logStore) Begin() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.first == 0 {
		return s.start + 1
	}
	return s.first
}

// Span is what the log holds, 0 when it is empty. Bytes are those of the
// entries, within 256 KiB.
func (s *logStore) Span() (first, last uint64, bytes int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.first == 0 {
		return 0, 0, 0
	}
	return s.first, s.last.Load(), s.spans.total()
}

// FirstWithin is the lowest index from which the log takes at most so many
// bytes up to its end, within 256 KiB: it may be too high, but not above the last
// entry. 0 when the log is empty.
func (s *logStore) FirstWithin(bytes int64) uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.first == 0 {
		return 0
	}
	return min(s.spans.within(bytes), s.last.Load())
}

// IsMonotonic tells raft whether the log takes consecutive indexes only.
func (s *logStore) IsMonotonic() bool { return s.backend.IsMonotonic() }

// GetLog reads one entry, from memory if it is among the newest. An entry that
// cannot be read although the log holds it is fatal.
func (s *logStore) GetLog(index uint64, log *raft.Log) error {
	for {
		s.mu.RLock()
		cached, held, cuts := s.cache.get(index), s.holds(index), s.cuts
		s.mu.RUnlock()
		if cached != nil {
			*log = *cached
			return nil
		}
		if !held {
			return raft.ErrLogNotFound
		}
		err := s.backend.GetLog(index, log)
		if err == nil && log.Index == index {
			return nil
		}
		s.mu.RLock()
		held = s.holds(index) && !s.closed
		replaced := s.cuts != cuts
		s.mu.RUnlock()
		if !held { // removed meanwhile
			return raft.ErrLogNotFound
		}
		if replaced { // by another one, which may not be on disk yet
			continue
		}
		if err == nil {
			err = fmt.Errorf("found entry %d there", log.Index)
		}
		return s.fail(fmt.Errorf("read entry %d of the log: %w", index, err))
	}
}

// holds reports whether the log has an entry at index; s.mu is held.
func (s *logStore) holds(index uint64) bool {
	return s.first > 0 && index >= s.first && index <= s.last.Load()
}

// Get reads a setting.
func (s *logStore) Get(key []byte) ([]byte, error) { return s.backend.Get(key) }

// GetUint64 reads a number, 0 when it was never set.
func (s *logStore) GetUint64(key []byte) (uint64, error) { return s.backend.GetUint64(key) }

// recordCommit stores a commit index beside an entry's data, in the field that
// raft leaves to its user and replicates with the entry.
func recordCommit(index uint64) []byte {
	return binary.BigEndian.AppendUint64(nil, index)
}

// recordedCommit reads what recordCommit stored; 0 where nothing was.
func recordedCommit(l *raft.Log) uint64 {
	if len(l.Extensions) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(l.Extensions)
}
