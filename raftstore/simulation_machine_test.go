package raftstore

import (
	"sync"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// simEntry is one thing that a simMachine applied.
type simEntry struct {
	index, term uint64
	value       string // empty for a membership
	conf        *conclavepb.Configuration
}

// simState is what a state file holds. It does not change once it is written.
type simState struct {
	position toyPosition
	entries  []simEntry
}

// simMachine keeps everything that it was given, and shows it to the history.
type simMachine struct {
	run *simRun

	mu        sync.Mutex
	entries   []simEntry
	at        toyPosition
	published toyPosition
	shown     int // entries that the published state has
	state     *simState
}

// newSimMachine loads the state file.
func newSimMachine(run *simRun, state *simState) *simMachine {
	return &simMachine{
		run: run, state: state, entries: state.entries[:len(state.entries):len(state.entries)],
		at: state.position, published: state.position, shown: len(state.entries),
	}
}

func (m *simMachine) Command(index, term uint64, data []byte) {
	m.add(simEntry{index: index, term: term, value: string(data)})
}

func (m *simMachine) Configure(index, term uint64, conf *conclavepb.Configuration) {
	m.add(simEntry{index: index, term: term, conf: conf})
}

func (m *simMachine) add(e simEntry) {
	m.mu.Lock()
	before := m.at.index
	m.at.index, m.at.term = e.index, e.term
	if e.conf != nil {
		m.at.confIndex, m.at.conf = e.index, e.conf
	}
	m.entries = append(m.entries, e)
	m.mu.Unlock()
	m.run.sim.history.applied(m.run, before, e)
}

func (m *simMachine) Publish() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.published, m.shown = m.at, len(m.entries)
}

func (m *simMachine) Applied() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.published.index
}

func (m *simMachine) Synced() Synced {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.position
}

// commit writes the state file, up to some entry that was published.
func (m *simMachine) commit() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.published.index == m.state.position.index {
		return
	}
	d := m.run.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files != nil && d.files.read().position.index != m.state.position.index {
		return // it is being replaced: this would go to the old file
	}
	m.state = &simState{position: m.published, entries: m.entries[:m.shown:m.shown]}
	d.state = m.state
	if d.files != nil {
		d.files.write(m.state)
	}
}

// has reports whether a value is published.
func (m *simMachine) has(value string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.entries[:m.shown] {
		if e.value == value {
			return true
		}
	}
	return false
}
