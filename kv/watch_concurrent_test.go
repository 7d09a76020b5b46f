package kv

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A liveHub is written to, compacted, installed anew and routed by goroutines of their
// own, as in a member.
type liveHub struct {
	*hubFixture
	over chan struct{} // closed when nothing is written any more

	mu     sync.Mutex
	keyAt  []string // that was written at a revision
	writes int      // still to come
}

var liveKeys = []string{"a", "b", "c"}

// write puts some keys, and now and then compacts.
func (h *liveHub) write(rnd *rand.Rand) (*View, *Changes) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.s.NewBatch()
	for range 1 + rnd.IntN(3) {
		key := liveKeys[rnd.IntN(len(liveKeys))]
		if _, err := b.Put(&pb.PutRequest{Key: []byte(key), Value: []byte("v")}, None); err != nil {
			h.t.Error(err)
		}
		h.keyAt = append(h.keyAt, key)
	}
	if newest := len(h.keyAt) - 1; newest > 30 && rnd.IntN(50) == 0 {
		// One that compacts less than the last one is refused, and changes nothing.
		b.Compact(&pb.CompactionRequest{Revision: int64(newest - 10)}, None)
	}
	return b.Freeze()
}

func (h *liveHub) writeAll() {
	defer close(h.over)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range h.writes {
		v, c := h.write(rnd)
		h.queue = append(h.queue, c)
		if rnd.IntN(20) == 0 {
			h.hub.Reset(v)
		} else {
			h.hub.Publish(v, c)
		}
		if len(h.queue) > 20 {
			h.flush(10)
		}
		if rnd.IntN(300) == 0 { // an install
			h.flushAll()
			old := h.s
			h.open()
			h.hub.Reset(h.s.View())
			old.Close()
		}
		if rnd.IntN(4) == 0 {
			time.Sleep(rand.N(100 * time.Microsecond)) // so that those who watch may be level
		}
	}
}

func (h *liveHub) route() {
	for {
		select {
		case <-h.hub.Wake():
			h.hub.Route()
		case <-h.over:
			return
		}
	}
}

// newest is the newest revision that may be known.
func (h *liveHub) newest() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return int64(len(h.keyAt)) - 1
}

// A liveWatch is a watch as its client knows it.
type liveWatch struct {
	key  string // empty: all
	next int64  // first revision that is owed, 0: that after the creation
}

// owes is the first revision from from to to that has something for the watch.
func (h *liveHub) owes(w *liveWatch, to int64) (rev int64, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for rev := w.next; rev <= to; rev++ {
		if w.key == "" || w.key == h.keyAt[rev] {
			return rev, true
		}
	}
	return 0, false
}

// A liveClient has one stream, of which one goroutine asks and another one consumes.
type liveClient struct {
	*liveHub
	*Stream
	done chan struct{} // closed when nothing is asked any more

	mu      sync.Mutex
	created []*liveWatch // of which the creation was not told yet

	watches map[int64]*liveWatch // as they were told of
	told    int64                // newest revision of an event or creation
	events  int
	asked   int // progress that was told as asked
}

func (c *liveClient) askAll(rnd *rand.Rand) {
	defer close(c.done)
	for {
		select {
		case <-c.over:
			return
		default:
		}
		for c.Crowded() {
			select {
			case <-c.Room():
			case <-c.over:
				return
			case <-time.After(20 * time.Second):
				c.t.Error("no room")
				return
			}
		}
		switch id := int64(1 + rnd.IntN(4)); rnd.IntN(6) {
		case 0, 1:
			c.create(id, rnd)
		case 2:
			c.Cancel(id)
		case 3, 4:
			c.AskProgress()
		case 5:
			time.Sleep(rand.N(300 * time.Microsecond)) // so that what was asked for may be told meanwhile
		}
	}
}

func (c *liveClient) create(id int64, rnd *rand.Rand) {
	w := &liveWatch{}
	spec := Watch{Key: []byte{0}, End: []byte{0}, Notify: true, PrevKV: rnd.IntN(2) == 0}
	if rnd.IntN(2) == 0 {
		w.key = liveKeys[rnd.IntN(len(liveKeys))]
		spec.Key, spec.End = []byte(w.key), nil
	}
	if rnd.IntN(2) == 0 {
		w.next = max(1, c.newest()-rnd.Int64N(12))
		spec.Start = w.next
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Has(id) {
		return
	}
	c.created = append(c.created, w)
	if _, err := c.Create(id, spec); err != nil {
		c.t.Error(err)
	}
}

func (c *liveClient) consume() {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		u, ok, err := c.Next()
		if err != nil {
			c.t.Error(err)
			return
		}
		if ok {
			c.take(u)
			continue
		}
		select {
		case <-c.Wake():
		case <-tick.C:
			c.Notify()
		case <-c.done:
			return
		}
	}
}

func (c *liveClient) take(u Update) {
	w := c.watches[u.ID]
	if (w == nil) != (u.Kind == Created || u.ID == AllWatches) {
		c.t.Errorf("%+v, of watch %+v", u, w)
		return
	}
	switch u.Kind {
	case Created:
		c.mu.Lock()
		w, c.created = c.created[0], c.created[1:]
		c.mu.Unlock()
		if w.next == 0 {
			w.next = u.Rev + 1
		}
		c.watches[u.ID] = w
		c.told = max(c.told, u.Rev)
	case Canceled:
		delete(c.watches, u.ID)
	case Events:
		for _, e := range u.Events {
			if want, ok := c.owes(w, e.Rev()); !ok || want != e.Rev() {
				c.t.Errorf("watch %d %+v got %d, and is owed %d, %t", u.ID, *w, e.Rev(), want, ok)
			}
			w.next = e.Rev() + 1
			c.events++
		}
		c.told = max(c.told, w.next-1)
	case Progress:
		if u.ID == AllWatches {
			c.asked++
			if u.Rev < c.told {
				c.t.Errorf("progress of %d behind %d", u.Rev, c.told)
			}
		}
		for id, w := range c.watches {
			if u.ID != AllWatches && u.ID != id {
				continue
			}
			if rev, ok := c.owes(w, u.Rev); ok {
				c.t.Errorf("progress of %d, and watch %d is owed %d", u.Rev, id, rev)
			}
			if u.ID == id && u.Rev < w.next-1 {
				c.t.Errorf("watch %d at %d is told of %d", id, w.next-1, u.Rev)
			}
			w.next = max(w.next, u.Rev+1)
		}
	}
}

// What streams tell is right in any interleaving of those who write, route, ask and
// consume: creations come first and ends last, of the events between none is missing
// or told twice, progress is neither ahead of what is owed nor behind what was told.
func TestHub_manyGoroutines(t *testing.T) {
	for name, limits := range map[string]hubLimits{
		"wide":   {streamBytes, streamEvents, inboxBytes, hubBytes, defaultReplay},
		"narrow": {60, 3, 300, 500, replayLimits{revisions: 3, bytes: 60}},
	} {
		t.Run(name, func(t *testing.T) {
			h := &liveHub{hubFixture: newHubFixture(t, limits), over: make(chan struct{}), keyAt: make([]string, 2), writes: 10000}
			if testing.Short() {
				h.writes = 2000
			}
			var all sync.WaitGroup
			var clients []*liveClient
			for i := range uint64(3) {
				c := &liveClient{liveHub: h, Stream: h.hub.NewStream(), done: make(chan struct{}), watches: map[int64]*liveWatch{}}
				clients = append(clients, c)
				all.Go(func() { c.askAll(rand.New(rand.NewPCG(i, 9))) })
				all.Go(c.consume)
			}
			all.Go(h.route)
			h.writeAll()
			all.Wait()
			for i, c := range clients {
				if c.Close(); c.events == 0 || c.asked == 0 {
					t.Errorf("client %d saw %d events, and %d times progress", i, c.events, c.asked)
				}
			}
			if h.hub.bytes.Load() != 0 || h.hub.watching.Load() != 0 {
				t.Errorf("%d bytes, %d watches are left", h.hub.bytes.Load(), h.hub.watching.Load())
			}
		})
	}
}
