package member

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/internal/durable"
	"github.com/conclave-kv/conclave/raftstore"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// trailerAlign tells a snapshot with a checksum from a bare file of bbolt's, as
// etcd's tools do: pages are multiples of 512 bytes, and the checksum has 32.
const trailerAlign = 512

// SnapshotStatus is what a snapshot file holds.
type SnapshotStatus = fsm.SnapshotStatus

// Restored tells what a restored state holds.
type Restored = fsm.Imported

// RestoreOptions say what becomes of a snapshot file.
type RestoreOptions struct {
	// Snapshot is the file, ours or etcd's.
	Snapshot string
	// State is the path of the state file to be made, Log the directory of the
	// log. What is written there when an error is returned is the caller's to
	// remove.
	State, Log string
	// Members are the first members of the new cluster.
	Members *conclavepb.Configuration
	// SkipHash accepts a file without a checksum, or with a wrong one.
	SkipHash bool
	// Bump raises the revision, and marks all before as compacted; 0 does not.
	Bump uint64
	// Progress is told now and then how much is read. May be nil.
	Progress func(done, total int64)
	Logger   zerolog.Logger
}

// Restore makes state and log of a new cluster's member from a snapshot file,
// durably. Errors say what is wrong with the file.
func Restore(o RestoreOptions) (Restored, error) {
	if err := o.copy(); err != nil {
		return Restored{}, err
	}
	found, err := fsm.Import(o.State, fsm.ImportOptions{Members: o.Members, Bump: o.Bump})
	if err != nil {
		return found, fmt.Errorf("restore %s: %w", o.Snapshot, err)
	}
	if err := durable.SyncDir(filepath.Dir(o.State)); err != nil {
		return found, err
	}
	return found, raftstore.Seed(o.Log, fsm.ImportIndex, fsm.ImportTerm, o.Logger)
}

// copy writes the snapshot without its checksum to the place of the state.
func (o RestoreOptions) copy() error {
	from, body, err := openSnapshotFile(o.Snapshot, o.SkipHash)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(o.State, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	sum := sha256.New()
	err = copyBody(io.MultiWriter(to, sum), from, body, o.Progress)
	if err == nil {
		err = to.Sync()
	}
	if err = errors.Join(err, to.Close()); err != nil {
		return fmt.Errorf("copy %s: %w", o.Snapshot, err)
	}
	if o.SkipHash {
		return nil
	}
	return checkTrailer(from, sum.Sum(nil))
}

// openSnapshotFile opens a snapshot and tells how long it is without its checksum.
func openSnapshotFile(path string, bare bool) (f *os.File, body int64, err error) {
	if f, err = os.Open(path); err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", path)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	body = info.Size()
	switch {
	case body%trailerAlign == sha256.Size:
		body -= sha256.Size
	case !bare:
		err = fmt.Errorf("%w: %s, of %d bytes, has no checksum at its end: it was cut short or is another kind of file; "+
			"if it was copied from a data directory, give --skip-hash-check", fsm.ErrNotSnapshot, path, body)
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, body, nil
}

// checkTrailer compares the checksum at the end of a snapshot, whose body has
// just been read.
func checkTrailer(f *os.File, sum []byte) error {
	want, err := io.ReadAll(io.LimitReader(f, sha256.Size))
	if err != nil {
		return fmt.Errorf("read the checksum of %s: %w", f.Name(), err)
	}
	if !bytes.Equal(want, sum) {
		return fmt.Errorf("%w: %s is damaged: its checksum is %x, and of what is in it %x", fsm.ErrNotSnapshot, f.Name(), want, sum)
	}
	return nil
}

// copyPiece is what is copied between two calls of progress, in bytes.
const copyPiece = 1 << 20

func copyBody(to io.Writer, from io.Reader, body int64, progress func(done, total int64)) error {
	for done := int64(0); done < body; {
		n, err := io.CopyN(to, from, min(copyPiece, body-done))
		done += n
		if err != nil {
			return err
		}
		if progress != nil {
			progress(done, body)
		}
	}
	return nil
}

// InspectSnapshot checks a snapshot file, its checksum too if it has one, and
// tells what it holds. The file is only read.
func InspectSnapshot(path string) (SnapshotStatus, error) {
	f, body, err := openSnapshotFile(path, true)
	if err != nil {
		return SnapshotStatus{}, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() != body {
		sum := sha256.New()
		if err := copyBody(sum, f, body, nil); err != nil {
			return SnapshotStatus{}, fmt.Errorf("read %s: %w", path, err)
		}
		if err := checkTrailer(f, sum.Sum(nil)); err != nil {
			return SnapshotStatus{}, err
		}
	}
	return fsm.InspectSnapshot(path)
}
