package cluster_test

import (
	"context"
	"errors"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

// A reflector lists, watches, and lists again when the watch has ended, as
// kube-apiserver's do.
type reflector struct {
	cancel context.CancelFunc
	wait   sync.WaitGroup
	lists  int

	mu    sync.Mutex
	cache *cacher // of the newest list
}

// startReflector reflects the case's keys, with a client of its own.
func startReflector(k *kube) *reflector {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(k.ctx))
	r := &reflector{cancel: cancel}
	c := k.dial()
	r.wait.Go(func() {
		for ctx.Err() == nil {
			if err := r.round(ctx, k, c); err != nil && ctx.Err() == nil {
				k.t.Logf("the reflector lists again: %v", err)
			}
		}
	})
	k.t.Cleanup(func() { cancel(); r.wait.Wait() })
	return r
}

// errFalse: a watch showed what is not so.
var errFalse = errors.New("a watch showed what is not so")

func (r *reflector) round(ctx context.Context, k *kube, c *kubernetes.Client) error {
	once, cancel := context.WithTimeout(ctx, 5*time.Second)
	list, err := c.Kubernetes.List(once, k.prefix, kubernetes.ListOptions{})
	cancel()
	if err != nil {
		return err
	}
	cache := newCacher(list)
	r.mu.Lock()
	r.cache = cache
	r.lists++
	r.mu.Unlock()
	ctx, cancel = context.WithCancel(ctx)
	defer cancel()
	for resp := range c.Watch(ctx, k.prefix, clientv3.WithPrefix(), clientv3.WithRev(list.Revision+1), clientv3.WithPrevKV(), clientv3.WithProgressNotify()) {
		if err := resp.Err(); err != nil {
			return err
		}
		if err := cache.note(resp); err != nil {
			k.t.Error(errors.Join(errFalse, err))
			return err
		}
	}
	return errors.New("the watch has ended")
}

// stop ends the reflector once it has everything, and returns how often it
// listed. What it has must be what there is.
func (r *reflector) stop(k *kube) (lists int) {
	k.t.Helper()
	list, err := k.Kubernetes.List(k.ctx, k.prefix, kubernetes.ListOptions{})
	k.ok(err)
	eventually(k.t, kubeLimit, "the reflector to have everything", func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.cache == nil {
			return errors.New("it has nothing")
		}
		return r.cache.differs(list)
	})
	r.cancel()
	r.wait.Wait()
	return r.lists
}

// awaitFresh asks for progress until the cache has a revision, and returns how
// long that took since began.
func (k *kube) awaitFresh(ctx context.Context, cache *cacher, want int64, began time.Time) time.Duration {
	k.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(freshness)
	for {
		at, grown := cache.at()
		if at >= want {
			return time.Since(began)
		}
		select {
		case <-grown:
		case <-tick.C:
			k.ok(k.RequestProgress(ctx))
		case <-limit:
			k.t.Fatalf("the cache is at revision %d and %d was asked for, %v ago", at, want, time.Since(began))
		}
	}
}
