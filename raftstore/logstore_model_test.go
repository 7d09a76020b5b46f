package raftstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// logModel is what raft was told about its log.
type logModel struct {
	t     *testing.T
	rng   *rand.Rand
	disk  *memoryBackend
	store *logStore

	logs  []*raft.Log // consecutive
	start uint64
	term  uint64
	// pending is what the log may be instead after a crash, because a removal
	// was interrupted.
	pending *logModel
	reset   bool // of pending: by a Reset

	mu    sync.Mutex     // of what the disk's hooks use
	live  *memoryBackend // disk; an earlier process may still use an earlier one
	dice  *rand.Rand     // theirs
	after *memoryBackend // what the crash left
	fuse  int            // disk operations until it; 0: none is coming
}

// next is what a crash left, nil when there was none.
func (m *logModel) next() *memoryBackend {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.after
}

func (m *logModel) crashed(disk *memoryBackend) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.after, m.fuse = disk, 0
}

// hook is asked before each disk operation.
func (m *logModel) hook(disk *memoryBackend) func(string) time.Duration {
	return func(string) time.Duration {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.fuse > 0 && disk == m.live {
			if m.fuse--; m.fuse == 0 {
				m.after = disk.crash(m.dice.IntN(2) == 0)
			}
		}
		return time.Duration(m.dice.IntN(5)) * time.Millisecond
	}
}

func (m *logModel) end() uint64 {
	if len(m.logs) == 0 {
		return m.start
	}
	return m.logs[len(m.logs)-1].Index
}

func (m *logModel) copy() *logModel { return &logModel{logs: m.logs, start: m.start} }

// open starts a process on the disk.
func (m *logModel) open() {
	m.mu.Lock()
	m.live = m.disk
	m.mu.Unlock()
	m.disk.hooks(m.hook(m.disk), nil)
	m.store = openMemory(m.t, m.disk, true)
}

// holds reports whether a disk's log is what was told, up to at least durable.
func (m *logModel) holds(disk raft.LogStore, durable uint64) error {
	first, last, err := bounds(disk)
	if err != nil {
		return err
	}
	if last == 0 && durable <= m.start {
		return nil
	}
	if last < durable || last > m.end() {
		return fmt.Errorf("the log ends at %d; %d was durable, %d stored", last, durable, m.end())
	}
	if len(m.logs) > 0 && first != m.logs[0].Index {
		return fmt.Errorf("the log begins at %d, not %d", first, m.logs[0].Index)
	}
	for _, want := range m.logs {
		if want.Index > last {
			break
		}
		var got raft.Log
		if err := disk.GetLog(want.Index, &got); err != nil || !reflect.DeepEqual(*want, got) {
			return fmt.Errorf("entry %d is %v, not %v: %w", want.Index, got, *want, err)
		}
	}
	return nil
}

// restart takes what the crash left, checks it, and opens it.
func (m *logModel) restart() {
	next, durable := m.next(), m.store.Durable()
	mark, _ := next.GetUint64(keyLogStart)
	reset := m.pending != nil && m.pending.reset
	var err error
	if !reset || mark != m.start { // opening ends a Reset whose mark is there
		err = m.holds(next, durable)
	}
	if m.pending != nil && (err != nil || reset && mark != m.start) {
		m.logs, m.start = m.pending.logs, m.pending.start
		err = m.holds(next, min(durable, m.end()))
	}
	if err != nil {
		m.t.Fatalf("after a crash: %v", err)
	}
	m.disk, m.pending = next, nil
	m.crashed(nil)
	m.open()
	last := m.store.Durable()
	for len(m.logs) > 0 && m.end() > last {
		m.logs = m.logs[:len(m.logs)-1]
	}
	m.term++
}

// fell takes an operation's error and reports whether the process crashed.
func (m *logModel) fell(err error) bool {
	if err == nil && m.next() == nil {
		return false
	}
	if m.next() == nil || err != nil && !errors.Is(err, errCrashed) {
		m.t.Fatal(err)
	}
	m.restart()
	return true
}

// step does one thing that raft might.
func (m *logModel) step() {
	s := m.store
	switch m.rng.IntN(12) {
	case 0, 1, 2, 3:
		logs := entries(m.end()+1, m.end()+1+m.rng.Uint64N(5), m.term)
		if m.rng.IntN(8) == 0 {
			logs[0].Type = raft.LogConfiguration
		}
		err := s.StoreLogs(logs)
		m.logs = append(m.logs[:len(m.logs):len(m.logs)], logs...)
		if !m.fell(err) && logs[0].Type == raft.LogConfiguration && s.Durable() < logs[0].Index {
			m.t.Fatal("a configuration is not durable")
		}
	case 4: // a conflict
		if len(m.logs) > 0 {
			keep := m.rng.IntN(len(m.logs))
			before := m.copy()
			lo, hi := m.logs[keep].Index, m.end()
			m.logs = m.logs[:keep:keep]
			if keep == 0 {
				m.start = lo - 1
			}
			m.pending = before
			m.fell(s.DeleteRange(lo, hi))
			m.pending = nil
			m.term++
		}
	case 5: // a truncation
		if len(m.logs) > 1 {
			drop := 1 + m.rng.IntN(len(m.logs)-1)
			before := m.copy()
			lo, hi := m.logs[0].Index, m.logs[drop-1].Index
			m.logs = m.logs[drop:]
			m.pending = before
			m.fell(s.DeleteRange(lo, hi))
			m.pending = nil
		}
	case 6:
		want := m.end()
		if !m.fell(s.Flush(nil)) && s.Durable() < want {
			m.t.Fatalf("flushed, and %d of %d are durable", s.Durable(), want)
		}
	case 7:
		if index := s.Durable() + m.rng.Uint64N(3); index <= m.end() {
			m.fell(s.AwaitDurable(index, nil))
		}
	case 8: // an install
		if m.rng.IntN(4) == 0 {
			before := m.copy()
			after := max(m.start+1, m.end()-min(m.end(), m.rng.Uint64N(20))+m.rng.Uint64N(5))
			if len(m.logs) > 0 {
				after = max(after, m.logs[0].Index)
			}
			m.start = after
			m.logs = nil
			m.pending, before.reset = before, true
			m.fell(s.Reset(m.start))
			m.pending = nil
		}
	case 9:
		if m.rng.IntN(4) == 0 { // an orderly stop
			m.mu.Lock()
			m.fuse = 0 // a crash that came already stays
			m.mu.Unlock()
			if m.next() == nil {
				if err := s.Close(); err != nil {
					m.t.Fatal(err)
				}
				m.crashed(m.disk.crash(false))
				if err := m.holds(m.next(), m.end()); err != nil {
					m.t.Fatalf("after Close: %v", err)
				}
			}
			m.restart()
		}
	case 10:
		m.mu.Lock()
		if m.fuse == 0 && m.after == nil {
			m.fuse = 1 + m.rng.IntN(4)
		}
		m.mu.Unlock()
	case 11:
		time.Sleep(time.Duration(m.rng.IntN(8)) * time.Millisecond)
		if m.next() != nil {
			m.restart()
		}
	}
}

// check compares the log with what raft was told.
func (m *logModel) check() {
	first, last, _ := m.store.Span()
	if len(m.logs) == 0 && first == 0 && m.store.Start() == m.start {
		return
	}
	if len(m.logs) == 0 || first != m.logs[0].Index || last != m.end() {
		m.t.Fatalf("the log is %d to %d, start %d; told %d entries to %d", first, last, m.store.Start(), len(m.logs), m.end())
	}
	want := m.logs[m.rng.IntN(len(m.logs))]
	var got raft.Log
	if err := m.store.GetLog(want.Index, &got); m.next() == nil && (err != nil || !reflect.DeepEqual(*want, got)) {
		m.t.Fatalf("entry %d is %v, not %v: %v", want.Index, got, *want, err)
	}
	if m.store.Durable() > m.end() {
		m.t.Fatalf("%d is durable of %d", m.store.Durable(), m.end())
	}
}

// Whatever raft does and whenever the process or the power fails, the log is
// what raft was told, and after a restart at least what was called durable.
func TestLogStore_model(t *testing.T) {
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			m := &logModel{t: t, rng: rand.New(rand.NewPCG(seed, 1)), dice: rand.New(rand.NewPCG(seed, 2)), disk: newMemoryBackend(), term: 1}
			m.open()
			m.store.cache.limit = 10 * loggedOverhead // most reads are from the disk
			for range 200 {
				m.step()
				m.check()
			}
			if t.Failed() {
				t.Logf("seed %d", seed)
			}
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
