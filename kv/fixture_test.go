package kv

import (
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A fixture is a store on a file of its own. Its end checks index against file.
type fixture struct {
	t     testing.TB
	db    *bbolt.DB
	opts  Options
	s     *Store
	queue []*Changes // frozen, not written
}

func newFixture(t testing.TB, opts Options) *fixture {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, &bbolt.Options{NoSync: true, InitialMmapSize: 1 << 28})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, db: db, opts: opts}
	f.open()
	t.Cleanup(func() {
		f.flush(len(f.queue))
		f.check()
		if err := f.db.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// open forgets what is in memory and loads what the file holds.
func (f *fixture) open() {
	f.t.Helper()
	f.queue = nil
	err := f.db.View(func(tx *bbolt.Tx) (err error) {
		f.s, err = Open(f.db, tx, f.opts)
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// batch runs fn on a batch, whose changes it queues.
func (f *fixture) batch(fn func(b *Batch)) *View {
	f.t.Helper()
	b := f.s.NewBatch()
	fn(b)
	v, c := b.Freeze()
	f.queue = append(f.queue, c)
	return v
}

// flush commits the n oldest queued changes.
func (f *fixture) flush(n int) {
	f.t.Helper()
	err := f.db.Update(func(tx *bbolt.Tx) error {
		for _, c := range f.queue[:n] {
			if err := c.Write(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	for _, c := range f.queue[:n] {
		c.Done()
	}
	f.queue = f.queue[n:]
}

func (f *fixture) flushAll() { f.t.Helper(); f.flush(len(f.queue)) }

// settle prunes to the end and writes everything.
func (f *fixture) settle() {
	f.t.Helper()
	for f.s.Pruning() {
		f.batch(func(*Batch) {})
	}
	f.flushAll()
}

func (f *fixture) check() {
	f.t.Helper()
	if err := f.db.View(f.s.Check); err != nil {
		f.t.Error(err)
	}
}

// put writes key=value pairs, each with a revision of its own.
func (f *fixture) put(pairs ...string) *View {
	f.t.Helper()
	return f.batch(func(b *Batch) {
		for i := 0; i < len(pairs); i += 2 {
			if _, err := b.Put(&pb.PutRequest{Key: []byte(pairs[i]), Value: []byte(pairs[i+1])}, None); err != nil {
				f.t.Fatal(err)
			}
		}
	})
}

func (f *fixture) del(key, end string) *View {
	f.t.Helper()
	return f.batch(func(b *Batch) {
		if _, err := b.DeleteRange(&pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)}, None); err != nil {
			f.t.Fatal(err)
		}
	})
}

func (f *fixture) compact(rev int64) *View {
	f.t.Helper()
	return f.batch(func(b *Batch) {
		if _, err := b.Compact(&pb.CompactionRequest{Revision: rev}, None); err != nil {
			f.t.Fatal(err)
		}
	})
}
