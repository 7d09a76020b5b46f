package kv

import (
	"errors"
	"sync"
	"sync/atomic"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Options tune a Store. The zero value means the defaults.
type Options struct {
	// MaxInline is the size in bytes up to which a value is kept in memory;
	// 0 means 4 KiB, a negative number keeps none.
	MaxInline int
	// InlineBudget bounds the memory for records kept whole, in bytes. New
	// values beyond it are read from disk, which mostly means from the pages
	// that the kernel keeps of the file. 0 means 64 MiB: with a million keys of
	// 256 bytes a member then takes less memory than one of etcd.
	InlineBudget int64
	// PruneStep is how many keys a batch examines at most for what a
	// compaction made unreachable, and how many records it deletes at most.
	// 0 means DefaultPruneStep.
	PruneStep int
	// PruneApart has only Prune do so, and not every batch.
	PruneApart bool
	// Counts, if any, are added to by what the store does, and by nobody else.
	Counts *Counts

	loadChunk int // sortChunk, less in tests
}

const (
	defaultMaxInline    = 4 << 10
	defaultInlineBudget = 64 << 20
)

// DefaultPruneStep is what a batch can do beside its requests without being felt.
const DefaultPruneStep = 512

func (o Options) withDefaults() Options {
	if o.MaxInline == 0 {
		o.MaxInline = defaultMaxInline
	}
	if o.InlineBudget == 0 {
		o.InlineBudget = defaultInlineBudget
	}
	if o.loadChunk == 0 {
		o.loadChunk = sortChunk
	}
	if o.Counts == nil {
		o.Counts = &Counts{}
	}
	if o.PruneStep <= 0 {
		o.PruneStep = DefaultPruneStep
	}
	return o
}

// A Store is the key-value state of one member. View and the methods of views
// may be called from any goroutine. Batches are made by one writer at a time,
// changes are reported Done by one committer at a time.
type Store struct {
	opts    Options
	db      atomic.Pointer[bbolt.DB]
	view    atomic.Pointer[View]
	overlay atomic.Pointer[[]*Changes]
	mu      sync.Mutex // guards replacing overlay
	// compacted is the newest compaction whose deletions are all on disk.
	compacted atomic.Int64
	writing   atomic.Bool // a batch is open
	holds     holds

	// Owned by the writer, between batches.
	edit   uint64 // last edit number given out
	inline int64  // bytes of records kept whole
	prune  pruning
	recs   int // records of the last batch, to size the next
}

// View returns the newest view.
func (s *Store) View() *View { return s.view.Load() }

// UseDB switches reading to another file with the same content. Reads begun
// before end on the old one; closing it waits for them.
func (s *Store) UseDB(db *bbolt.DB) { s.db.Store(db) }

// Close ends reading from the file, which its owner closes then: what views
// need from there is answered with ErrClosed.
func (s *Store) Close() { s.db.Store(nil) }

// read runs fn in a read transaction of the file, of the newest one if that was
// replaced meanwhile. Errors: ErrClosed, fn's.
func (s *Store) read(fn func(*bbolt.Tx) error) error {
	for {
		db := s.db.Load()
		if db == nil {
			return ErrClosed
		}
		err := db.View(fn)
		if !errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
			return err
		}
		if s.db.Load() == db {
			return ErrClosed
		}
	}
}

// Pruning reports whether compacted records remain to be taken out of index
// and file. Each batch does a bounded part of it, and each Prune; so without
// writes, or with PruneApart, somebody has to call that. While an answer is owed
// that reads from before the compaction, nothing is done. Called by the writer.
func (s *Store) Pruning() bool { return s.prune.active && !s.holds.below(s.prune.target) }

// Prune does the next part of what a compaction left to do, in a batch of its own.
func (s *Store) Prune() (*View, *Changes) {
	b := s.NewBatch()
	b.pruneStep()
	return b.freeze()
}

// CompactedOnDisk returns the newest compaction whose deletions are all in the
// state file, which is what a physical compaction waits for; -1 if none.
func (s *Store) CompactedOnDisk() int64 { return s.compacted.Load() }

func (s *Store) nextEdit() uint64 {
	s.edit++
	return s.edit
}
