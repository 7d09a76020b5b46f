package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// change is one event: as a watch saw it, or as it has to be.
type change struct {
	key                  string
	deleted              bool
	create, mod, version int64
	name                 string // of the transaction, in the value; "" with deletions
	// What was there before, where the watch asked for it and it is known.
	prevName            string
	prevMod, prevCreate int64
	prevVersion         int64
}

func changeOf(ev *mvccpb.Event) change {
	c := change{
		key: string(ev.Kv.Key), deleted: ev.Type == mvccpb.Event_DELETE,
		create: ev.Kv.CreateRevision, mod: ev.Kv.ModRevision, version: ev.Kv.Version,
	}
	if !c.deleted {
		c.name = nameOf(ev.Kv.Value)
	}
	if p := ev.PrevKv; p != nil {
		c.prevName, c.prevMod, c.prevCreate, c.prevVersion = nameOf(p.Value), p.ModRevision, p.CreateRevision, p.Version
	}
	return c
}

// follower is one watch that is kept up through everything.
type follower struct {
	t        *testing.T
	name     string
	key, end string // end "": one key
	prev     bool

	mu       sync.Mutex
	seen     []change
	pending  []change   // parts of a response
	owed     [][2]int64 // revisions that it could not see: compacted before it came back
	next     int64      // what it goes on from
	progress int64
	told     int // of progress
	resumed  int // how often it was begun again
}

// at is the revision that it has seen.
func (f *follower) at() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next - 1
}

// note takes a response in. It checks what can be checked without the others:
// order, whole revisions, and that progress is not ahead of events.
func (f *follower) note(events []*mvccpb.Event, header int64, fragment bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(events) == 0 {
		f.told++
		if header < f.progress || len(f.pending) > 0 {
			f.t.Errorf("%s: progress up to %d after progress up to %d, amid %d parts", f.name, header, f.progress, len(f.pending))
		}
		f.progress = header
		return
	}
	for _, ev := range events {
		f.pending = append(f.pending, changeOf(ev))
	}
	if fragment {
		return
	}
	for i, c := range f.pending {
		switch {
		case c.mod < f.next:
			f.t.Errorf("%s: an event of revision %d again, or the rest of it, after all up to %d", f.name, c.mod, f.next-1)
		case i > 0 && c.mod < f.pending[i-1].mod:
			f.t.Errorf("%s: an event of revision %d after one of %d", f.name, c.mod, f.pending[i-1].mod)
		case c.mod <= f.progress:
			f.t.Errorf("%s: an event of revision %d after progress up to %d", f.name, c.mod, f.progress)
		case c.mod > header:
			f.t.Errorf("%s: an event of revision %d under a header of %d", f.name, c.mod, header)
		}
	}
	f.seen = append(f.seen, f.pending...)
	f.next = f.pending[len(f.pending)-1].mod + 1
	f.pending = nil
}

// again is where to go on after an end of any kind.
func (f *follower) again() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending, f.progress = nil, 0
	f.resumed++
	return f.next
}

// lost notes that what the watch was owed is compacted.
func (f *follower) lost(compacted int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if compacted <= f.next {
		f.t.Errorf("%s: compacted at %d, it goes on from %d", f.name, compacted, f.next)
	}
	f.owed = append(f.owed, [2]int64{f.next, compacted})
	f.next = compacted
}

// follow begins the watches: of one key, of a prefix with requests for progress,
// and of everything in three ways.
func (h *history) follow(ctx context.Context, wg *sync.WaitGroup) {
	begin := func(name, key, end string, prev bool, run func(f *follower)) *follower {
		f := &follower{t: h.t, name: name, key: key, end: end, prev: prev, next: h.first + 1}
		h.followers = append(h.followers, f)
		wg.Go(func() { run(f) })
		return f
	}
	whole := clientv3.GetPrefixRangeEnd(historyPrefix)
	h.scribe = begin("everything through all members", historyPrefix, whole, true, func(f *follower) { f.watch(ctx, h.all, 0) })
	for i, c := range h.members {
		rng := rand.New(rand.NewPCG(h.rng.Uint64(), 3))
		begin(fmt.Sprint("one key of member ", i), historyKeys[i], "", true, func(f *follower) { f.watch(ctx, c, 0) })
		asking := clientv3.WithRequireLeader(ctx)
		begin(fmt.Sprint("a prefix of member ", i), "h/b", "h/c", true, func(f *follower) { f.watch(asking, c, 0, clientv3.WithProgressNotify()) })
		wg.Go(func() { askProgress(asking, c) })
		begin(fmt.Sprint("everything of member ", i, ", cut"), historyPrefix, whole, false, func(f *follower) {
			f.watch(ctx, c, time.Duration(100+rng.IntN(500))*time.Millisecond)
		})
		own := h.dial(i) // a stream that is not read stalls its connection
		begin(fmt.Sprint("everything of member ", i, ", stalled"), historyPrefix, whole, true, func(f *follower) { f.streamOn(ctx, own, h.stalled) })
	}
}

// watch follows through etcd's client, which goes on by itself where it can.
// Every cut, if it is not 0, the watch is ended and begun anew.
func (f *follower) watch(ctx context.Context, c *clientv3.Client, cut time.Duration, more ...clientv3.OpOption) {
	opts := append(more, clientv3.WithFragment())
	if f.end != "" {
		opts = append(opts, clientv3.WithRange(f.end))
	}
	if f.prev {
		opts = append(opts, clientv3.WithPrevKV())
	}
	for ctx.Err() == nil {
		once, cancel := context.WithCancel(ctx)
		if cut > 0 {
			once, cancel = context.WithTimeout(ctx, cut)
		}
		for resp := range c.Watch(once, f.key, append(opts, clientv3.WithRev(f.again()))...) {
			if resp.CompactRevision != 0 {
				f.lost(resp.CompactRevision)
			} else if resp.Err() == nil {
				f.note(resp.Events, resp.Header.Revision, false) // the client joins parts
			}
		}
		cancel()
		rest(ctx)
	}
}

// rest is between two attempts.
func rest(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(20 * time.Millisecond):
	}
}

// askProgress asks on the stream of a context every 50 ms.
func askProgress(ctx context.Context, c *clientv3.Client) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = c.RequestProgress(ctx) // fails where there is no stream just now
		}
	}
}

// streamOn follows by a stream of its own, which it does not read while the gate
// is shut.
func (f *follower) streamOn(ctx context.Context, c *clientv3.Client, reads *gate) {
	for ctx.Err() == nil {
		err := f.stream(ctx, c, reads)
		if err == nil {
			f.t.Error("a stream has ended without an error")
		}
		rest(ctx)
	}
}

func (f *follower) stream(ctx context.Context, c *clientv3.Client, reads *gate) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := pb.NewWatchClient(c.ActiveConnection()).Watch(ctx)
	if err != nil {
		return err
	}
	create := &pb.WatchCreateRequest{
		Key: []byte(f.key), RangeEnd: []byte(f.end), StartRevision: f.again(), PrevKv: f.prev, Fragment: true, ProgressNotify: true,
	}
	if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}); err != nil {
		return err
	}
	for n := 0; ; n++ {
		if err := reads.pass(ctx); err != nil {
			return err
		}
		resp, err := stream.Recv()
		switch {
		case err != nil:
			return err
		case resp.CompactRevision != 0:
			f.lost(resp.CompactRevision)
			return errors.New("compacted")
		case resp.Canceled:
			return errors.New(resp.CancelReason)
		case resp.Created:
			continue
		}
		f.note(resp.Events, resp.Header.Revision, resp.Fragment)
		if n%5 == 0 {
			ask := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
			if err := stream.Send(ask); err != nil {
				return err
			}
		}
	}
}
