package member

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// takesSpace reports whether this process has a file below a directory open that
// has no name any more.
func takesSpace(t *testing.T, dir string) bool {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("this system does not tell which files are open")
	}
	for _, e := range entries {
		name, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		if err == nil && strings.HasPrefix(name, dir) && strings.HasSuffix(name, " (deleted)") {
			return true
		}
	}
	return false
}

// A snapshot that is read slowly over a defragmentation ends after a while, and
// with it the old file, which until then takes its space.
func TestDefragment_oldFileIsKeptForAWhile(t *testing.T) {
	f := startCluster(t, 1)[0]
	f.defragmenter.keep = 100 * time.Millisecond
	waste(t, []*fixture{f})
	s, err := f.Snapshot(limited(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := f.Defragment(limited(t)); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(f.machine.Path())
	if !takesSpace(t, dir) { // it is kept for a second at least
		t.Error("the old file is gone while it is read")
	}
	eventuallyTrue(t, "the old file is gone", func() bool { return !takesSpace(t, dir) })
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, fsm.ErrBackupEnded) || !strings.Contains(err.Error(), "was defragmented 100ms ago") {
		t.Errorf("the snapshot: %v", err)
	}
}

// Meanwhile the next defragmentation need not wait, and the snapshot is whole.
// What is still being read when the member stops does not hold it up.
func TestDefragment_againBesideAReader(t *testing.T) {
	f := startCluster(t, 1)[0]
	waste(t, []*fixture{f})
	var readers []Snapshot
	for range 2 {
		s, err := f.Snapshot(limited(t))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		readers = append(readers, s)
		if err := f.Defragment(limited(t)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := io.Copy(io.Discard, readers[0]); err != nil || n != readers[0].Size() {
		t.Errorf("%d bytes of %d, %v", n, readers[0].Size(), err)
	}
	stopped, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	go func() {
		f.Stop()
		cancel()
	}()
	<-stopped.Done()
	if errors.Is(stopped.Err(), context.DeadlineExceeded) {
		t.Fatal("the member does not stop while a snapshot is read of the old file")
	}
}

// Unasked, nothing is defragmented while a snapshot is read.
func TestDefragment_quietWaitsForReaders(t *testing.T) {
	f := newFixtures(t, 1)[0]
	f.cfg.BackgroundDefrag = true
	f.begin(t)
	waste(t, []*fixture{f})
	f.defragmenter.free = func(string) (int64, error) { return 1 << 40, nil }
	q := newQuiet(f.defragmenter)
	q.least = 1 << 20
	before, _, err := f.machine.Size()
	if err != nil {
		t.Fatal(err)
	}
	size := func() int64 {
		total, _, err := f.machine.Size()
		if err != nil {
			t.Fatal(err)
		}
		return total
	}
	s, err := f.Snapshot(limited(t))
	if err != nil {
		t.Fatal(err)
	}
	if q.look(); size() != before {
		t.Errorf("%d bytes became %d while a snapshot was read", before, size())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	eventuallyTrue(t, "it is this member's turn", func() bool { // the disk may be busy, and there is to be a leader
		q.last = time.Time{}
		q.look()
		return size() < before
	})
}
