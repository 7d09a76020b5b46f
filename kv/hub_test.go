package kv

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A hubFixture is a store whose changes a hub is told.
type hubFixture struct {
	*fixture
	hub *Hub
}

func newHubFixture(t testing.TB, limits hubLimits) *hubFixture {
	f := &hubFixture{fixture: newFixture(t, Options{})}
	f.hub = NewHub(f.s.View())
	f.hub.bound(limits)
	return f
}

// tell puts keys and routes that.
func (f *hubFixture) tell(pairs ...string) {
	f.t.Helper()
	v := f.put(pairs...)
	f.hub.Publish(v, f.queue[len(f.queue)-1])
	f.hub.Route()
}

// watching makes a stream with one watch, whose creation is taken.
func (f *hubFixture) watching(spec Watch) (*Stream, *watch) {
	f.t.Helper()
	s := f.hub.NewStream()
	f.t.Cleanup(s.Close)
	id, err := s.Create(0, spec)
	if err != nil {
		f.t.Fatal(err)
	}
	if u, ok, err := s.Next(); !ok || err != nil || u.Kind != Created {
		f.t.Fatalf("%+v, %t, %v", u, ok, err)
	}
	return s, s.watches[id]
}

// rest takes what there is for a stream.
func (f *hubFixture) rest(s *Stream) (all []*Event) {
	f.t.Helper()
	for {
		u, ok, err := s.Next()
		if err != nil {
			f.t.Fatal(err)
		}
		if !ok {
			return all
		}
		all = append(all, u.Events...)
	}
}

// What waits for consumers that do not read, and what is in their hands, is
// bounded for all of them together. A consumer that reads is not made to read
// history because of them.
func TestHub_stalledStreams(t *testing.T) {
	const streams, size = 200, 1000
	limits := hubLimits{streamBytes: 20 * size, streamEvents: 100, inbox: inboxBytes, hub: 500 * size, replay: replayLimits{revisions: 100, bytes: 20 * size}}
	f := newHubFixture(t, limits)
	bound := 2*limits.hub + streams*(size+50) // and one revision each
	hands := make(map[*Stream]int)
	within := func(when string) {
		t.Helper()
		sum := 0
		for s := range f.hub.streams {
			sum += s.bytes + hands[s]
		}
		if n := f.hub.bytes.Load(); n != int64(sum) {
			t.Fatalf("%s: %d bytes wait or are in hand, %d by the account", when, sum, n)
		}
		if n := f.hub.bytes.Load(); n > bound {
			t.Fatalf("%s: %d bytes wait or are in hand, more than %d", when, n, bound)
		}
	}
	var stalled []*Stream
	for i := range streams {
		spec := Watch{Key: []byte("k")}
		if i%2 == 0 {
			spec.End = []byte("l")
		}
		s, _ := f.watching(spec)
		stalled = append(stalled, s)
	}
	reader, w := f.watching(Watch{Key: []byte("k")})
	value := strings.Repeat("v", size)
	seen := 0
	for round, puts := range []int{10, 30, 40, 40} { // at first they are not behind
		for range puts {
			f.tell("k", value)
			within("routed")
			if !w.live {
				t.Fatalf("round %d: the reader fell behind because of others", round)
			}
			seen += len(f.rest(reader))
		}
		for _, s := range stalled { // takes one update, and is busy with it
			u, _, err := s.Next()
			if err != nil {
				t.Fatal(err)
			}
			hands[s] = sizeOf(u.Events)
			within("taken")
		}
	}
	if seen != 120 {
		t.Errorf("the reader got %d events of 120", seen)
	}
	if n := f.hub.bytes.Load(); n < limits.hub/2 {
		t.Errorf("only %d bytes wait: the test sees too little", n)
	}
	for _, s := range stalled {
		s.Close()
	}
	f.rest(reader)
	if n := f.hub.bytes.Load(); n != 0 {
		t.Errorf("%d bytes are left in the account", n)
	}
}

// Watches of ranges that resume at near revisions have history read for them
// once.
func TestHub_sharedHistory(t *testing.T) {
	f := newHubFixture(t, hubLimits{streamBytes, streamEvents, inboxBytes, hubBytes, replayLimits{revisions: 50, bytes: 1 << 20}})
	const puts = 400
	for i := range puts {
		f.put(fmt.Sprintf("k%d", i%4), fmt.Sprint(i))
	}
	f.flush(puts / 2) // the other half is read from memory
	f.hub.Reset(f.s.View())
	var first []*Event
	for i := range 40 {
		s, _ := f.watching(Watch{Key: []byte("k"), End: []byte("l"), Start: int64(2 + i)})
		events := f.rest(s)
		if len(events) != puts-i {
			t.Fatalf("watch %d got %d events, want %d", i, len(events), puts-i)
		}
		for j, e := range events {
			if e.Rev() != int64(2+i+j) {
				t.Fatalf("watch %d: event %d is of revision %d", i, j, e.Rev())
			}
		}
		if i == 0 {
			first = events
			continue
		}
		for j, e := range events {
			if e != first[i+j] {
				t.Fatalf("watch %d read revision %d by itself", i, e.Rev())
			}
		}
	}
}

// So have watches of one key, not far behind or far.
func TestHub_sharedHistoryOfKey(t *testing.T) {
	for name, revisions := range map[string]int{"near": 1000, "far": 10} {
		t.Run(name, func(t *testing.T) {
			limits := hubLimits{streamBytes, streamEvents, inboxBytes, hubBytes, defaultReplay}
			limits.replay.revisions = revisions
			f := newHubFixture(t, limits)
			const puts = 100
			for i := range puts {
				f.put("k", fmt.Sprint(i))
				f.put("other", "")
			}
			f.flush(puts) // the other half is read from memory
			f.hub.Reset(f.s.View())
			var streams []*Stream
			for i := range sharedBy {
				s, _ := f.watching(Watch{Key: []byte("k"), Start: int64(2 + 2*i)})
				streams = append(streams, s)
			}
			first := f.rest(streams[0])
			if len(first) != puts {
				t.Fatalf("%d events of %d", len(first), puts)
			}
			for i, s := range streams[1:] {
				events := f.rest(s)
				if len(events) != puts-1-i {
					t.Fatalf("watch %d got %d events, the first %d", i+1, len(events), puts)
				}
				for j, e := range events {
					if string(e.Key()) != "k" || e != first[1+i+j] {
						t.Fatalf("watch %d read revision %d of %s by itself", i+1, e.Rev(), e.Key())
					}
				}
			}
		})
	}
}

// Watches of keys, many of one or few, leave what those of ranges have read.
func TestHub_keysPushOutNoRanges(t *testing.T) {
	limits := hubLimits{streamBytes, streamEvents, inboxBytes, hubBytes, defaultReplay}
	limits.replay.revisions = 10
	f := newHubFixture(t, limits)
	const keys = 2 * archiveChapters
	for i := range keys {
		f.put(fmt.Sprint("k", i), "")
	}
	f.flushAll()
	f.hub.Reset(f.s.View())
	first := func(w Watch) *Event {
		s, _ := f.watching(w)
		u, ok, err := s.Next()
		if !ok || err != nil || len(u.Events) == 0 {
			t.Fatalf("%+v, %t, %v", u, ok, err)
		}
		return u.Events[0]
	}
	before := first(Watch{Key: []byte("k"), End: []byte("l"), Start: 2})
	for i := range keys - limits.replay.revisions {
		for n := range sharedBy {
			w := Watch{Key: fmt.Append(nil, "k", i), Start: 2, NoDelete: n == 0}
			if first(w).Rev() != int64(2+i) {
				t.Fatalf("watch %d of key %d does not see revision %d first", n, i, 2+i)
			}
		}
	}
	if after := first(Watch{Key: []byte("k"), End: []byte("l"), Start: 2}); after != before {
		t.Error("a second watch of a range has read for itself")
	}
}

// What a watch learned of the revision before an event is not told to one that
// comes when that revision is compacted, though they share the event.
func TestHub_sharedEventBeforeCompaction(t *testing.T) {
	f := newRoomyHub(t)
	f.put("k", "1") // revision 2
	f.put("k", "2")
	f.put("k", "3")
	f.hub.Reset(f.s.View())
	watched := func() (before []string) {
		s, _ := f.watching(Watch{Key: []byte("k"), Start: 3, PrevKV: true})
		for _, e := range f.rest(s) {
			before = append(before, string(e.WithPrev().GetPrevKv().GetValue()))
		}
		return before
	}
	if got := watched(); !slices.Equal(got, []string{"1", "2"}) {
		t.Fatalf("before the compaction: %q", got)
	}
	f.hub.Publish(f.compact(3), f.queue[len(f.queue)-1])
	f.hub.Route()
	if got := watched(); !slices.Equal(got, []string{"", "2"}) {
		t.Errorf("after it: %q", got)
	}
}

// What is kept of history is bounded, and what is compacted is not told from it.
func TestHub_sharedHistoryBounded(t *testing.T) {
	f := newHubFixture(t, hubLimits{streamBytes, streamEvents, inboxBytes, hubBytes, replayLimits{revisions: 2, bytes: 1 << 20}})
	const puts = 3 * archiveChapters
	value := strings.Repeat("v", 200<<10)
	for i := range puts {
		f.put("k", value[:(i%2)*len(value)]) // 100 KiB on average: 64 chapters are 12 MiB
	}
	f.flushAll()
	f.hub.Reset(f.s.View())
	s, _ := f.watching(Watch{Key: []byte("k"), End: []byte("l"), Start: 2})
	if n := len(f.rest(s)); n != puts {
		t.Fatalf("%d events of %d", n, puts)
	}
	a := &f.hub.archive
	sum := 0
	for _, c := range a.kept {
		sum += c.bytes
	}
	if sum != a.bytes || sum > archiveBytes || sum < archiveBytes/2 || len(a.kept) > archiveChapters {
		t.Errorf("%d bytes are kept in %d chapters, %d by the account", sum, len(a.kept), a.bytes)
	}
	last := a.kept[len(a.kept)-1].from
	v := f.compact(last + 1)
	f.hub.Publish(v, f.queue[len(f.queue)-1])
	f.hub.Route()
	late, _ := f.watching(Watch{Key: []byte("k"), End: []byte("l"), Start: last})
	if u, ok, err := late.Next(); !ok || err != nil || u.Kind != Canceled || u.Compacted != last+1 {
		t.Errorf("a watch from before the compaction: %+v, %t, %v", u, ok, err)
	}
}

// What a watch was made with is known as long as it is there.
func TestStream_range(t *testing.T) {
	s := newRoomyHub(t).hub.NewStream()
	defer s.Close()
	for _, w := range [][2]string{{"k", ""}, {"k", "l"}, {"k", "\x00"}, {"\x00", "\x00"}} {
		id, err := s.Create(0, Watch{Key: []byte(w[0]), End: []byte(w[1])})
		if err != nil {
			t.Fatal(err)
		}
		key, end, ok := s.Range(id)
		if string(key) != w[0] || string(end) != w[1] || !ok || !s.Has(id) || len(s.IDs()) != 1 {
			t.Errorf("watch of %q: got %q to %q, %t, of %v", w, key, end, ok, s.IDs())
		}
		s.Cancel(id)
		if _, _, ok := s.Range(id); ok || s.Has(id) || len(s.IDs()) != 0 {
			t.Errorf("watch of %q is there after it was canceled", w)
		}
	}
}

// A consumer that rests is woken by answers only, and finds the events later.
func TestStream_rest(t *testing.T) {
	f := newRoomyHub(t)
	s, _ := f.watching(Watch{Key: []byte("k")})
	woken := func() bool {
		select {
		case <-s.Wake():
			return true
		default:
			return false
		}
	}
	woken()
	f.tell("k", "1")
	if !woken() || s.Ready() != 1 || len(f.rest(s)) != 1 {
		t.Error("not woken for an event")
	}
	s.Rest(true)
	f.tell("k", "2")
	if woken() || s.Ready() != 1 {
		t.Error("woken for an event")
	}
	if _, err := s.Create(7, Watch{Key: []byte("l")}); err != nil {
		t.Fatal(err)
	}
	if !woken() || s.Ready() != 0 {
		t.Error("not woken for an answer")
	}
	if u, ok, err := s.Next(); !ok || err != nil || u.Kind != Created {
		t.Errorf("%+v, %t, %v", u, ok, err)
	}
	s.Rest(false)
	f.tell("k", "3")
	if !woken() || len(f.rest(s)) != 2 {
		t.Error("not woken after the rest")
	}
}

// Events of a watch that has ended are known to be its, whoever has its id now.
func TestStream_lost(t *testing.T) {
	f := newRoomyHub(t)
	s := f.hub.NewStream()
	defer s.Close()
	next := func(want Kind) Update {
		t.Helper()
		u, ok, err := s.Next()
		if err != nil || !ok || u.Kind != want {
			t.Fatalf("%+v, %t, %v", u, ok, err)
		}
		return u
	}
	create := func(key string) {
		t.Helper()
		if _, err := s.Create(5, Watch{Key: []byte(key)}); err != nil {
			t.Fatal(err)
		}
		next(Created)
	}
	create("k")
	f.tell("k", "v")
	u := next(Events)
	if s.Lost(u) {
		t.Error("the watch is there")
	}
	s.End(5, ErrEmptyRange)
	if ended := next(Canceled); !s.Lost(u) || s.Lost(ended) {
		t.Error("the watch has ended")
	}
	create("l")
	if !s.Lost(u) {
		t.Error("another watch took the events with the id")
	}
}

// The creation of a watch is told before its first event, also one that is made
// while the consumer looks for something to do: a client of etcd's takes an event
// of a watch that it does not know yet as one to be canceled.
func TestStream_createdComesFirst(t *testing.T) {
	f := newHubFixture(t, hubLimits{streamBytes, streamEvents, inboxBytes, hubBytes, replayLimits{revisions: 50, bytes: 1 << 20}})
	for i := range 5 {
		f.put("k", fmt.Sprint(i))
	}
	f.hub.Reset(f.s.View())
	s := f.hub.NewStream()
	t.Cleanup(s.Close)
	const watches = 1000
	served := make(chan int64, 1)
	var creating sync.WaitGroup
	creating.Go(func() {
		for range watches {
			id, err := s.Create(0, Watch{Key: []byte("k"), Start: 2})
			if err != nil {
				t.Error(err)
				return
			}
			if got, open := <-served; !open || got != id {
				return
			}
			s.End(id, nil)
		}
	})
	defer creating.Wait()
	defer close(served)
	created := int64(-1)
	for ended := 0; ended < watches; {
		u, ok, err := s.Next() // without a pause, so that creations come anywhere
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case !ok:
		case u.Kind == Created:
			created = u.ID
		case u.Kind == Canceled:
			ended++
		case u.ID != created || len(u.Events) != 5:
			t.Fatalf("%d events of watch %d, the last one created is %d", len(u.Events), u.ID, created)
		default:
			served <- u.ID
		}
	}
}

// Answers come in order, and a burst of them leaves no room behind.
func TestStream_answersTakenLeaveNoRoom(t *testing.T) {
	f := newRoomyHub(t)
	s := f.hub.NewStream()
	defer s.Close()
	for _, burst := range []int{1, maxAnswers, 1} {
		var want []int64
		for range burst {
			id, err := s.Create(0, Watch{Key: []byte("k")})
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, id)
		}
		for _, id := range want {
			if u, ok, err := s.Next(); !ok || err != nil || u.Kind != Created || u.ID != id {
				t.Fatalf("got %+v, %t, %v; want the creation of %d", u, ok, err, id)
			}
		}
		if n := cap(s.answers); n > keptAnswers {
			t.Errorf("after %d answers there is room for %d", burst, n)
		}
	}
}

// Figures tell what waits, who is behind, and what was ever taken, also from
// streams that are closed.
func TestHub_figures(t *testing.T) {
	f := newHubFixture(t, hubLimits{streamBytes: 1 << 20, streamEvents: 3, inbox: inboxBytes, hub: hubBytes, replay: defaultReplay})
	want := func(when string, want Figures) {
		t.Helper()
		if got := f.hub.Figures(); got != want {
			t.Errorf("%s: %+v, want %+v", when, got, want)
		}
	}
	want("at the start", Figures{})
	slow, _ := f.watching(Watch{Key: []byte("k")})
	quick, _ := f.watching(Watch{Key: []byte("k")})
	want("two watches", Figures{Streams: 2, Watches: 2})
	f.tell("k", "1", "k", "2")
	want("two events", Figures{Streams: 2, Watches: 2, Pending: 4})
	f.rest(quick)
	want("one has read", Figures{Streams: 2, Watches: 2, Pending: 2, Sent: 2})
	f.tell("k", "3", "k", "4")
	want("one is behind", Figures{Streams: 2, Watches: 2, Behind: 1, Pending: 2, Sent: 2})
	f.rest(slow)
	f.rest(quick)
	want("all is read", Figures{Streams: 2, Watches: 2, Sent: 8})
	slow.Close()
	slow.Close()
	want("one is closed", Figures{Streams: 1, Watches: 1, Sent: 8})
}
