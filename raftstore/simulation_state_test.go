package raftstore

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// In schedules with installs the log is truncated after so many entries, so
// that short schedules see it.
const (
	simTruncate = 8
	simCatchUp  = 4
)

// simStates are the contents that state files have. A file holds the number of
// its content, so that it is small, and sent in no time.
type simStates struct {
	root string

	mu     sync.Mutex
	all    []*simState
	number map[*simState]int
	dirs   int
}

func newSimStates() *simStates {
	base := "/dev/shm" // syncs cost nothing there
	if _, err := os.Stat(base); err != nil {
		base = ""
	}
	root, err := os.MkdirTemp(base, "simulation-")
	if err != nil {
		panic(err)
	}
	return &simStates{root: root, number: map[*simState]int{}}
}

func (s *simStates) remove() {
	if s != nil {
		os.RemoveAll(s.root)
	}
}

func (s *simStates) file(state *simState) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.number[state]
	if !ok {
		n = len(s.all)
		s.all = append(s.all, state)
		s.number[state] = n
	}
	return fmt.Appendf(nil, "state %d\n", n)
}

func (s *simStates) of(file []byte) (*simState, error) {
	var n int
	if _, err := fmt.Sscanf(string(file), "state %d\n", &n); err != nil {
		return nil, errToyFile
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[n], nil
}

// directory makes the directory of a disk.
func (s *simStates) directory() *simFiles {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirs++
	dir := filepath.Join(s.root, fmt.Sprint(s.dirs))
	if err := os.Mkdir(dir, 0o700); err != nil {
		panic(err)
	}
	return &simFiles{states: s, dir: dir}
}

// simFiles are the state file of a member and what installs put beside it.
type simFiles struct {
	states *simStates
	dir    string
}

func (f *simFiles) path() string { return filepath.Join(f.dir, "db") }

// installing reports whether the state and the log are between two states.
func (f *simFiles) installing() bool {
	if f == nil {
		return false
	}
	_, err := os.Stat(f.path() + intentSuffix)
	return err == nil
}

// read is what the state file holds.
func (f *simFiles) read() *simState {
	raw, err := os.ReadFile(f.path())
	if os.IsNotExist(err) {
		return &simState{}
	}
	if err != nil {
		panic(err)
	}
	state, err := f.states.of(raw)
	if err != nil {
		panic(err)
	}
	return state
}

func (f *simFiles) write(state *simState) {
	temporary := filepath.Join(f.dir, "commit")
	if err := os.WriteFile(temporary, f.states.file(state), 0o600); err != nil {
		panic(err)
	}
	if err := os.Rename(temporary, f.path()); err != nil {
		panic(err)
	}
}

// crash is a copy of the files for the next process. The old one may be
// changing them: what is copied was there at one time.
func (f *simFiles) crash() *simFiles {
	found := f.contents()
	for {
		again := f.contents()
		if maps.EqualFunc(found, again, bytes.Equal) {
			break
		}
		found = again
	}
	next := f.states.directory()
	for name, raw := range found {
		if err := os.WriteFile(filepath.Join(next.dir, name), raw, 0o600); err != nil {
			panic(err)
		}
	}
	return next
}

func (f *simFiles) contents() map[string][]byte {
	out := map[string][]byte{}
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		if raw, err := os.ReadFile(filepath.Join(f.dir, e.Name())); err == nil {
			out[e.Name()] = raw
		}
	}
	return out
}

// recoverInstall is what a process does before it opens its state.
func (s *simulation) recoverInstall(d *simDisk, log zerolog.Logger) error {
	if d.files == nil {
		return nil
	}
	err := recoverInstall(d.files.path(), func() (*logStore, error) {
		return newLogStore(d, prometheus.NewRegistry(), log)
	}, log)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state = d.files.read()
	return err
}

// afterStep is told of each step of an install, and springs the trap.
func (r *simRun) afterStep(string) {
	r.disk.mu.Lock()
	r.disk.state = r.disk.files.read()
	r.disk.mu.Unlock()
	if r.trapInstall.Load() > 0 && r.trapInstall.Add(-1) == 0 {
		r.sim.crash(r, true)
	}
}

// commit writes the state file from time to time.
func (r *simRun) commit(ctx context.Context) {
	for ctx.Err() == nil {
		r.sim.pause(ctx, 500*time.Millisecond)
		if ctx.Err() == nil && !r.gone.Load() {
			r.machine.commit()
		}
	}
}

// simSnapshot is a Snapshot, and a Prepared.
type simSnapshot struct {
	state   *simState
	raw     []byte
	machine *simMachine
}

func (s *simSnapshot) Position() (uint64, uint64) { return s.state.position.Position() }
func (s *simSnapshot) Size() int64                { return int64(len(s.raw)) }
func (s *simSnapshot) Close() error               { return nil }

func (s *simSnapshot) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(s.raw)
	return int64(n), err
}

// Snapshot is asked for also where the log is kept whole: by a leader that was
// just deposed, of whose log the end was taken back. It fails then.
func (m *simMachine) Snapshot() (Snapshot, error) {
	if m.run.sim.states == nil {
		return nil, errNoRestore
	}
	// A deposed leader sends it again and again, without a pause of raft's, until
	// its log has what it takes to go on: that is only when time passes.
	time.Sleep(simDiskDelay)
	m.mu.Lock()
	defer m.mu.Unlock()
	return &simSnapshot{state: m.state, raw: m.run.sim.states.file(m.state)}, nil
}

func (m *simMachine) Prepare(path string) (Prepared, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	state, err := m.run.sim.states.of(raw)
	return &simSnapshot{state: state, machine: m}, err
}

func (s *simSnapshot) Install() func() error {
	m := s.machine
	m.mu.Lock()
	was := m.published.index
	m.state, m.at, m.published = s.state, s.state.position, s.state.position
	m.entries = s.state.entries[:len(s.state.entries):len(s.state.entries)]
	m.shown = len(m.entries)
	m.mu.Unlock()
	m.run.sim.history.installed(m.run, was, s.state.position.index)
	return func() error { return nil }
}

func (s *simSnapshot) Membership() (uint64, *conclavepb.Configuration) {
	return s.state.position.Membership()
}
