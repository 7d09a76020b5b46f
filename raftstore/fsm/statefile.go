package fsm

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/conclave-kv/conclave/auth"
	"github.com/conclave-kv/conclave/kv"
	"github.com/conclave-kv/conclave/pki/ledger"
)

// stateFile is one open state file, the keys that are read from it, and the
// changes that wait to be written to it. An install replaces all of it at once,
// so that what was queued for one file can never reach another.
type stateFile struct {
	path   string                   // where it is, or will be once it is installed
	db     atomic.Pointer[bbolt.DB] // replaced by a defragmentation, with commits held
	keys   *kv.Store
	queue  queue
	synced atomic.Pointer[position]
	used   atomic.Int64 // bytes in use; see measure

	mapped    int64 // address space asked for, in bytes
	minPinned int64 // the constant, less in tests
	backups   backups

	commits sync.Mutex // held by commit, close, and the end of a defragmentation
	failed  error      // of the first commit that failed
	closed  bool
	kept    *kept       // what is committed while the file is copied; nil: it is not
	opened  os.FileInfo // of the file that db has open
}

// loaded is the rest of what a state file holds, as it is in memory.
type loaded struct {
	at             position
	auth           *auth.Store
	ledger         *ledger.Ledger
	members        *Members
	alarms         *Alarms
	downgrade      Downgrade
	anchors        *Anchors
	clusterVersion string
	level          uint32
}

// openFile opens and loads a state file. flag is os.O_CREATE to make a new one
// where there is none. Errors: ErrInUse, ErrCorrupt, ErrNewerFormat.
func openFile(path string, flag int, quota int64, keys kv.Options, newest uint32) (f *stateFile, l loaded, err error) {
	if err := checkFile(path); err != nil {
		return nil, l, err
	}
	f = &stateFile{path: path, mapped: 2 * quota, minPinned: minPinned}
	err = guarded(func() error {
		db, opened, err := openBolt(path, flag, quota)
		f.db.Store(db)
		f.opened = opened
		return err
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, l, fmt.Errorf("%w: %s", ErrInUse, path)
	case errors.As(err, new(damage)):
		return nil, l, corrupt(path, err)
	case err != nil:
		return nil, l, fmt.Errorf("open state file %s: %w", path, err)
	}
	err = guarded(func() error {
		if l, err = f.load(keys, newest); err == nil {
			f.measure()
		}
		return err
	})
	if err != nil {
		return nil, l, errors.Join(loadError(path, err), f.db.Load().Close())
	}
	return f, l, nil
}

// openBolt opens a file as bbolt's, and tells which one it is.
func openBolt(path string, flag int, quota int64) (db *bbolt.DB, opened os.FileInfo, err error) {
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:         1, // nanosecond: a file in use is an error, not a wait
		NoFreelistSync:  true,
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: int(2 * quota),
		OpenFile: func(path string, flags int, mode os.FileMode) (*os.File, error) {
			file, err := os.OpenFile(path, flags&^os.O_CREATE|flag, mode)
			if err == nil {
				opened, err = file.Stat()
			}
			return file, err
		},
	})
	return db, opened, err
}

// checkFile looks for damage that bbolt would not survive. A file that does not
// exist, or is empty, has none.
func checkFile(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open state file: %w", err)
	}
	defer f.Close()
	// Who writes the file holds its lock. Closing the file gives this one back.
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrInUse, path, err)
	}
	err = guarded(func() error { return checkPages(f) })
	if errors.As(err, new(damage)) {
		return corrupt(path, err)
	}
	return err
}

func (f *stateFile) load(keys kv.Options, newest uint32) (l loaded, err error) {
	if err := f.makeBuckets(); err != nil {
		return l, err
	}
	db := f.db.Load()
	err = db.View(func(tx *bbolt.Tx) error {
		if f.keys, err = kv.Open(db, tx, keys); err != nil {
			return err
		}
		if l.at, err = loadPosition(tx); err != nil {
			return err
		}
		if l.level, err = loadLevel(tx.Bucket(bucketOwn), newest); err != nil {
			return err
		}
		if l.members, err = loadMembers(tx, l.at.conf); err != nil {
			return err
		}
		if l.downgrade, err = loadDowngrade(tx); err != nil {
			return err
		}
		if l.anchors, err = loadAnchors(tx); err != nil {
			return err
		}
		if l.alarms, err = loadAlarms(tx); err != nil {
			return err
		}
		if l.auth, err = auth.Open(tx); err != nil {
			return err
		}
		if l.ledger, err = ledger.Open(tx); err != nil {
			return err
		}
		l.clusterVersion = string(tx.Bucket(bucketCluster).Get(keyClusterVersion))
		at := l.at
		f.synced.Store(&at)
		return forgetPages(db, tx.Size())
	})
	return l, err
}

// makeBuckets writes to a new file only. One that was begun has all buckets: a
// missing one was lost, with what was in it.
func (f *stateFile) makeBuckets() error {
	complete, begun := false, false
	db := f.db.Load()
	err := db.View(func(tx *bbolt.Tx) error {
		own := tx.Bucket(bucketOwn)
		begun = own != nil && own.Get(keyFormat) != nil
		complete = hasBuckets(tx) && ledger.HasBuckets(tx)
		return nil
	})
	switch {
	case err != nil || complete:
		return err
	case begun:
		return damage{-1, "a bucket is missing"}
	}
	return db.Update(func(tx *bbolt.Tx) error {
		return errors.Join(createBuckets(tx), ledger.CreateBuckets(tx))
	})
}

// commit writes everything queued in one synced transaction; see
// Machine.Commit. A file that was given up is left as it is.
func (f *stateFile) commit() error {
	f.commits.Lock()
	defer f.commits.Unlock()
	if f.failed != nil || f.closed {
		return f.failed
	}
	sets, bytes := f.queue.take()
	if len(sets) == 0 {
		return nil
	}
	f.makeWay(bytes)
	at := sets[len(sets)-1].at
	err := f.db.Load().Update(func(tx *bbolt.Tx) error {
		for _, set := range sets {
			if err := set.write(tx); err != nil {
				return err
			}
		}
		return at.write(tx)
	})
	if err != nil {
		f.failed = fmt.Errorf("write state file %s: %w", f.path, err)
		f.queue.end()
		return f.failed
	}
	for i := len(sets) - 1; i >= 0; i-- {
		if keys := sets[i].keys; keys != nil && !keys.Empty() {
			keys.Done() // and with it all before
			break
		}
	}
	f.synced.Store(&at)
	f.queue.done(bytes)
	f.measure()
	f.kept.add(sets, bytes)
	return nil
}

// view runs fn in a read transaction. Error: kv.ErrClosed.
func (f *stateFile) view(fn func(*bbolt.Tx) error) (err error) {
	tx, err := f.begin()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tx.Rollback()) }()
	return fn(tx)
}

// begin opens a read transaction of the file, which the caller rolls back. Error:
// kv.ErrClosed.
func (f *stateFile) begin() (*bbolt.Tx, error) {
	for {
		db := f.db.Load()
		tx, err := db.Begin(false)
		if !errors.Is(err, bolterrors.ErrDatabaseNotOpen) || f.db.Load() == db {
			return tx, closedError(err)
		}
	}
}

func closedError(err error) error {
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return fmt.Errorf("%w: %w", kv.ErrClosed, err)
	}
	return err
}

// close gives the file up as it is; what is queued is forgotten. It waits for a
// commit and for transactions under way. Views that still read from the file
// get kv.ErrClosed.
func (f *stateFile) close() error {
	f.keys.Close() // before waiting, so that nobody waits in turn
	f.queue.end()
	f.backups.close()
	f.commits.Lock()
	defer f.commits.Unlock()
	f.closed = true
	return f.db.Load().Close()
}
