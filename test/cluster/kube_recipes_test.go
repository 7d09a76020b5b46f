package cluster_test

import (
	"fmt"
	"slices"
	"strconv"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/ordering"
)

// What etcd's client builds out of the same requests, as other programs use it.

// recipeSTM: software transactions that move money between accounts lose none.
func recipeSTM(k *kube) {
	const accounts, workers, moves, each = 4, 4, 10, 100
	for i := range accounts {
		k.create(i, strconv.Itoa(each))
	}
	var wg sync.WaitGroup
	for w := range workers {
		c := k.dial(w % 3)
		isolation := []concurrency.Isolation{concurrency.SerializableSnapshot, concurrency.Serializable}[w%2]
		wg.Go(func() {
			for n := range moves {
				from, to := k.key((w+n)%accounts), k.key((w+n+1)%accounts)
				_, err := concurrency.NewSTM(c.Client, func(s concurrency.STM) error {
					a, err := strconv.Atoi(s.Get(from))
					if err != nil {
						return err
					}
					b, err := strconv.Atoi(s.Get(to))
					if err != nil {
						return err
					}
					s.Put(from, strconv.Itoa(a-1))
					s.Put(to, strconv.Itoa(b+1))
					return nil
				}, concurrency.WithIsolation(isolation), concurrency.WithAbortContext(k.ctx))
				if err != nil {
					k.t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	sum, versions := 0, int64(0)
	for i := range accounts {
		kv := k.object(i)
		n, err := strconv.Atoi(string(kv.Value))
		k.ok(err)
		sum += n
		versions += kv.Version - 1
	}
	if sum != accounts*each || versions != 2*workers*moves {
		k.t.Errorf("%d is there after %d writes, want %d after %d", sum, versions, accounts*each, 2*workers*moves)
	}
}

// session is one of a client of these members.
func (k *kube) session(members ...int) *concurrency.Session {
	k.t.Helper()
	s, err := concurrency.NewSession(k.dial(members...).Client, concurrency.WithTTL(10), concurrency.WithContext(k.ctx))
	k.ok(err)
	k.t.Cleanup(func() { s.Close() })
	return s
}

// recipeMutex: one at a time, through any member.
func recipeMutex(k *kube) {
	const holders, turns = 3, 8
	var wg sync.WaitGroup
	count := 0 // guarded by the mutex under test; the race detector looks too
	var mu sync.Mutex
	inside := 0
	for h := range holders {
		m := concurrency.NewMutex(k.session(h), k.key("lock"))
		wg.Go(func() {
			for range turns {
				if err := m.Lock(k.ctx); err != nil {
					k.t.Error(err)
					return
				}
				mu.Lock()
				if inside++; inside != 1 {
					k.t.Errorf("%d hold the lock", inside)
				}
				count++
				mu.Unlock()
				// The read makes it linearizable: without any operation it is about the
				// member's own state, with etcd too.
				resp, err := k.Txn(k.ctx).If(m.IsOwner()).Then(clientv3.OpGet(m.Key())).Commit()
				if err != nil || !resp.Succeeded {
					k.t.Errorf("the holder is not the owner: %v, %v", resp, err)
				}
				mu.Lock()
				inside--
				mu.Unlock()
				if err := m.Unlock(k.ctx); err != nil {
					k.t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if count != holders*turns {
		k.t.Errorf("the lock was held %d times, want %d", count, holders*turns)
	}
}

// recipeElection: the next one leads when the leader resigns or its session ends.
func recipeElection(k *kube) {
	var all []*concurrency.Election
	var sessions []*concurrency.Session
	for i := range 3 {
		sessions = append(sessions, k.session(i))
		all = append(all, concurrency.NewElection(sessions[i], k.key("office")))
	}
	seen := concurrency.NewElection(k.session(), k.key("office")).Observe(k.ctx)
	lead := func(want string) {
		k.t.Helper()
		if resp := <-seen; len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != want {
			k.t.Fatalf("%v leads, want %s", resp.Kvs, want)
		}
	}
	k.ok(all[0].Campaign(k.ctx, "first"))
	lead("first")
	k.ok(all[0].Proclaim(k.ctx, "first, again"))
	lead("first, again")
	elected := make(chan error, 1)
	go func() { elected <- all[1].Campaign(k.ctx, "second") }()
	eventually(k.t, kubeLimit, "a second candidate", func() error {
		resp, err := k.KV.Get(k.ctx, k.key("office"), clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err == nil && resp.Count != 2 {
			err = fmt.Errorf("%d candidates", resp.Count)
		}
		return err
	})
	k.ok(all[0].Resign(k.ctx))
	k.ok(<-elected)
	lead("second")
	go func() { elected <- all[2].Campaign(k.ctx, "third") }()
	k.ok(sessions[1].Close())
	k.ok(<-elected)
	lead("third")
}

// recipeEndpoints: services find each other by etcd's naming.
func recipeEndpoints(k *kube) {
	m, err := endpoints.NewManager(k.Client.Client, k.prefix+"service")
	k.ok(err)
	name := func(n int) string { return fmt.Sprintf("%sservice/%d", k.prefix, n) }
	k.ok(m.AddEndpoint(k.ctx, name(1), endpoints.Endpoint{Addr: "10.0.0.1:80"}))
	updates, err := m.NewWatchChannel(k.ctx)
	k.ok(err)
	if first := <-updates; len(first) != 1 || first[0].Endpoint.Addr != "10.0.0.1:80" {
		k.t.Fatalf("the watch began with %+v", first)
	}
	k.ok(m.Update(k.ctx, []*endpoints.UpdateWithOpts{
		endpoints.NewAddUpdateOpts(name(2), endpoints.Endpoint{Addr: "10.0.0.2:80"}),
		endpoints.NewDeleteUpdateOpts(name(1)),
	}))
	var got []string
	for len(got) < 2 {
		for _, u := range <-updates {
			got = append(got, fmt.Sprintf("%d %s", u.Op, u.Key))
		}
	}
	if want := []string{fmt.Sprintf("%d %s", endpoints.Add, name(2)), fmt.Sprintf("%d %s", endpoints.Delete, name(1))}; !slices.Equal(got, want) {
		k.t.Errorf("the watch saw %v, want %v", got, want)
	}
	eventually(k.t, kubeLimit, "the list", func() error { // of any member's own state
		list, err := m.List(k.ctx)
		if err == nil && (len(list) != 1 || list[name(2)].Addr != "10.0.0.2:80") {
			err = fmt.Errorf("%v", list)
		}
		return err
	})
}

// recipeLeasing: a client that caches keys under a lease never answers with an
// old one after another such client has written.
func recipeLeasing(k *kube) {
	const rounds = 20
	var kvs []clientv3.KV
	for i := range 2 {
		kv, stop, err := leasing.NewKV(k.dial(i).Client, k.key("leases/"), concurrency.WithTTL(10))
		k.ok(err)
		k.t.Cleanup(stop)
		kvs = append(kvs, kv)
	}
	key := k.key("a")
	for n := range rounds {
		want := strconv.Itoa(n)
		_, err := kvs[n%2].Put(k.ctx, key, want)
		k.ok(err)
		for i, kv := range kvs {
			for range 2 { // the second is cached
				resp, err := kv.Get(k.ctx, key)
				k.ok(err)
				if len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != want {
					k.t.Fatalf("round %d: client %d answers %v", n, i, resp.Kvs)
				}
			}
		}
	}
}

// recipeOrdering: reads of the members' own states, through all of them in turn,
// never go back.
func recipeOrdering(k *kube) {
	kv := ordering.NewKV(k.KV, ordering.NewOrderViolationSwitchEndpointClosure(k.Client.Client))
	last := int64(0)
	for n := range 30 {
		_, err := k.Put(k.ctx, k.key("a"), strconv.Itoa(n))
		k.ok(err)
		for range 3 {
			resp, err := kv.Get(k.ctx, k.key("a"), clientv3.WithSerializable())
			k.ok(err)
			if resp.Header.Revision < last {
				k.t.Fatalf("revision %d after %d", resp.Header.Revision, last)
			}
			last = resp.Header.Revision
		}
	}
}

// recipeNamespace: keys, watches and leases below a prefix.
func recipeNamespace(k *kube) {
	kv := namespace.NewKV(k.KV, k.prefix)
	watcher := namespace.NewWatcher(k.Watcher, k.prefix)
	lease := namespace.NewLease(k.Lease, k.prefix)
	ch := watcher.Watch(k.ctx, "", clientv3.WithPrefix())
	granted, err := lease.Grant(k.ctx, 60)
	k.ok(err)
	_, err = kv.Put(k.ctx, "a", "1", clientv3.WithLease(granted.ID))
	k.ok(err)
	resp, err := kv.Txn(k.ctx).If(clientv3.Compare(clientv3.Value("a"), "=", "1")).Then(clientv3.OpPut("b", "2"), clientv3.OpGet("a")).Commit()
	k.ok(err)
	if !resp.Succeeded || string(resp.Responses[1].GetResponseRange().Kvs[0].Key) != "a" {
		k.t.Errorf("%v", resp)
	}
	for i, ev := range k.events(ch, 2) {
		if want := []string{"a", "b"}[i]; string(ev.Kv.Key) != want {
			k.t.Errorf("event %d is of %s", i, ev.Kv.Key)
		}
	}
	left, err := lease.TimeToLive(k.ctx, granted.ID, clientv3.WithAttachedKeys())
	if err != nil || len(left.Keys) != 1 || string(left.Keys[0]) != "a" {
		k.t.Errorf("%+v, %v", left, err)
	}
	if kv := k.object("b"); string(kv.Value) != "2" {
		k.t.Errorf("%v", kv)
	}
	_, err = lease.Revoke(k.ctx, granted.ID)
	k.ok(err)
	if ev := k.events(ch, 1)[0]; string(ev.Kv.Key) != "a" || ev.Type != clientv3.EventTypeDelete {
		k.t.Errorf("%v", ev)
	}
}
