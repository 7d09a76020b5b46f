package raftstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/types"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// crashes copies a member's directory after everything that changes it.
type crashes struct {
	t    *testing.T
	from string

	mu     sync.Mutex
	points []crashPoint
	on     bool   // recording
	turn   string // the step that there is no way back from
	turned bool
}

type crashPoint struct {
	name    string
	dir     string
	renewed bool // the step that there is no way back from is done
}

// at is a point in time at which the process may die.
func (c *crashes) at(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.on {
		return
	}
	c.turned = c.turned || name == c.turn
	p := crashPoint{fmt.Sprintf("%02d after %s", len(c.points), name), c.t.TempDir(), c.turned}
	copyTree(c.t, c.from, p.dir)
	c.points = append(c.points, p)
}

func (c *crashes) record(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = on
}

// tracedMeta and tracedFiler are the parts of the log that change its files.
type tracedMeta struct {
	types.MetaStore
	at func(string)
}

func (m tracedMeta) CommitState(s types.PersistentState) error {
	err := m.MetaStore.CommitState(s)
	m.at("log: list of segments written")
	return err
}

func (m tracedMeta) SetStable(key, value []byte) error {
	err := m.MetaStore.SetStable(key, value)
	m.at("log: " + string(key) + " written")
	return err
}

type tracedFiler struct {
	types.SegmentFiler
	at func(string)
}

func (f tracedFiler) Create(info types.SegmentInfo) (types.SegmentWriter, error) {
	w, err := f.SegmentFiler.Create(info)
	f.at("log: segment created")
	return w, err
}

func (f tracedFiler) Delete(base, id uint64) error {
	err := f.SegmentFiler.Delete(base, id)
	f.at("log: segment deleted")
	return err
}

// tracedLog opens a log that reports its changes, in small segments.
func tracedLog(t *testing.T, dir string, at func(string)) *logStore {
	t.Helper()
	files, err := checkLog(dir, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	w, err := wal.Open(dir, wal.WithSegmentSize(64<<10), wal.WithCodec(files.codec),
		wal.WithMetaStore(tracedMeta{files.meta, at}), wal.WithSegmentFiler(tracedFiler{files, at}))
	if err != nil {
		t.Fatal(err)
	}
	s, err := newCheckedLog(w, files.contents, prometheus.NewRegistry(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// crashBed is a member that copies itself.
func crashBed(t *testing.T, change ...func(*Config)) (*installBed, *crashes) {
	dir := t.TempDir()
	c := &crashes{t: t, from: dir}
	b := openBed(t, dir, func(cfg *Config) {
		cfg.logs = tracedLog(t, cfg.Dir, c.at)
		for _, f := range change {
			f(cfg)
		}
	})
	b.step = c.at
	return b, c
}

// unsynced are what a crash may make of the files that are not synced at a
// point: they can be torn or empty, and those that are new can be missing.
func unsynced(t *testing.T, p crashPoint, before string) []crashPoint {
	points := []crashPoint{p}
	variant := func(name string, change func(dir string) error) {
		dir := t.TempDir()
		copyTree(t, p.dir, dir)
		if err := change(dir); err != nil {
			t.Fatal(err)
		}
		points = append(points, crashPoint{p.name + ", " + name, dir, p.renewed})
	}
	intended := exists(statePath(p.dir) + intentSuffix)
	if part := statePath(p.dir) + stagedSuffix; exists(part) && !intended {
		variant("received file torn", func(dir string) error { return os.Truncate(statePath(dir)+stagedSuffix, 100) })
		variant("received file empty", func(dir string) error { return os.Truncate(statePath(dir)+stagedSuffix, 0) })
		variant("intent torn", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, ".db"+intentSuffix+".tmp-123"), []byte(`{"ind`), 0o600)
		})
	}
	if before != "" {
		for _, name := range newFiles(t, p.dir, before) {
			variant(name+" missing", func(dir string) error { return os.Remove(filepath.Join(dir, "wal", name)) })
		}
	}
	return points
}

// newFiles are the segments that a directory has and an earlier copy has not.
func newFiles(t *testing.T, dir, before string) []string {
	var out []string
	entries, err := os.ReadDir(filepath.Join(dir, "wal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !exists(filepath.Join(before, "wal", e.Name())) {
			out = append(out, e.Name())
		}
	}
	return out
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// A crash at any step of an install leaves the old state with its log, or leads
// to the new one; what was acknowledged is there, and the member catches up.
func TestInstall_crashAnywhere(t *testing.T) {
	b, c := crashBed(t)
	b.begin(t)
	args, content := leaderState(50, 3, 300_000)
	c.turn = "write the intent"
	c.record(true)
	c.at("the beginning")
	half := b.raw(t, args)
	if err := half.chunk(half.id, 0, content[:len(content)/2]); err != nil {
		t.Fatal(err)
	}
	c.at("half of the state")
	b.machine.preparing = func() { c.at("all of the state") }
	b.mustInstall(t, args, content)
	c.at("the answer")
	c.record(false)

	points := c.everything(t)
	if len(points) < 20 || !c.turned {
		t.Fatalf("%d points", len(points))
	}
	for i, p := range points {
		if testing.Short() && i%4 != 0 {
			continue
		}
		if exists(statePath(p.dir) + intentSuffix) {
			crashInRecovery(t, p)
		}
		t.Run(p.name, func(t *testing.T) { checkCrash(t, p) })
	}
}

// everything is what crashes at all points can leave.
func (c *crashes) everything(t *testing.T) []crashPoint {
	var all []crashPoint
	before := ""
	for _, p := range c.points {
		all = append(all, unsynced(t, p, before)...)
		before = p.dir
	}
	return all
}

// crashInRecovery has the recovery from a crash crash after each of its steps.
func crashInRecovery(t *testing.T, p crashPoint) {
	s := &swap{}
	for n := range len(s.steps()) {
		t.Run(fmt.Sprintf("%s, recovery ends after %d steps", p.name, n+1), func(t *testing.T) {
			dir := t.TempDir()
			copyTree(t, p.dir, dir)
			logs, err := openLogStore(filepath.Join(dir, "wal"), prometheus.NewRegistry(), zerolog.Nop())
			if err != nil {
				t.Fatal(err)
			}
			s := &swap{state: statePath(dir), log: logs, intent: intent{Index: 50, Term: 3}}
			steps := s.steps()[:n+1]
			if !exists(statePath(dir) + stagedSuffix) {
				steps = steps[1:]
			}
			if err := errors.Join(perform(steps, nil), logs.Close()); err != nil {
				t.Fatal(err)
			}
			checkCrash(t, crashPoint{dir: dir, renewed: p.renewed})
		})
	}
}

// checkCrash starts the member that a crash left.
func checkCrash(t *testing.T, p crashPoint) {
	b := openBed(t, p.dir, nil)
	defer b.close()
	nothingStaged(t, p.dir)
	want, last := numbers(8), uint64(10)
	if p.renewed {
		want, last = numbers(50), 50
	}
	b.holds(t, want)
	if got := b.node.LastIndex(); got != last {
		t.Fatalf("the log ends at %d, want %d", got, last)
	}
	for index := b.machine.Applied() + 1; index <= last; index++ {
		if term, err := b.termAt(index); err != nil || term != 2 {
			t.Fatalf("entry %d was acknowledged and is of term %d, %v", index, term, err)
		}
	}
	args, content := leaderState(50, 3, 0)
	b.mustInstall(t, args, content)
	b.follow(t, 3, 50, 3, 52, "51", "52")
	eventually(t, "the member catches up", func() bool { return b.machine.Applied() == 52 })
	if !slices.Equal(b.machine.all(), numbers(52)) {
		t.Fatalf("the state is %v", b.machine.all())
	}
}
