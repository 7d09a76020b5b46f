package raftstore

import (
	"fmt"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// history is what all members and clients of one simulation have seen, and
// judges each new observation by it. Its first failure stays and ends the
// schedule.
type history struct {
	sim *simulation

	mu       sync.Mutex
	agreed   map[uint64]simEntry // by index
	after    map[uint64]uint64   // what a machine sees after an index
	where    map[string]uint64   // the index of a value
	newest   uint64
	refused  map[string]uint64 // proposals that are not made, by the member that said so
	acked    map[string]uint64 // proposals that are agreed, with their index
	openers  map[uint64]string // the opening command of each term
	floor    uint64            // a read that begins now sees at least this index
	reads    int
	changes  int // of the membership, acknowledged
	installs int
	failed   error
	failing  chan struct{} // closed when failed is set
}

func newHistory(s *simulation) *history {
	return &history{
		sim: s, agreed: map[uint64]simEntry{}, after: map[uint64]uint64{}, where: map[string]uint64{},
		refused: map[string]uint64{}, acked: map[string]uint64{}, openers: map[uint64]string{},
		failing: make(chan struct{}),
	}
}

func (h *history) fail(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failLocked(format, args...)
}

func (h *history) failLocked(format string, args ...any) {
	if h.failed == nil {
		h.failed = fmt.Errorf(format, args...)
		close(h.failing)
	}
}

func (h *history) failure() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failed
}

// applied is told of each entry before it is published; before is the entry
// that the same machine applied last.
func (h *history) applied(run *simRun, before uint64, e simEntry) {
	if run.gone.Load() {
		return
	}
	durable := h.sim.durable(e.index, e.term)
	h.mu.Lock()
	defer h.mu.Unlock()
	who := fmt.Sprintf("member %d applied %q at %d of term %d", run.id, e.value, e.index, e.term)
	if next, ok := h.after[before]; ok && next != e.index {
		h.failLocked("%s after %d, where another applied %d", who, before, next)
	}
	h.after[before] = e.index
	if old, ok := h.agreed[e.index]; ok {
		if old.term != e.term || old.value != e.value || (old.conf == nil) != (e.conf == nil) {
			h.failLocked("%s, where another applied %q of term %d", who, old.value, old.term)
		}
		return
	}
	h.agreed[e.index] = e
	h.newest = max(h.newest, e.index)
	if own := run.disk.holds(e.index, e.term); !own && !run.gone.Load() {
		h.failLocked("%s, and it is not on its disk", who)
	}
	if !durable {
		h.failLocked("%s, and no majority has it on disk", who)
	}
	if e.conf != nil {
		h.reconfigured(who, e)
		return
	}
	var term, id uint64
	if n, _ := fmt.Sscanf(e.value, "open %d by %d", &term, &id); n == 2 {
		// A leader that heard no answer proposes the same again.
		if old, ok := h.openers[e.term]; ok && old != e.value || term != e.term {
			h.failLocked("%s, and the term was opened by %q", who, old)
		}
		h.openers[e.term] = e.value
		if !votes(h.membershipAt(e.index), id) {
			h.failLocked("%s, and it has no vote", who)
		}
		return
	}
	if at, ok := h.where[e.value]; ok {
		h.failLocked("%s, and it was agreed at %d", who, at)
	}
	h.where[e.value] = e.index
	if by, ok := h.refused[e.value]; ok {
		h.failLocked("%s, and member %d had refused it", who, by)
	}
}

// membershipAt is the membership that is agreed before index.
func (h *history) membershipAt(index uint64) *conclavepb.Configuration {
	for at := index - 1; at > 0; at-- {
		if e, ok := h.agreed[at]; ok && e.conf != nil {
			return e.conf
		}
	}
	return h.sim.firstMembership()
}

// reconfigured judges a membership that was agreed: it has a quorum in common
// with the one before, as one more or one fewer voter leaves it.
func (h *history) reconfigured(who string, e simEntry) {
	before, moved := h.membershipAt(e.index), 0
	for id := range uint64(len(h.sim.members)) {
		if votes(before, id+1) != votes(e.conf, id+1) {
			moved++
		}
	}
	if moved > 1 {
		h.failLocked("%s: %d votes were given or taken at once", who, moved)
	}
	if len(encodeConfiguration(e.conf).Servers) == 0 {
		h.failLocked("%s: a membership without members", who)
	}
}

// ordered notes the answer to a change of the membership.
func (h *history) ordered(run *simRun, c Change, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil && !run.gone.Load() {
		h.changes++
	}
}

func votes(conf *conclavepb.Configuration, id uint64) bool {
	for _, s := range conf.Servers {
		if s.Id == id {
			return !s.Learner && !s.Pending
		}
	}
	return false
}

// installed is told of each state that replaces another.
func (h *history) installed(run *simRun, was, now uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if run.gone.Load() {
		return
	}
	h.installs++
	if now < was {
		h.failLocked("member %d installed a state at %d over one at %d", run.id, now, was)
	}
}

// proposed notes the answer to a proposal.
func (h *history) proposed(run *simRun, value string, definite bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if run.gone.Load() {
		return // nobody heard it
	}
	at, found := h.where[value]
	switch {
	case err == nil && !found:
		h.failLocked("member %d acknowledged %q, which nobody applied", run.id, value)
	case err == nil:
		h.acked[value] = at
		h.floor = max(h.floor, at)
	case definite && found:
		h.failLocked("member %d refused %q (%v), which was applied at %d", run.id, value, err, at)
	case definite:
		h.refused[value] = run.id
	}
}

// beginRead is the index that a read beginning now must see.
func (h *history) beginRead() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.floor
}

// endRead notes what a read saw.
func (h *history) endRead(run *simRun, floor, saw uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if run.gone.Load() {
		return
	}
	h.reads++
	if saw < floor {
		h.failLocked("stale read on member %d: it saw up to %d, but up to %d was acknowledged or read before it began", run.id, saw, floor)
	}
	h.floor = max(h.floor, saw)
}

func (h *history) countAcked() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.acked)
}

// told checks a message that leaves a member: the commit index in it is agreed,
// and on the disk of who sends it.
func (h *history) told(run *simRun, m *raft.AppendEntriesRequest) {
	commit := m.LeaderCommitIndex
	d := run.disk
	d.mu.Lock()
	last := d.end()
	d.mu.Unlock()
	if commit > last && !run.gone.Load() {
		h.fail("member %d told of commit index %d, and its disk ends at %d", run.id, commit, last)
	}
}
