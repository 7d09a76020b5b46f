package kv

import (
	"fmt"
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// A watcher is what a client knows of one watch.
type watcher struct {
	id       int64
	spec     Watch
	from     int64 // first revision owed
	seen     int   // of what it is owed
	last     int64 // revision of its last event
	canceled int64 // compaction
}

// A watchRunner plays random requests, watches and consumers, one step at a
// time, and knows what each watch is owed.
type watchRunner struct {
	*runner
	hub     *Hub
	streams []*Stream
	of      map[*Stream]map[int64]*watcher
}

func (r *watchRunner) publish(fn func(b *Batch)) {
	b := r.s.NewBatch()
	fn(b)
	v, c := b.Freeze()
	r.queue = append(r.queue, c)
	r.marks = append(r.marks, r.mark())
	r.hub.Publish(v, c)
}

// simple is a transaction that names no key twice.
func (r *watchRunner) simple() *pb.TxnRequest {
	q := &pb.TxnRequest{}
	for _, k := range r.rnd.Perm(r.keys)[:r.rnd.IntN(min(r.keys, 4)+1)] {
		key := fmt.Appendf(nil, "k%03d", k)
		if r.rnd.IntN(3) == 0 {
			q.Success = append(q.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: key}}})
			continue
		}
		q.Success = append(q.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: []byte(fmt.Sprint(r.m.rev, "=", r.rnd.IntN(100)))}}})
	}
	return q
}

func (r *watchRunner) write() {
	r.publish(func(b *Batch) {
		for range r.rnd.IntN(6) {
			var err, want error
			switch n := r.rnd.IntN(40); {
			case n == 0:
				q := &pb.CompactionRequest{Revision: r.m.rev - r.rnd.Int64N(30)}
				_, err = b.Compact(q, None)
				_, want = r.m.Compact(q)
			case n < 4:
				q := &pb.DeleteRangeRequest{}
				q.Key, q.RangeEnd = r.span()
				_, err = b.DeleteRange(q, None)
				_, want = r.m.DeleteRange(q)
			default:
				q := r.simple()
				_, err = b.Txn(q, None)
				_, want = r.m.Txn(q)
			}
			if (err == nil) != (want == nil) {
				r.t.Fatalf("error %v, want %v", err, want)
			}
		}
	})
}

// owed is what the model has for a watch.
func (r *watchRunner) owed(w *watcher) []*mvccpb.Event {
	var all []*mvccpb.Event
	for _, rec := range r.m.recs {
		if rec.main < w.from || !within(rec.kv.Key, w.spec.Key, w.spec.End) || rec.tomb && w.spec.NoDelete || !rec.tomb && w.spec.NoPut {
			continue
		}
		ev := &mvccpb.Event{Kv: rec.kv}
		if rec.tomb {
			ev.Type, ev.Kv = mvccpb.Event_DELETE, &mvccpb.KeyValue{Key: rec.kv.Key, ModRevision: rec.main}
		}
		all = append(all, ev)
	}
	return all
}

func (r *watchRunner) create() {
	s := r.streams[r.rnd.IntN(len(r.streams))]
	if s.Crowded() {
		return
	}
	spec := Watch{NoPut: r.rnd.IntN(6) == 0, NoDelete: r.rnd.IntN(6) == 0, PrevKV: r.rnd.IntN(3) == 0}
	spec.Key, spec.End = r.span()
	now := r.s.View().Rev()
	switch r.rnd.IntN(3) {
	case 0:
		spec.Start = max(1, now-r.rnd.Int64N(20))
	case 1:
		spec.Start = now + r.rnd.Int64N(8)
	}
	id, err := s.Create(0, spec)
	if err != nil {
		return // Next tells it again
	}
	w := &watcher{id: id, spec: spec, from: spec.Start, canceled: none}
	if w.from == 0 {
		w.from = now + 1
	}
	r.of[s][id] = w
}

func (r *watchRunner) consume(s *Stream) bool {
	u, ok, err := s.Next()
	if err != nil {
		r.t.Fatal(err)
	}
	if !ok {
		return false
	}
	switch u.Kind {
	case Canceled:
		w := r.of[s][u.ID]
		if w != nil && u.Compacted == 0 {
			r.t.Fatalf("watch %d was canceled", u.ID)
		}
		if w != nil {
			if r.next(w) >= u.Compacted {
				r.t.Fatalf("watch %d from %d, at %d, canceled for compaction %d", u.ID, w.from, r.next(w), u.Compacted)
			}
			delete(r.of[s], u.ID)
		}
	case Events:
		if w := r.of[s][u.ID]; w != nil {
			r.events(w, u)
		}
	case Progress:
		for _, w := range r.of[s] {
			if u.ID == AllWatches || u.ID == w.id {
				if owed := r.owed(w); w.seen < len(owed) && owed[w.seen].Kv.ModRevision <= u.Rev {
					r.t.Fatalf("progress %d, but watch %d is owed %v", u.Rev, w.id, owed[w.seen])
				}
			}
		}
	}
	return true
}

// next is a revision up to which a watch that has to be canceled may be owed.
func (r *watchRunner) next(w *watcher) int64 { return max(w.from, w.last+1) }

func (r *watchRunner) events(w *watcher, u Update) {
	r.t.Helper()
	owed := r.owed(w)
	if len(u.Events) == 0 || u.Rev < u.Events[len(u.Events)-1].Rev() {
		r.t.Fatalf("%d events at revision %d", len(u.Events), u.Rev)
	}
	for _, e := range u.Events {
		if w.seen == len(owed) {
			r.t.Fatalf("watch %+v got %v, and is owed nothing", w.spec, e.Proto())
		}
		if want := owed[w.seen]; !proto.Equal(e.Proto(), want) {
			r.t.Fatalf("watch %+v got %v, is owed %v", w.spec, e.Proto(), want)
		}
		if prev := e.WithPrev().PrevKv; w.spec.PrevKV && prev != nil {
			was := r.m.at(e.Key(), nil, e.Rev()-1)
			if len(was) != 1 || !proto.Equal(was[0], prev) {
				r.t.Fatalf("%v before is %v, want %v", e.Proto(), prev, was)
			}
		}
		w.seen, w.last = w.seen+1, e.Rev()
	}
	if w.seen < len(owed) && owed[w.seen].Kv.ModRevision == w.last {
		r.t.Fatalf("an update ends inside revision %d", w.last)
	}
}

// replace has an install take place: another store with the same content.
func (r *watchRunner) replace() {
	r.runner.write(len(r.queue))
	old := r.s
	r.open()
	r.hub.Reset(r.s.View())
	old.Close()
}

func (r *watchRunner) play(steps int) {
	for range steps {
		switch n := r.rnd.IntN(100); {
		case n < 35:
			r.write()
		case n < 50:
			r.hub.Route()
		case n < 58:
			r.create()
		case n < 62:
			r.runner.write(r.rnd.IntN(len(r.queue) + 1))
		case n < 63:
			r.replace()
		case n < 66:
			if s := r.streams[r.rnd.IntN(len(r.streams))]; !s.Crowded() {
				s.AskProgress()
			}
		case n < 68:
			s := r.streams[r.rnd.IntN(len(r.streams))]
			for id := range r.of[s] {
				if !s.Crowded() {
					s.Cancel(id)
					delete(r.of[s], id)
				}
				break
			}
		default: // the first stream's consumer is the slowest
			i := r.rnd.IntN(len(r.streams))
			for range r.rnd.IntN(2*i + 1) {
				r.consume(r.streams[i])
			}
		}
	}
	r.hub.Route()
	for _, s := range r.streams {
		for r.consume(s) {
		}
		for _, w := range r.of[s] {
			if owed := r.owed(w); w.seen != len(owed) {
				r.t.Fatalf("watch %+v got %d events of %d", w.spec, w.seen, len(owed))
			}
		}
		s.Close()
	}
	if h := r.hub; h.bytes.Load() != 0 || h.watching.Load() != 0 || len(h.singles) != 0 || h.ranges.root != nil || len(h.streams) != 0 {
		r.t.Fatalf("the hub keeps %d bytes, %d watches", h.bytes.Load(), h.watching.Load())
	}
}

func TestHub_randomAgainstModel(t *testing.T) {
	seeds := uint64(8)
	if testing.Short() {
		seeds = 1
	}
	for name, limits := range map[string]hubLimits{
		"wide":   {streamBytes, streamEvents, inboxBytes, hubBytes, defaultReplay},
		"narrow": {60, 3, 300, 500, replayLimits{revisions: 3, bytes: 60}},
	} {
		for _, opts := range []Options{{}, {MaxInline: -1, PruneStep: 3}} {
			for _, keys := range []int{3, 40} {
				for seed := range seeds {
					t.Run(fmt.Sprintf("%s,inline=%d,keys=%d,seed=%d", name, opts.MaxInline, keys, seed), func(t *testing.T) {
						r := &watchRunner{runner: &runner{fixture: newFixture(t, opts), m: newModel(), keys: keys,
							rnd: rand.New(rand.NewPCG(seed, uint64(keys)))}, of: map[*Stream]map[int64]*watcher{}}
						r.disk = r.mark()
						r.hub = NewHub(r.s.View())
						r.hub.bound(limits)
						for range 5 {
							s := r.hub.NewStream()
							r.streams = append(r.streams, s)
							r.of[s] = map[int64]*watcher{}
						}
						r.play(1500)
					})
				}
			}
		}
	}
}
