package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"github.com/conclave-kv/conclave/internal/durable"
	"github.com/conclave-kv/conclave/kv"
)

var (
	// ErrDefragmenting: the state file is being defragmented already.
	ErrDefragmenting = errors.New("the state file is being defragmented already")
	// ErrReplaced: another state took the place of the one that was being
	// defragmented, or is about to.
	ErrReplaced = errors.New("another state takes the place of the one that was being defragmented")
	// ErrOutrun: more was written than could be carried into the new file.
	ErrOutrun = errors.New("more is being written than defragmenting can follow")
)

// defragSuffix ends the name of a file that is being defragmented into.
const defragSuffix = ".defrag"

// defragLimits are what is at stake at once; less in tests.
type defragLimits struct {
	// bytes and records bound what a step copies. It is synced at once: the
	// syncs of the log wait for what is dirty of other files, on some file
	// systems, and so for no more than this.
	bytes, records int
	// kept bounds what is committed between two steps, in bytes.
	kept int64
}

var defaultDefrag = defragLimits{bytes: 1 << 20, records: 5000, kept: 64 << 20}

// Defrag copies the state file into a new one without its holes, and puts that
// in its place, beside everything else that a Machine does. It is driven by one
// goroutine: Step until there is no more to do, then Finish; or Abort.
//
// The copy is not of one moment: each step reads a piece in a transaction of
// its own, so that none pins the pages of the old file for long. What was
// committed since the beginning is written to the new file too, in order and
// after the step that it was committed beside. Every change says what a record
// is, and not what it was before; so writing one again, after a copy that had it
// already, changes nothing, and in the end both files hold the same.
type Defrag struct {
	m     *Machine
	f     *stateFile
	to    *bbolt.DB
	info  os.FileInfo // of the new file
	names [][]byte    // of the buckets that are left to copy
	after []byte      // newest key copied of the first of them; nil: none
	done  bool        // switched or given up
	size  int64       // bytes in use when it began
}

// kept are the change sets that were committed since the last step.
type kept struct {
	sets  []*changeSet
	bytes int64
	limit int64
	over  bool // more than limit: they were dropped
}

// add is called with commits of the file held.
func (k *kept) add(sets []*changeSet, bytes int64) {
	if k == nil || k.over {
		return
	}
	if k.bytes+bytes > k.limit {
		*k = kept{over: true}
		return
	}
	k.sets = append(k.sets, sets...)
	k.bytes += bytes
}

// take is called with commits of the file held.
func (k *kept) take() ([]*changeSet, error) {
	if k.over {
		return nil, ErrOutrun
	}
	sets := k.sets
	k.sets, k.bytes = nil, 0
	return sets, nil
}

// Defragment begins to defragment the state file. There must be room for what is
// in use of it a second time; who calls looks at that. Errors:
// ErrDefragmenting, ErrReplaced.
func (m *Machine) Defragment() (*Defrag, error) {
	f := m.file.Load()
	d := &Defrag{m: m, f: f}
	if err := d.begin(); err != nil {
		return nil, fmt.Errorf("defragment %s: %w", f.path, err)
	}
	return d, nil
}

func (d *Defrag) begin() (err error) {
	f := d.f
	if _, d.size, err = f.size(); err != nil {
		return err
	}
	f.commits.Lock()
	defer f.commits.Unlock()
	switch {
	case f.failed != nil:
		return f.failed
	case f.closed:
		return ErrReplaced
	case f.kept != nil:
		return ErrDefragmenting
	}
	if err := d.create(); err != nil {
		return err
	}
	f.kept = &kept{limit: d.m.defrag.kept}
	return nil
}

// create makes the new file, with its buckets.
func (d *Defrag) create() (err error) {
	if err := os.Remove(d.path()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	d.to, d.info, err = openBolt(d.path(), os.O_CREATE|os.O_EXCL, d.m.quota)
	if err != nil {
		return err
	}
	d.to.NoSync, d.to.NoGrowSync = true, true // until Finish; steps are synced as a whole
	err = d.f.view(func(from *bbolt.Tx) error {
		return d.to.Update(func(tx *bbolt.Tx) error { return d.createBuckets(from, tx) })
	})
	if err != nil {
		return errors.Join(err, d.to.Close(), os.Remove(d.path()))
	}
	d.m.did("new file made")
	return nil
}

func (d *Defrag) createBuckets(from, to *bbolt.Tx) error {
	return from.ForEach(func(name []byte, b *bbolt.Bucket) error {
		made, err := to.CreateBucket(bytes.Clone(name))
		if err != nil {
			return fmt.Errorf("create bucket %s: %w", name, err)
		}
		d.names = append(d.names, bytes.Clone(name))
		return made.SetSequence(b.Sequence())
	})
}

func (d *Defrag) path() string { return d.f.path + defragSuffix }

// Size is about how many bytes there are to copy.
func (d *Defrag) Size() int64 { return d.size }

// Step carries over what was committed since the last one, copies the next
// piece, and syncs both. More tells whether there is more to copy. Between steps
// no more than 64 MiB may be committed. Errors: ErrReplaced, ErrOutrun; after
// one only Abort is left.
func (d *Defrag) Step() (copied int, more bool, err error) {
	err = guarded(func() error {
		copied, err = d.step()
		return err
	})
	if errors.Is(err, kv.ErrClosed) {
		err = fmt.Errorf("%w: %w", ErrReplaced, err)
	}
	if err != nil {
		return 0, false, fmt.Errorf("defragment %s: %w", d.f.path, err)
	}
	d.m.did("step synced")
	return copied, len(d.names) > 0, nil
}

func (d *Defrag) step() (copied int, err error) {
	sets, err := d.takeKept()
	if err != nil {
		return 0, err
	}
	// What is read here is at least as new as the sets: they were committed.
	err = d.f.view(func(from *bbolt.Tx) error {
		return d.to.Update(func(to *bbolt.Tx) error {
			if err := writeSets(to, sets); err != nil {
				return err
			}
			copied, err = d.copy(from, to)
			return err
		})
	})
	if err != nil {
		return 0, err
	}
	return copied, d.to.Sync()
}

func (d *Defrag) takeKept() ([]*changeSet, error) {
	d.f.commits.Lock()
	defer d.f.commits.Unlock()
	if d.done || d.f.closed || d.m.file.Load() != d.f {
		return nil, ErrReplaced
	}
	return d.f.kept.take()
}

// copy writes the next records of the old file to the new one.
func (d *Defrag) copy(from, to *bbolt.Tx) (copied int, err error) {
	for records := 0; len(d.names) > 0; {
		name := d.names[0]
		source, target := from.Bucket(name), to.Bucket(name)
		if source == nil || target == nil {
			return copied, fmt.Errorf("bucket %s is gone", name)
		}
		target.FillPercent = 0.9 // as etcd does: records mostly are in rising order
		c := source.Cursor()
		for k, v := seekAfter(c, d.after); k != nil; k, v = c.Next() {
			if copied >= d.m.defrag.bytes || records == d.m.defrag.records {
				return copied, nil
			}
			if v == nil {
				return copied, fmt.Errorf("bucket %s has a bucket %x in it, which no state file has", name, k)
			}
			if err := target.Put(k, v); err != nil {
				return copied, fmt.Errorf("copy a record of bucket %s: %w", name, err)
			}
			copied += len(k) + len(v)
			records++
			d.after = append(d.after[:0], k...)
		}
		d.names, d.after = d.names[1:], nil
	}
	return copied, nil
}

// seekAfter moves to the first key behind one, nil for the first of all.
func seekAfter(c *bbolt.Cursor, after []byte) (k, v []byte) {
	if after == nil {
		return c.First()
	}
	k, v = c.Seek(after)
	if bytes.Equal(k, after) {
		return c.Next()
	}
	return k, v
}

// writeSets writes change sets, and the position behind them.
func writeSets(tx *bbolt.Tx, sets []*changeSet) error {
	for _, set := range sets {
		if err := set.write(tx); err != nil {
			return err
		}
	}
	if len(sets) == 0 {
		return nil
	}
	return sets[len(sets)-1].at.write(tx)
}

// Finish puts the new file in place of the old one, when Step has said that
// there is no more to copy. Commits wait meanwhile, for what one step takes;
// nothing else does. The old file is the caller's to close. An error means that nothing was replaced, and only Abort is
// left; or, if the disk failed in between, that no Commit will succeed any more.
func (d *Defrag) Finish() (old *Replaced, err error) {
	d.m.installs.Lock() // nothing that was received gets the file's name meanwhile
	defer d.m.installs.Unlock()
	d.f.commits.Lock()
	defer d.f.commits.Unlock()
	err = guarded(d.complete)
	if err == nil {
		old, err = d.replace()
	}
	if err != nil {
		return nil, fmt.Errorf("defragment %s: %w", d.f.path, err)
	}
	return old, nil
}

// complete makes the new file hold what the old one does.
func (d *Defrag) complete() error {
	f := d.f
	switch {
	case f.failed != nil:
		return f.failed
	case d.done, f.closed, d.m.file.Load() != f, d.m.preparing > 0:
		return ErrReplaced
	case len(d.names) > 0:
		return errors.New("it is not copied yet")
	}
	sets, err := f.kept.take()
	if err != nil {
		return err
	}
	var at position
	err = d.to.Update(func(tx *bbolt.Tx) error {
		if err := writeSets(tx, sets); err != nil {
			return err
		}
		at, err = loadPosition(tx)
		return err
	})
	if err != nil {
		return err
	}
	if synced := *f.synced.Load(); at.index != synced.index || at.term != synced.term || at.confIndex != synced.confIndex {
		return fmt.Errorf("the new file is at index %d of term %d, the old one at %d of %d", at.index, at.term, synced.index, synced.term)
	}
	if err := d.to.Sync(); err != nil {
		return err
	}
	d.m.did("new file complete")
	return f.named()
}

// named returns nil if the name of the file is that of the one that is open.
func (f *stateFile) named() error {
	info, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	if !os.SameFile(info, f.opened) {
		return ErrReplaced
	}
	return nil
}

// replace renames the new file and switches to it.
func (d *Defrag) replace() (old *Replaced, err error) {
	f := d.f
	if err := os.Rename(d.path(), f.path); err != nil {
		return nil, err
	}
	d.done = true
	d.m.did("new file renamed")
	if err := durable.SyncDir(filepath.Dir(f.path)); err != nil {
		// A crash may bring the old file back. Nothing may be committed to the
		// new one, and the log be truncated behind that.
		f.failed = fmt.Errorf("write state file %s: %w", f.path, err)
		f.queue.end()
		return nil, errors.Join(f.failed, d.to.Close())
	}
	d.to.NoSync, d.to.NoGrowSync = false, false
	old = &Replaced{copies: &f.backups, db: f.db.Swap(d.to)}
	f.keys.UseDB(d.to)
	f.opened, f.kept = d.info, nil
	f.measure()
	d.m.did("switched")
	return old, nil
}

// Replaced is a state file whose place a defragmentation has taken. It has no
// name any more, and takes its space until it is closed. Safe for concurrent use.
type Replaced struct {
	copies *backups
	db     *bbolt.DB
}

// Close gives the file up when nobody reads it any more. It should be called a
// while after the end of the defragmentation, since a reader that comes across a
// file being closed waits for all others.
func (r *Replaced) Close() error { return r.db.Close() }

// EndBackups ends the copies that are being read of this file, as
// Machine.EndBackups does with all.
func (r *Replaced) EndBackups(why string) { r.copies.endAll(r.db, why) }

// Abort gives the new file up, unless it was put in place. It may be called
// again.
func (d *Defrag) Abort() error {
	d.f.commits.Lock()
	defer d.f.commits.Unlock()
	if d.done {
		return nil
	}
	d.done, d.f.kept = true, nil
	return errors.Join(d.to.Close(), os.Remove(d.path()))
}

// discardDefrag removes what a defragmentation left that a crash ended.
func discardDefrag(path string) error {
	if err := os.Remove(path + defragSuffix); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove what an interrupted defragmentation left: %w", err)
	}
	return nil
}
