package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

// kubeWatch: what happened after a list is seen, each with what was there before
// it; a deletion has the key and the revision only.
func kubeWatch(k *kube) {
	k.create("before", "x")
	list, err := k.Kubernetes.List(k.ctx, k.prefix, kubernetes.ListOptions{})
	k.ok(err)
	first := k.create("a", "1")
	ch := k.watch(list.Revision) // one from history, the others live
	second := k.put("a", "2", first)
	third := k.remove("a", second)
	fourth := k.create("a", "3")
	want := []struct {
		kind                 mvccpb.Event_EventType
		value, prev          string
		create, mod, version int64
	}{
		{mvccpb.Event_PUT, "1", "", first, first, 1},
		{mvccpb.Event_PUT, "2", "1", first, second, 2},
		{mvccpb.Event_DELETE, "", "2", 0, third, 0},
		{mvccpb.Event_PUT, "3", "", fourth, fourth, 1},
	}
	for i, ev := range k.events(ch, len(want)) {
		w := want[i]
		if ev.Type != w.kind || string(ev.Kv.Key) != k.key("a") || string(ev.Kv.Value) != w.value || ev.Kv.CreateRevision != w.create ||
			ev.Kv.ModRevision != w.mod || ev.Kv.Version != w.version || string(ev.PrevKv.GetValue()) != w.prev || (ev.PrevKv == nil) != (w.prev == "") {
			k.t.Errorf("event %d: %v, want %+v", i, ev, w)
		}
	}
}

// kubeWatchesOfOneStream: a watch for every resource, all on one stream, some
// from history.
func kubeWatchesOfOneStream(k *kube) {
	const resources = 300
	before := k.now()
	ctx := clientv3.WithRequireLeader(k.ctx)
	var chans []clientv3.WatchChan
	watch := func(r int) {
		chans = append(chans, k.Watch(ctx, k.key(r)+"/", clientv3.WithPrefix(), clientv3.WithRev(before+1), clientv3.WithPrevKV()))
	}
	for r := range resources / 2 {
		watch(r)
	}
	revisions := make([]int64, resources)
	for r := range resources {
		revisions[r] = k.create(fmt.Sprintf("%d/x", r), "v")
	}
	for r := resources / 2; r < resources; r++ {
		watch(r)
	}
	for r, ch := range chans {
		if ev := k.events(ch, 1)[0]; ev.Kv.ModRevision != revisions[r] || string(ev.Kv.Key) != k.key(fmt.Sprintf("%d/x", r)) {
			k.t.Errorf("watch %d saw %v", r, ev)
		}
	}
	// Nothing is owed to anybody, so that progress of all may be asked for, until
	// the member with the watches has heard of the last revision.
	last := k.create("none", "v")
	for level := int64(0); level < last && !k.t.Failed(); {
		k.ok(k.RequestProgress(ctx))
		for r, ch := range chans {
			resp := <-ch
			if !resp.IsProgressNotify() || resp.Header.Revision < level {
				k.t.Errorf("watch %d: %+v, want progress up to %d", r, resp, level)
			}
			level = resp.Header.Revision
		}
	}
}

// A cacher is the part of a watch cache that knows how far it is.
type cacher struct {
	mu       sync.Mutex
	revision int64 // everything up to it was seen
	progress int64 // the newest notification
	answers  int
	objects  map[string]int64 // revision by key
	grown    chan struct{}    // closed when revision grows
}

// newCacher starts from a list.
func newCacher(list kubernetes.ListResponse) *cacher {
	c := &cacher{revision: list.Revision, objects: map[string]int64{}, grown: make(chan struct{})}
	for _, kv := range list.Kvs {
		c.objects[string(kv.Key)] = kv.ModRevision
	}
	return c
}

// note takes a response in; it fails if one was told of progress before it got
// the events.
func (c *cacher) note(resp clientv3.WatchResponse) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if resp.IsProgressNotify() {
		if c.answers++; resp.Header.Revision < c.progress {
			return fmt.Errorf("progress went back from %d to %d", c.progress, resp.Header.Revision)
		}
		c.progress = resp.Header.Revision
		c.reach(c.progress)
		return nil
	}
	last := int64(0)
	for _, ev := range resp.Events {
		if ev.Kv.ModRevision <= c.progress || ev.Kv.ModRevision < last {
			return fmt.Errorf("an event of revision %d after progress up to %d and an event of %d", ev.Kv.ModRevision, c.progress, last)
		}
		last = ev.Kv.ModRevision
		if c.objects[string(ev.Kv.Key)] = last; ev.Type == mvccpb.Event_DELETE {
			delete(c.objects, string(ev.Kv.Key))
		}
	}
	c.reach(last)
	return nil
}

// reach notes how far the cache is. Held: mu.
func (c *cacher) reach(revision int64) {
	if revision > c.revision {
		c.revision = revision
		close(c.grown)
		c.grown = make(chan struct{})
	}
}

// at returns how far the cache is, and a channel that is closed when that
// changes.
func (c *cacher) at() (int64, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.revision, c.grown
}

// differs compares what is cached with a list of the same revision.
func (c *cacher) differs(list kubernetes.ListResponse) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(list.Kvs) != len(c.objects) {
		return fmt.Errorf("%d objects are cached, %d listed", len(c.objects), len(list.Kvs))
	}
	for _, kv := range list.Kvs {
		if got := c.objects[string(kv.Key)]; got != kv.ModRevision {
			return fmt.Errorf("%s is cached at %d, and at %d", kv.Key, got, kv.ModRevision)
		}
	}
	return nil
}

// kubeRequestProgress: a consistent list from the cache asks for the revision,
// and then for progress every 100 ms until the cache has it; meanwhile others
// write.
func kubeRequestProgress(k *kube) {
	const lists, writers = 20, 4
	list, err := k.Kubernetes.List(k.ctx, k.prefix, kubernetes.ListOptions{})
	k.ok(err)
	cache := newCacher(list)
	ctx := clientv3.WithRequireLeader(k.ctx)
	watching, stop := context.WithCancel(ctx)
	ch := k.Watch(watching, k.prefix, clientv3.WithPrefix(), clientv3.WithRev(list.Revision+1), clientv3.WithPrevKV()) // without bookmarks
	var cached sync.WaitGroup
	cached.Go(func() {
		for resp := range ch {
			if err := errors.Join(resp.Err(), cache.note(resp)); err != nil && watching.Err() == nil {
				k.t.Error(err)
			}
		}
	})
	// The watch sees what the first ones write, and nothing of the second ones'.
	for _, prefix := range []string{k.prefix, "/registry/elsewhere/"} {
		end := k.write(prefix, writers)
		var longest time.Duration
		for range lists {
			began := time.Now()
			longest = max(longest, k.awaitFresh(ctx, cache, k.now(), began))
		}
		end()
		cache.mu.Lock()
		k.t.Logf("writes to %s: %d consistent lists, the longest after %v; so far progress was told %d times", prefix, lists, longest.Round(time.Millisecond), cache.answers)
		cache.mu.Unlock()
	}
	stop()
	cached.Wait()
	if cache.answers == 0 {
		k.t.Error("nobody told of progress")
	}
}

// write has n clients write below a prefix until the end is called. When it
// returns they do.
func (k *kube) write(prefix string, n int) (end func()) {
	var wg, started sync.WaitGroup
	stop := make(chan struct{})
	for w := range n {
		c := k.dial()
		put := func(i int) {
			if _, err := c.Put(k.ctx, fmt.Sprintf("%s%d/%d", prefix, w, i%10), "v"); err != nil {
				k.t.Error(err)
			}
		}
		started.Add(1)
		wg.Go(func() {
			put(0)
			started.Done()
			for i := 1; !k.t.Failed(); i++ {
				select {
				case <-stop:
					return
				default:
					put(i)
				}
			}
		})
	}
	started.Wait()
	return func() { close(stop); wg.Wait() }
}

// kubeBookmarks: watches that ask for it are told of progress by themselves, as
// long as nothing happens to them; others are told of events only.
func kubeBookmarks(k *kube) {
	before := k.now()
	ch := k.watch(before)
	plain := k.Watch(k.ctx, k.prefix, clientv3.WithPrefix(), clientv3.WithRev(before+1))
	other := "/registry/other/"
	for n := range 3 {
		put, err := k.Put(k.ctx, other+strconv.Itoa(n), "v")
		k.ok(err)
		for told := int64(0); told < put.Header.Revision; {
			select {
			case resp := <-ch:
				if !resp.IsProgressNotify() || resp.Header.Revision < told {
					k.t.Fatalf("%+v, want progress after %d", resp, told)
				}
				told = resp.Header.Revision
			case <-time.After(10*kubeProgress + freshness):
				k.t.Fatalf("no progress up to %d", put.Header.Revision)
			}
		}
	}
	created := k.create("a", "v")
	if resp := <-plain; len(resp.Events) != 1 || resp.Events[0].Kv.ModRevision != created {
		k.t.Errorf("the watch that asked for nothing got %+v", resp)
	}
	for {
		resp := <-ch
		if len(resp.Events) == 1 && resp.Events[0].Kv.ModRevision == created {
			break
		}
		if !resp.IsProgressNotify() || resp.Header.Revision >= created {
			k.t.Fatalf("%+v before the event of revision %d", resp, created)
		}
	}
}

// kubeSlowWatcher: one that does not read loses nothing, and keeps nobody from
// writing and reading.
func kubeSlowWatcher(k *kube) {
	const objects = 2000
	before := k.now()
	slow := k.dial().Watch(k.ctx, k.prefix, clientv3.WithPrefix(), clientv3.WithRev(before+1), clientv3.WithPrevKV())
	quick := k.watch(before)
	value := string(make([]byte, 2000))
	var wg sync.WaitGroup
	for w := range 20 {
		wg.Go(func() {
			for i := w; i < objects; i += 20 {
				if _, err := k.Put(k.ctx, k.key(i%100), value); err != nil {
					k.t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	k.events(quick, objects)
	for i, ev := range k.events(slow, objects) {
		if ev.Kv.ModRevision != before+int64(i)+1 || (ev.PrevKv == nil) != (ev.Kv.Version == 1) {
			k.t.Fatalf("event %d is %v of revision %d, want %d", i, ev.Type, ev.Kv.ModRevision, before+int64(i)+1)
		}
	}
}

// kubeNoLeader: a watch that asked for a leader ends when there is none, one
// that did not goes on afterwards.
func kubeNoLeader(k *kube) {
	survivor := (awaitLeader(k) + 1) % 3
	c := k.dial(survivor)
	before := k.now()
	opts := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithRev(before + 1), clientv3.WithCreatedNotify()}
	strict := c.Watch(clientv3.WithRequireLeader(k.ctx), k.prefix, opts...)
	patient := c.Watch(k.ctx, k.prefix, opts...)
	for _, ch := range []clientv3.WatchChan{strict, patient} {
		if resp := <-ch; !resp.Created {
			k.t.Fatalf("%+v", resp)
		}
	}
	for i := range 3 {
		if i != survivor {
			k.sys.end(i)
		}
	}
	resp, open := <-strict
	if open && !errors.Is(resp.Err(), rpctypes.ErrNoLeader) {
		k.t.Errorf("without a leader the watch was told %+v, %v", resp, resp.Err())
	}
	if !open {
		k.t.Error("without a leader the watch has ended without a word")
	}
	if _, err := c.KV.Get(clientv3.WithRequireLeader(k.ctx), k.prefix); !errors.Is(err, rpctypes.ErrNoLeader) {
		k.t.Errorf("a read that asks for a leader: %v", err)
	}
	for i := range 3 {
		if i != survivor {
			k.sys.begin(i)
		}
	}
	eventually(k.t, kubeLimit, "a write", func() error {
		_, err := c.Put(k.ctx, k.key("a"), "v")
		return err
	})
	if ev := <-patient; len(ev.Events) == 0 || string(ev.Events[0].Kv.Key) != k.key("a") {
		k.t.Errorf("the other watch got %+v", ev)
	}
}

// awaitLeader waits until a member leads.
func awaitLeader(k *kube) (leader int) {
	k.t.Helper()
	eventually(k.t, kubeLimit, "a leader", func() error {
		if leader = k.sys.leader(); leader < 0 {
			return errors.New("nobody leads")
		}
		return nil
	})
	return leader
}

// kubeMemberDies: with three endpoints the end of any of them is a short pause.
// Watches go on where they were, or end and are followed by a list, as in
// kube-apiserver.
func kubeMemberDies(k *kube) {
	for _, name := range []string{"leader", "follower"} {
		k.t.Run(name, func(t *testing.T) {
			k := &kube{t: t, ctx: k.ctx, sys: k.sys, prefix: k.key(name) + "/"}
			k.Client = k.dial()
			victim := awaitLeader(k)
			if name == "follower" {
				victim = (victim + 1) % 3
			}
			memberDies(k, victim)
		})
	}
}

func memberDies(k *kube, victim int) {
	r := startReflector(k)
	acked := map[string]int64{}
	write := func(n int) {
		eventually(k.t, kubeLimit, "a write", func() error {
			key := k.key(n)
			resp, err := k.Kubernetes.OptimisticPut(k.ctx, key, []byte("v"), acked[key], kubernetes.PutOptions{GetOnFailure: true})
			switch {
			case err != nil:
				return err // may have happened: the next attempt shows it
			case !resp.Succeeded && resp.KV == nil:
				return fmt.Errorf("%s is gone", key)
			case !resp.Succeeded:
				acked[key] = resp.KV.ModRevision
				return fmt.Errorf("%s is at %d", key, resp.KV.ModRevision)
			}
			acked[key] = resp.Revision
			return nil
		})
	}
	for n := range 20 {
		write(n % 10)
	}
	k.sys.end(victim)
	began := time.Now()
	write(0)
	first := time.Since(began)
	for n := range 40 {
		write(n % 10)
	}
	k.sys.begin(victim)
	eventually(k.t, kubeLimit, "the member's return", func() error {
		cfg := k.sys.config(victim)
		_, err := k.Status(k.ctx, cfg.Endpoints[0])
		return err
	})
	for n := range 20 {
		write(n % 10)
	}
	lists := r.stop(k)
	k.t.Logf("the first write took %v; %d lists by who watched", first.Round(time.Millisecond), lists)
}
