package kv

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
)

// A seenEntry is an entry and what it was when it was made.
type seenEntry struct {
	e    *entry
	rev  revision
	old  []oldRev
	enc  []byte
	bits uint32
}

func (s *seenEntry) check(t *testing.T) {
	t.Helper()
	if s.e.rev() != s.rev || s.e.bits != s.bits || !slices.Equal(s.e.old(), s.old) || !bytes.Equal(s.e.enc(), s.enc) {
		t.Errorf("entry of %v with %d older revisions became one of %v with %v", s.rev, len(s.old), s.e.rev(), s.e.old())
	}
}

// Entries of one key, however many older revisions they have and lose, stay what
// they were when newer ones come: views have them. Some records are empty, as
// etcd's restore tool writes one.
func TestEntry_versions(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 2))
		var seen []seenEntry
		var e *entry
		var want []oldRev
		slab := graves{left: 1000}
		for i := range 200 {
			switch keep := rng.IntN(12); {
			case keep == 0 && len(want) > 0:
				n := rng.IntN(len(want) + 1)
				e, want = e.without(n), slices.Clone(want[n:])
			default:
				rec := record{value: make([]byte, rng.IntN(40))}
				if rng.IntN(5) > 0 {
					rec.key = []byte("key")
				}
				if e != nil {
					want = append(slices.Clone(want), packRev(e.rev()))
				}
				rev := revision{main: int64(i + 1), sub: rng.Uint32N(maxSub + 1), tomb: rng.IntN(3) == 0}
				alloc := allocateOne
				if rng.IntN(2) == 0 {
					alloc = slab.allocate
				}
				e = succeed(e, rev, &rec, alloc)
				seen = append(seen, seenEntry{e, rev, want, rec.encode(), e.bits})
			}
			if !slices.Equal(e.old(), want) {
				t.Fatalf("seed %d, step %d: older revisions %v, want %v", seed, i, e.old(), want)
			}
		}
		runtime.GC()
		for i := range seen {
			seen[i].check(t)
		}
	}
}

// While a file is loaded revisions come newest first, at last they are oldest
// first.
func TestEntry_loading(t *testing.T) {
	for n := range 3 * maxInlineRevs {
		rec := record{key: []byte("key"), value: []byte("value")}
		e := newEntry(revision{main: 100}, &rec)
		var want []oldRev
		for i := range n {
			e = e.addOlder(revision{main: int64(99 - i), tomb: i%2 == 0})
			want = append(want, packRev(revision{main: int64(99 - i), tomb: i%2 == 0}))
		}
		e.oldestFirst()
		slices.Reverse(want)
		if !slices.Equal(e.old(), want) || e.main != 100 || !bytes.Equal(e.enc(), rec.encode()) {
			t.Errorf("%d older revisions: %v, of %d: %q", n, e.old(), e.main, e.enc())
		}
		// What follows is another version: the first one stays.
		succeed(e, revision{main: 101}, &rec, allocateOne)
		if !slices.Equal(e.old(), want) {
			t.Errorf("%d older revisions: they changed to %v", n, e.old())
		}
	}
}
