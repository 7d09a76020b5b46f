package raftstore

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// logBackend is where a logStore keeps the log: raft-wal, or in tests a disk
// that loses power.
type logBackend interface {
	raft.LogStore
	raft.StableStore
	IsMonotonic() bool
	Close() error
}

// logStore is raft's log and stable store: a write-ahead log on disk with its
// newest entries in memory.
type logStore struct {
	logBackend
	cache   logCache
	fsync   prometheus.Histogram
	written prometheus.Counter

	// fatal is told of the first write that failed; may be nil.
	fatal  func(error)
	mu     sync.Mutex
	failed error
}

// openLogStore opens or creates the log in dir.
func openLogStore(dir string, reg prometheus.Registerer, log zerolog.Logger) (*logStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create log directory: %w", err)
	}
	if err := finishRotation(dir); err != nil {
		return nil, fmt.Errorf("open log in %s: %w", dir, err)
	}
	w, err := wal.Open(dir, wal.WithLogger(newRaftLogger(log, "wal")))
	if err != nil {
		return nil, fmt.Errorf("open log in %s: %w", dir, err)
	}
	return newLogStore(w, reg, log)
}

// newLogStore keeps a log in any backend.
func newLogStore(backend logBackend, reg prometheus.Registerer, _ zerolog.Logger) (*logStore, error) {
	s := &logStore{
		logBackend: backend,
		cache:      logCache{limit: cacheBytes},
		fsync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "etcd_disk_wal_fsync_duration_seconds",
			Help:    "Seconds to write and sync a group of entries to the raft log.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		written: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "etcd_disk_wal_write_bytes_total",
			Help: "Bytes of entry data written to the raft log.",
		}),
	}
	reg.MustRegister(s.fsync, s.written)
	return s, nil
}

// GetLog reads one entry, from memory if it is among the newest.
func (s *logStore) GetLog(index uint64, log *raft.Log) error {
	if s.cache.get(index, log) {
		return nil
	}
	return s.logBackend.GetLog(index, log)
}

// StoreLog stores one entry; see StoreLogs.
func (s *logStore) StoreLog(log *raft.Log) error {
	return s.StoreLogs([]*raft.Log{log})
}

// StoreLogs returns when the entries are on stable storage (one write and one
// fdatasync). After an error nobody knows what is there, and a later sync that
// succeeds says nothing about it: every further write fails, and the process
// must end.
func (s *logStore) StoreLogs(logs []*raft.Log) error {
	start := time.Now()
	err := s.write(func() error { return s.logBackend.StoreLogs(logs) })
	if err != nil {
		return err
	}
	s.fsync.Observe(time.Since(start).Seconds())
	bytes := 0
	for _, l := range logs {
		bytes += len(l.Data)
	}
	s.written.Add(float64(bytes))
	s.cache.add(logs)
	return nil
}

// DeleteRange removes entries from either end of the log.
func (s *logStore) DeleteRange(lo, hi uint64) error {
	s.cache.clear()
	return s.write(func() error { return s.logBackend.DeleteRange(lo, hi) })
}

// write changes the log unless an earlier change failed.
func (s *logStore) write(change func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	if err := change(); err != nil {
		s.failed = fmt.Errorf("write raft log: %w", err)
		if s.fatal != nil {
			s.fatal(s.failed)
		}
	}
	return s.failed
}

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
