package cluster_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.uber.org/zap"
)

// system is a running cluster of three members, of conclave or of etcd. Both have
// an election timeout of kubeElection and tell watches of progress every
// kubeProgress.
type system interface {
	// config is that of a client that knows these members, or all.
	config(members ...int) clientv3.Config
	// leader is the index of the member that leads, -1 while none does.
	leader() int
	// end stops a member.
	end(member int)
	// begin starts it again and returns at once.
	begin(member int)
}

const (
	kubeElection = 500 * time.Millisecond
	kubeProgress = 200 * time.Millisecond
	// kubeLimit bounds each case.
	kubeLimit = time.Minute
	// freshness is how long kube-apiserver lets a consistent list from its cache
	// wait for progress of the watch before it gives up.
	freshness = 3 * time.Second
)

// kube is what a case of the contract is given: the keys below prefix are its
// own, and so is the client, which knows all members.
type kube struct {
	*kubernetes.Client
	t      *testing.T
	ctx    context.Context
	sys    system
	prefix string
}

// kubeContract is what kube-apiserver relies on, case by case. The last ones
// stop members.
func kubeContract(t *testing.T, sys system) {
	for _, c := range []struct {
		name string
		run  func(*kube)
	}{
		{"health", kubeHealth},
		{"get", kubeGet},
		{"listInPages", kubeListInPages},
		{"countAndKeys", kubeCountAndKeys},
		{"createOnce", kubeCreateOnce},
		{"update", kubeUpdate},
		{"delete", kubeDelete},
		{"revisions", kubeRevisions},
		{"future", kubeFuture},
		{"features", kubeFeatures},
		{"watch", kubeWatch},
		{"watchesOfOneStream", kubeWatchesOfOneStream},
		{"progress", kubeRequestProgress},
		{"bookmarks", kubeBookmarks},
		{"slowWatcher", kubeSlowWatcher},
		{"largeObjects", kubeLargeObjects},
		{"lease", kubeLease},
		{"rangeStream", kubeRangeStream},
		{"compaction", kubeCompaction},
		{"rangeStreamCompacted", kubeRangeStreamCompacted},
		{"memory", recipeSTM},
		{"mutex", recipeMutex},
		{"election", recipeElection},
		{"endpoints", recipeEndpoints},
		{"leasing", recipeLeasing},
		{"ordering", recipeOrdering},
		{"namespace", recipeNamespace},
		{"memberDies", kubeMemberDies},
		{"noLeader", kubeNoLeader},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), kubeLimit)
			defer cancel()
			k := &kube{t: t, ctx: ctx, sys: sys, prefix: "/registry/" + c.name + "/"}
			k.Client = k.dial()
			c.run(k)
		})
	}
}

// dial makes a client as kube-apiserver does, of these members or of all.
func (k *kube) dial(members ...int) *kubernetes.Client {
	k.t.Helper()
	cfg := k.sys.config(members...)
	cfg.DialTimeout, cfg.DialKeepAliveTime, cfg.DialKeepAliveTimeout = 20*time.Second, 30*time.Second, 10*time.Second
	cfg.Logger = zap.NewNop()
	c, err := kubernetes.New(cfg)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { c.Close() })
	return c
}

// ok fails at once where there is an error.
func (k *kube) ok(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

// key is one of the case's own.
func (k *kube) key(name any) string { return k.prefix + fmt.Sprint(name) }

// create makes an object and returns its revision.
func (k *kube) create(name any, value string) int64 {
	k.t.Helper()
	return k.put(name, value, 0)
}

// put writes an object that was last changed at a revision, and returns the new
// one.
func (k *kube) put(name any, value string, at int64) int64 {
	k.t.Helper()
	resp, err := k.Kubernetes.OptimisticPut(k.ctx, k.key(name), []byte(value), at, kubernetes.PutOptions{GetOnFailure: true})
	if err != nil || !resp.Succeeded {
		k.t.Fatalf("put %s at %d: %+v, %v", k.key(name), at, resp, err)
	}
	return resp.Revision
}

// remove deletes an object that was last changed at a revision, and returns the
// new one.
func (k *kube) remove(name any, at int64) int64 {
	k.t.Helper()
	resp, err := k.Kubernetes.OptimisticDelete(k.ctx, k.key(name), at, kubernetes.DeleteOptions{GetOnFailure: true})
	if err != nil || !resp.Succeeded {
		k.t.Fatalf("delete %s at %d: %+v, %v", k.key(name), at, resp, err)
	}
	return resp.Revision
}

// now is the current revision, as kube-apiserver asks for it.
func (k *kube) now() int64 {
	k.t.Helper()
	resp, err := k.KV.Get(k.ctx, k.prefix, clientv3.WithPrefix(), clientv3.WithLimit(1))
	k.ok(err)
	return resp.Header.Revision
}

// watch follows the case's keys as a watch cache does, after a revision.
func (k *kube) watch(after int64, more ...clientv3.OpOption) clientv3.WatchChan {
	opts := append([]clientv3.OpOption{
		clientv3.WithPrefix(), clientv3.WithRev(after + 1), clientv3.WithPrevKV(), clientv3.WithProgressNotify(),
	}, more...)
	return k.Watch(clientv3.WithRequireLeader(k.ctx), k.prefix, opts...)
}

// events takes n events of a watch.
func (k *kube) events(ch clientv3.WatchChan, n int) (all []*clientv3.Event) {
	k.t.Helper()
	for len(all) < n {
		resp, ok := <-ch
		if !ok || resp.Err() != nil {
			k.t.Fatalf("the watch ended after %d of %d events: %v", len(all), n, resp.Err())
		}
		all = append(all, resp.Events...)
	}
	if len(all) > n {
		k.t.Fatalf("%d events, want %d", len(all), n)
	}
	return all
}
