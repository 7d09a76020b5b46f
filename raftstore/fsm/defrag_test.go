package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/kv"
)

// defragment does all of it, with something in between.
func defragment(m *Machine, between func()) (old *Replaced, err error) {
	d, err := m.Defragment()
	if err != nil {
		return nil, err
	}
	for more := true; more; {
		between()
		if _, more, err = d.Step(); err != nil {
			return nil, errors.Join(err, d.Abort())
		}
	}
	between()
	if old, err = d.Finish(); err != nil {
		return nil, errors.Join(err, d.Abort())
	}
	return old, d.Abort() // does nothing
}

func mustDefragment(t *testing.T, m *Machine, between func()) {
	t.Helper()
	old, err := defragment(m, between)
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
}

// consistent commits everything, compares memory and file, and looks for what
// defragmenting left.
func consistent(t *testing.T, m *Machine) {
	t.Helper()
	commit(t, m)
	f := m.file.Load()
	if err := f.view(f.keys.Check); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(m.Path() + defragSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the new file is still there: %v", err)
	}
}

// compact compacts up to the newest revision, and removes what that hides.
func compact(t *testing.T, m *Machine) {
	t.Helper()
	i := m.Applied() + 1
	m.Command(i, 2, entryOf(t, 2, i, KindCompact, &pb.CompactionRequest{Revision: m.View().KV.Rev()}))
	m.Publish()
	for m.Prune() {
		continue
	}
	commit(t, m)
	for range 2 { // transactions that let go of the pages
		feed(t, m, "k", m.Applied()+1, m.Applied()+1)
		commit(t, m)
	}
}

// A file of which most is free comes out small, holds the same, and all work
// goes on in it; what was written and read meanwhile too.
func TestDefragment_comesOutSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	m := openMachine(t, path)
	feed(t, m, "k", 1, 2000)
	commit(t, m)
	compact(t, m)
	before, inUse, err := m.Size()
	if err != nil || inUse > before/10 {
		t.Fatalf("%d of %d bytes are in use, %v", inUse, before, err)
	}
	view := m.View()
	old, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	m.defrag.bytes = 3 * large
	replaced, err := defragment(m, func() {
		feed(t, m, "k", m.Applied()+1, m.Applied()+1)
		commit(t, m)
	})
	if err != nil {
		t.Fatal(err)
	}
	after, _, err := m.Size()
	if info, err2 := os.Stat(path); err != nil || err2 != nil || after > inUse+inUse/2+10*large || info.Size() != after {
		t.Fatalf("%d bytes became %d, %v bytes of file: %v %v", inUse, after, info.Size(), err, err2)
	}
	t.Logf("%d bytes, %d in use, became %d", before, inUse, after)
	if v, err := get(view, "k3", 0); err != nil || len(v) != large {
		t.Errorf("a view from before: %d bytes, %v", len(v), err)
	}
	var sent bytes.Buffer
	if n, err := old.WriteTo(&sent); err != nil || n != before {
		t.Errorf("a snapshot from before: %d bytes of %d, %v", n, before, err)
	}
	if err := errors.Join(old.Close(), replaced.Close()); err != nil {
		t.Fatal(err)
	}
	if v, err := get(view, "k3", 0); err != nil || len(v) != large {
		t.Errorf("a view from before, after the old file was closed: %d bytes, %v", len(v), err)
	}
	feed(t, m, "k", m.Applied()+1, m.Applied()+50)
	consistent(t, m)
	want := hashOf(t, m)
	closeMachine(t, m)
	again := openMachine(t, path)
	defer closeMachine(t, again)
	if got := hashOf(t, again); got != want {
		t.Errorf("opened again\n%s, want\n%s", got, want)
	}
}

// Whatever is agreed while the file is copied, in whatever steps, both memory
// and file end as without it.
func TestDefragment_randomHistories(t *testing.T) {
	rounds := 0
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 7))
		entries := history(t, rng, 300)
		m, plain := openMachine(t, filepath.Join(t.TempDir(), "db")), openMachine(t, filepath.Join(t.TempDir(), "db"))
		m.defrag.records = 5 + rng.IntN(40)
		next := 0
		some := func() {
			for n := rng.IntN(6); n >= 0 && next <= len(entries); n-- {
				for _, m := range []*Machine{m, plain} {
					if next == 0 {
						m.Configure(1, 1, members(3, 1, 2))
					} else {
						m.Command(uint64(next+1), 2, entries[next-1])
					}
					m.Publish()
				}
				next++
			}
			if rng.IntN(2) == 0 {
				commit(t, m)
			}
		}
		for ; next <= len(entries); rounds++ {
			some()
			mustDefragment(t, m, some)
		}
		if got, want := hashOf(t, m), hashOf(t, plain); got != want {
			t.Fatalf("seed %d:\n got %s\nwant %s", seed, got, want)
		}
		consistent(t, m)
		path := m.Path()
		closeMachine(t, m)
		m = openMachine(t, path)
		if got, want := hashOf(t, m), hashOf(t, plain); got != want {
			t.Fatalf("seed %d, opened again:\n got %s\nwant %s", seed, got, want)
		}
		closeMachine(t, m)
		closeMachine(t, plain)
	}
	if rounds < 24 {
		t.Fatalf("it was defragmented %d times", rounds)
	}
}

// Only one at a time; what is given up leaves nothing.
func TestDefragment_oneAtATime(t *testing.T) {
	m := openMachine(t, filepath.Join(t.TempDir(), "db"))
	defer closeMachine(t, m)
	feed(t, m, "k", 1, 20)
	commit(t, m)
	d, err := m.Defragment()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Defragment(); !errors.Is(err, ErrDefragmenting) {
		t.Fatalf("a second one: %v", err)
	}
	if _, err := d.Finish(); err == nil {
		t.Fatal("it ended before it was copied")
	}
	for range 2 {
		if err := d.Abort(); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := d.Step(); !errors.Is(err, ErrReplaced) {
		t.Fatalf("a step after the end: %v", err)
	}
	consistent(t, m)
	mustDefragment(t, m, func() {})
	consistent(t, m)
}

// More than may be kept ends it, and only it.
func TestDefragment_outrun(t *testing.T) {
	m := openMachine(t, filepath.Join(t.TempDir(), "db"))
	defer closeMachine(t, m)
	m.defrag.kept, m.defrag.bytes = 20*large, 4*large
	feed(t, m, "k", 1, 40)
	commit(t, m)
	writes := func(n uint64) func() {
		return func() {
			feed(t, m, "k", m.Applied()+1, m.Applied()+n)
			commit(t, m)
		}
	}
	if _, err := defragment(m, writes(30)); !errors.Is(err, ErrOutrun) {
		t.Fatalf("defragmenting beside more than it may keep: %v", err)
	}
	consistent(t, m)
	mustDefragment(t, m, writes(3))
	consistent(t, m)
}

// A file that came from another member is never replaced by a copy of the one
// before it, wherever the two meet.
func TestDefragment_installWins(t *testing.T) {
	dir := t.TempDir()
	sender := openMachine(t, filepath.Join(dir, "sender"))
	defer closeMachine(t, sender)
	feed(t, sender, "k", 1, 50)
	commit(t, sender)
	want := hashOf(t, sender)
	for _, when := range []string{"before a step", "before the end", "given up after the renaming"} {
		t.Run(when, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "db")
			m := openMachine(t, path)
			m.defrag.bytes = 4 * large
			feed(t, m, "old", 1, 40)
			commit(t, m)
			d, err := m.Defragment()
			if err != nil {
				t.Fatal(err)
			}
			if when != "before a step" {
				for more := true; more; {
					if _, more, err = d.Step(); err != nil {
						t.Fatal(err)
					}
				}
			}
			send(t, sender, path+".part")
			p, err := m.Prepare(path + ".part")
			if err != nil {
				t.Fatal(err)
			}
			if when == "before the end" {
				if _, err := d.Finish(); !errors.Is(err, ErrReplaced) {
					t.Fatalf("beside an install: %v", err)
				}
			}
			if err := os.Rename(path+".part", path); err != nil {
				t.Fatal(err)
			}
			if when == "given up after the renaming" {
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
			} else if err := p.Install()(); err != nil {
				t.Fatal(err)
			}
			if when == "before a step" {
				_, _, err = d.Step()
			} else {
				_, err = d.Finish()
			}
			if !errors.Is(err, ErrReplaced) {
				t.Fatalf("after an install: %v", err)
			}
			if err := d.Abort(); err != nil {
				t.Fatal(err)
			}
			if when != "given up after the renaming" {
				mustDefragment(t, m, func() {})
				consistent(t, m)
			}
			closeMachine(t, m)
			again := openMachine(t, path)
			defer closeMachine(t, again)
			if got := hashOf(t, again); got != want {
				t.Errorf("the file holds\n%s, want\n%s", got, want)
			}
		})
	}
}

// Whatever else a member does may run beside it.
func TestDefragment_besideEverything(t *testing.T) {
	m := openMachine(t, filepath.Join(t.TempDir(), "db"))
	defer closeMachine(t, m)
	m.defrag.bytes = 8 * large
	feed(t, m, "k", 1, 100)
	commit(t, m)
	var pause atomic.Int64 // of the writer, in nanoseconds
	stop := beside(t, m, kv.ErrCompacted, map[string]func() error{
		"view": func() error { _, err := get(m.View(), "k3", 0); return err },
		"write": func() error {
			time.Sleep(time.Duration(pause.Load()))
			if i := m.Applied() + 1; i%50 == 0 {
				m.Command(i, 2, entryOf(t, 2, i, KindCompact, &pb.CompactionRequest{Revision: m.View().KV.Rev() - 20}))
				m.Publish()
			} else {
				feed(t, m, "k", i, i)
			}
			return nil
		},
	})
	for done, tries := 0, 0; done < 4 && !t.Failed(); tries++ {
		old, err := defragment(m, func() {})
		switch {
		case errors.Is(err, ErrOutrun) && tries < 100:
			pause.Store(max(10_000, 2*pause.Load())) // whether the writer wins is up to the machine
			continue
		case err == nil:
			err = old.Close()
		}
		if err != nil {
			t.Error(err)
		}
		done++
	}
	stop()
	consistent(t, m)
}

// A crash anywhere leaves one whole file, and the log goes on from there.
func TestDefragment_crashAnywhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	m := openMachine(t, path)
	m.defrag.bytes = 20 * large
	feed(t, m, "k", 1, 300)
	commit(t, m)
	compact(t, m)
	type point struct {
		name, dir string
		synced    uint64 // index acknowledged as being in the state file
	}
	var points []point
	before := "" // directory as of the point before
	m.after = func(what string) {
		index, _ := m.Synced().Position()
		save := func(name string, change func(dir string) error) string {
			dir := t.TempDir()
			for _, suffix := range []string{"", defragSuffix} {
				raw, err := os.ReadFile(path + suffix)
				if err == nil {
					err = os.WriteFile(filepath.Join(dir, "db"+suffix), raw, 0o600)
				}
				if err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
			}
			if err := change(dir); err != nil {
				t.Fatal(err)
			}
			points = append(points, point{fmt.Sprintf("%02d %s%s", len(points), what, name), dir, index})
			return dir
		}
		now := save("", func(string) error { return nil })
		switch what {
		case "switched":
		case "new file renamed": // and the directory not synced: the old file may come back
			save(", undone", func(dir string) error {
				raw, err := os.ReadFile(filepath.Join(before, "db"))
				return errors.Join(err, os.WriteFile(filepath.Join(dir, "db"), raw, 0o600))
			})
		default:
			for _, size := range []int64{0, 100, 5000} {
				save(fmt.Sprintf(", cut to %d", size), func(dir string) error { return os.Truncate(filepath.Join(dir, "db"+defragSuffix), size) })
			}
			save(", missing", func(dir string) error { return os.Remove(filepath.Join(dir, "db"+defragSuffix)) })
		}
		before = now
	}
	mustDefragment(t, m, func() {
		feed(t, m, "k", m.Applied()+1, m.Applied()+3)
		commit(t, m)
		feed(t, m, "k", m.Applied()+1, m.Applied()+1) // applied, and not committed
	})
	m.after = nil
	want, last := hashOf(t, m), m.Applied()
	closeMachine(t, m)
	if len(points) < 12 {
		t.Fatalf("%d points", len(points))
	}
	for _, p := range points {
		t.Run(p.name, func(t *testing.T) {
			m := openMachine(t, filepath.Join(p.dir, "db"))
			defer closeMachine(t, m)
			index, _ := m.Synced().Position()
			if index < p.synced {
				t.Fatalf("it is at index %d, and was at %d", index, p.synced)
			}
			feed(t, m, "k", index+1, last)
			if got := hashOf(t, m); got != want {
				t.Fatalf("got %s\nwant %s", got, want)
			}
			mustDefragment(t, m, func() {})
			consistent(t, m)
		})
	}
}

// A disk that fails in the middle costs nothing but the copy.
func TestDefragment_diskFull(t *testing.T) {
	m := openMachine(t, filepath.Join(t.TempDir(), "db"))
	defer closeMachine(t, m)
	feed(t, m, "k", 1, 300)
	commit(t, m)
	want := hashOf(t, m)
	d, err := m.Defragment()
	if err != nil {
		t.Fatal(err)
	}
	d.to.MaxSize = 300 << 10
	for more := true; more && err == nil; {
		_, more, err = d.Step()
	}
	if err == nil {
		t.Fatal("the disk was not full")
	}
	t.Log(err)
	if err := d.Abort(); err != nil {
		t.Fatal(err)
	}
	if got := hashOf(t, m); got != want {
		t.Errorf("the state is %s", got)
	}
	consistent(t, m)
	mustDefragment(t, m, func() {})
	consistent(t, m)
}
