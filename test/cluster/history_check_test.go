package cluster_test

import (
	"fmt"
	"slices"
)

// model is what the keys are, write by write.
type model struct {
	keys map[string]change
	past []change // all events so far
}

// apply returns the events that a transaction must cause at a revision.
func (m *model) apply(name string, t *transaction, revision int64) []change {
	var events []change
	for _, w := range t.writes {
		old, there := m.keys[w.key]
		if w.deletes && !there {
			continue
		}
		c := change{
			key: w.key, deleted: w.deletes, mod: revision,
			prevName: old.name, prevMod: old.mod, prevCreate: old.create, prevVersion: old.version,
		}
		if w.deletes {
			delete(m.keys, w.key)
		} else {
			c.name, c.create, c.version = name, revision, old.version+1
			if there {
				c.create = old.create
			}
			m.keys[w.key] = c
		}
		events = append(events, c)
	}
	m.past = append(m.past, events...)
	return events
}

// check compares what the watches saw with what must have happened.
func (h *history) check(last int64) {
	h.t.Helper()
	truth := h.truth(last)
	h.writers.mu.Lock()
	asked, acked := len(h.writers.named), h.writers.acked
	h.writers.mu.Unlock()
	h.t.Logf("%d revisions, %d of %d transactions were acknowledged", last-h.first, acked, asked)
	for _, f := range h.followers {
		f.mu.Lock()
		if err := f.against(truth, h.compacted); err != nil {
			h.t.Errorf("%s: %v", f.name, err)
		}
		h.t.Logf("%s: %d events, %d times progress, begun %d times, compacted before it came back %d times", f.name, len(f.seen), f.told, f.resumed, len(f.owed))
		f.mu.Unlock()
	}
}

// truth builds the history from the transactions, in the order of revisions that
// the watch of everything gives them. It fails where that watch leaves out a
// revision, shows a transaction twice or in part, or contradicts an answer.
func (h *history) truth(last int64) []change {
	h.t.Helper()
	m := &model{keys: map[string]change{}}
	played := map[string]int64{}
	seen := h.scribe.seen
	for revision := h.first + 1; revision <= last; revision++ {
		n := 0
		for n < len(seen) && seen[n].mod == revision {
			n++
		}
		group := seen[:n]
		seen = seen[n:]
		name := ""
		for _, c := range group {
			if !c.deleted {
				name = c.name
			}
		}
		t := h.writers.named[name]
		if t == nil {
			h.t.Fatalf("revision %d is missing, or nobody's: %+v", revision, group)
		}
		if before := played[name]; before != 0 {
			h.t.Fatalf("the transaction %s has the revisions %d and %d", name, before, revision)
		}
		played[name] = revision
		if want := m.apply(name, t, revision); !slices.Equal(want, group) {
			h.t.Fatalf("revision %d:\n%+v, want\n%+v", revision, group, want)
		}
	}
	if len(seen) > 0 {
		h.t.Fatalf("events after the last write, at %d: %+v", last, seen[0])
	}
	for name, t := range h.writers.named {
		if t.revision != 0 && t.revision != played[name] {
			h.t.Errorf("the answer to %s named revision %d, it is at %d", name, t.revision, played[name])
		}
	}
	h.sameKeys(m)
	return m.past
}

// sameKeys compares the model with a read.
func (h *history) sameKeys(m *model) {
	h.t.Helper()
	resp, err := h.all.Get(h.ctx, historyPrefix, prefixed...)
	h.ok(err)
	if len(resp.Kvs) != len(m.keys) {
		h.t.Errorf("%d keys, want %d", len(resp.Kvs), len(m.keys))
	}
	for _, kv := range resp.Kvs {
		if c := m.keys[string(kv.Key)]; c.mod != kv.ModRevision || c.create != kv.CreateRevision || c.version != kv.Version || c.name != nameOf(kv.Value) {
			h.t.Errorf("%s is of %d, want %+v", kv.Key, kv.ModRevision, c)
		}
	}
}

// against compares what one watch saw with its part of the truth. Held: mu.
func (f *follower) against(truth []change, compacted int64) error {
	seen := f.seen
	for _, want := range truth {
		if !f.watches(want.key) || f.excused(want.mod) {
			continue
		}
		if len(seen) == 0 {
			return fmt.Errorf("nothing at revision %d, want %+v", want.mod, want)
		}
		got := seen[0]
		seen = seen[1:]
		if !f.prev || got.prevMod == 0 && want.mod <= compacted { // what was before it may be gone
			want.prevName, want.prevMod, want.prevCreate, want.prevVersion = "", 0, 0, 0
		}
		if got != want {
			return fmt.Errorf("%+v, want %+v", got, want)
		}
	}
	if len(seen) > 0 {
		return fmt.Errorf("%d events more than there were: %+v", len(seen), seen[0])
	}
	return nil
}

func (f *follower) watches(key string) bool {
	return key == f.key || f.end != "" && key >= f.key && key < f.end
}

// excused: the revision was compacted before the watch was back. Held: mu.
func (f *follower) excused(revision int64) bool {
	return slices.ContainsFunc(f.owed, func(gap [2]int64) bool { return revision >= gap[0] && revision < gap[1] })
}
