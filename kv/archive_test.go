package kv

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A watch far behind gets much at a time also where others read little at a time,
// having been level nearly, and no more than it may.
func TestArchive_joinsShortChapters(t *testing.T) {
	k, l := []byte("k"), []byte("l")
	for _, tt := range []struct {
		name   string
		w      Watch
		of     story
		limits replayLimits
		want   string // revisions of the events, and the end
	}{
		{"all of a key", Watch{Key: k}, story{"k", true}, defaultReplay, "[2 3 4 5 6 7] 7"},
		{"no deletions", Watch{Key: k, NoDelete: true}, story{}, defaultReplay, "[2 3 4 6 7] 7"},
		{"one key of all", Watch{Key: l}, story{}, defaultReplay, "[4] 7"},
		{"a range of all", Watch{Key: k, End: []byte("m")}, story{}, defaultReplay, "[2 3 4 4 5 6 7] 7"},
		{"few bytes", Watch{Key: k}, story{"k", true}, replayLimits{revisions: 10, bytes: 1}, "[2] 2"},
		{"whole revisions", Watch{Key: k, End: []byte("m")}, story{}, replayLimits{revisions: 10, bytes: 25}, "[2 3 4 4] 4"},
		{"few bytes of others", Watch{Key: l}, story{}, replayLimits{revisions: 10, bytes: 20}, "[] 3"},
		{"few records looked at", Watch{Key: l}, story{}, replayLimits{revisions: 3, bytes: 100}, "[4] 4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newHubFixture(t, hubLimits{streamBytes, streamEvents, inboxBytes, hubBytes, tt.limits})
			a := &f.hub.archive
			for _, ops := range [][]*pb.RequestOp{
				{opPut("k", "a")}, {opPut("k", "b")}, {opPut("k", "c"), opPut("l", "c")},
				{opDelete("k")}, {opPut("k", "d")}, {opPut("k", "e")},
			} {
				v := f.batch(func(b *Batch) {
					if _, err := b.Txn(&pb.TxnRequest{Success: ops}, None); err != nil {
						t.Fatal(err)
					}
				})
				if _, err := a.chapter(v, tt.of, v.rev); err != nil {
					t.Fatal(err)
				}
			}
			short := slices.Clone(a.kept)
			events, end, err := a.replay(f.s.View(), newWatch(f.hub.NewStream(), 1, tt.w), tt.of, 2, tt.limits.bytes)
			if err != nil {
				t.Fatal(err)
			}
			var revs []int64
			for _, e := range events {
				revs = append(revs, e.Rev())
				if c := short[e.Rev()-2]; !slices.Contains(c.events, e) {
					t.Errorf("revision %d was read anew", e.Rev())
				}
			}
			if got := fmt.Sprint(revs, end); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// Whatever the bounds, and whatever others have read before, at whichever view: a
// piece has every event of the watch up to its end, and gets on.
func TestArchive_random(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		limits := replayLimits{revisions: 1 + rnd.IntN(12), bytes: 1 + rnd.IntN(200)}
		f := newHubFixture(t, hubLimits{streamBytes, streamEvents, inboxBytes, hubBytes, limits})
		views, history := []*View{f.s.View()}, []*Event(nil)
		for range 300 {
			if rnd.IntN(5) == 0 {
				views = append(views, f.randomWrite(rnd))
				events, _, err := f.s.View().replayAll(f.s.View().rev, defaultReplay)
				if err != nil {
					t.Fatal(err)
				}
				if len(history) == 0 || len(events) > 0 && events[0].Rev() > history[len(history)-1].Rev() {
					history = append(history, events...)
				}
			}
			f.flush(rnd.IntN(len(f.queue) + 1))
			if rev := f.s.View().rev; rnd.IntN(200) == 0 && rev > f.s.View().compactRev+1 {
				views = append(views, f.compact(f.s.View().compactRev+1+rnd.Int64N(rev-f.s.View().compactRev-1)))
			}
			v := views[max(0, len(views)-1-rnd.IntN(6))]
			spec, of := Watch{Key: []byte{'a' + byte(rnd.IntN(4))}}, story{}
			switch rnd.IntN(3) {
			case 0:
				of = story{string(spec.Key), true}
			case 1:
				spec.End = []byte{spec.Key[0] + 1 + byte(rnd.IntN(3))}
				fallthrough
			default:
				spec.NoPut, spec.NoDelete = rnd.IntN(4) == 0, rnd.IntN(4) == 0
			}
			w := newWatch(f.hub.NewStream(), 1, spec)
			from := 2 + rnd.Int64N(v.rev+1)
			got, end, err := f.hub.archive.replay(v, w, of, from, 1+rnd.IntN(limits.bytes))
			if errors.Is(err, ErrCompacted) && from < f.s.View().compactRev {
				continue
			}
			if err != nil || end < from && from <= v.rev {
				t.Fatalf("seed %d: from %d of %d up to %d: %v", seed, from, v.rev, end, err)
			}
			var want []*Event
			for _, e := range history {
				if e.Rev() >= from && e.Rev() <= end && w.holds(e.Key()) && !w.ignores(e.Deleted()) {
					want = append(want, e)
				}
			}
			if !slices.EqualFunc(got, want, func(a, b *Event) bool { return a.rev == b.rev && string(a.enc) == string(b.enc) }) {
				t.Fatalf("seed %d: %+v of %+v from %d up to %d: %d events, want %d", seed, spec, of, from, end, len(got), len(want))
			}
		}
	}
}

// randomWrite puts and deletes some of four keys in one revision.
func (f *hubFixture) randomWrite(rnd *rand.Rand) *View {
	var ops []*pb.RequestOp
	for _, k := range rnd.Perm(4)[:1+rnd.IntN(3)] {
		if key := string(rune('a' + k)); rnd.IntN(3) == 0 {
			ops = append(ops, opDelete(key))
		} else {
			ops = append(ops, opPut(key, strings.Repeat("x", rnd.IntN(40))))
		}
	}
	return f.batch(func(b *Batch) {
		if _, err := b.Txn(&pb.TxnRequest{Success: ops}, None); err != nil {
			f.t.Fatal(err)
		}
	})
}
