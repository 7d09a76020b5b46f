package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"google.golang.org/protobuf/proto"
)

// compactKey is where apiservers agree on who compacts, and to which revision.
const compactKey = "compact_rev_key"

// A compactor is what each apiserver does every five minutes: of all who know
// the key's version one may raise it, and compacts to the revision of its round
// before.
type compactor struct {
	client   *kubernetes.Client
	version  int64 // of the key, as known
	revision int64 // of the round before
}

// round returns the revision that was compacted to, 0 if another apiserver was
// first or there is nothing to compact yet.
func (c *compactor) round(ctx context.Context) (int64, error) {
	resp, err := c.client.Txn(ctx).If(clientv3.Compare(clientv3.Version(compactKey), "=", c.version)).
		Then(clientv3.OpPut(compactKey, strconv.FormatInt(c.revision, 10))).
		Else(clientv3.OpGet(compactKey)).Commit()
	if err != nil {
		return 0, err
	}
	to := c.revision
	c.revision = resp.Header.Revision
	if !resp.Succeeded {
		found := resp.Responses[0].GetResponseRange().Kvs
		if len(found) != 1 {
			return 0, fmt.Errorf("the transaction found no %s of version %d, and no other", compactKey, c.version)
		}
		c.version = found[0].Version
		return 0, nil
	}
	if c.version++; to == 0 {
		return 0, nil
	}
	_, err = c.client.Compact(ctx, to)
	return to, err
}

// kubeCompaction: three apiservers race to compact, one of them does in each
// round; what is older then is gone, for reads, lists and watches, and what is
// not older is not.
func kubeCompaction(k *kube) {
	const rounds = 5
	compactions := k.Watch(k.ctx, compactKey, clientv3.WithRev(k.now()+1))
	var all []*compactor
	for i := range 3 {
		all = append(all, &compactor{client: k.dial(i)})
	}
	at := k.create("a", "0")
	old, compacted := at, int64(0)
	for n := range rounds {
		done := make([]int64, len(all))
		before := all[0].version
		var wg sync.WaitGroup
		for i, c := range all {
			wg.Go(func() {
				var err error
				if done[i], err = c.round(k.ctx); err != nil {
					k.t.Errorf("round %d, apiserver %d: %v", n, i, err)
				}
			})
		}
		wg.Wait()
		won := 0
		for i, c := range all {
			if c.version != before+1 {
				k.t.Fatalf("round %d: apiserver %d knows version %d, want %d", n, i, c.version, before+1)
			}
			if done[i] > 0 {
				won, compacted = won+1, done[i]
			}
		}
		if n > 0 && won != 1 {
			k.t.Fatalf("round %d: %d apiservers have compacted", n, won)
		}
		if ev := k.events(compactions, 1)[0]; ev.Kv.Version != before+1 {
			k.t.Errorf("round %d: the watch saw %v", n, ev)
		}
		at = k.put("a", strconv.Itoa(n+1), at)
	}
	_, err := k.Kubernetes.List(k.ctx, k.prefix, kubernetes.ListOptions{Revision: old})
	k.gone("a list", err)
	_, err = k.Kubernetes.List(k.ctx, k.prefix, kubernetes.ListOptions{Revision: old, Limit: 500, Continue: k.key("a") + "\x00"})
	k.gone("the next page of a list", err)
	_, err = k.Kubernetes.Get(k.ctx, k.key("a"), kubernetes.GetOptions{Revision: compacted - 1})
	k.gone("a read right before the compaction", err)
	if resp, err := k.Kubernetes.Get(k.ctx, k.key("a"), kubernetes.GetOptions{Revision: compacted}); err != nil || resp.KV == nil {
		k.t.Errorf("a read at the compaction, %d: %+v, %v", compacted, resp, err)
	}
	_, err = k.Compact(k.ctx, compacted)
	k.gone("the same compaction again", err)
	resp, open := <-k.watch(old - 1)
	if !open || resp.CompactRevision != compacted || !resp.Canceled {
		k.t.Errorf("a watch from %d got %+v, want an end for the compaction at %d", old, resp, compacted)
	}
	k.gone("a watch", resp.Err())
	for _, ev := range k.events(k.watch(compacted-1), int(at-compacted+1)/2) { // each round writes twice, this key once
		if ev.Kv.ModRevision < compacted {
			k.t.Errorf("a watch from the compaction saw %v", ev)
		}
	}
}

// gone fails unless kube-apiserver takes an error for a compaction.
func (k *kube) gone(what string, err error) {
	k.t.Helper()
	if !errors.Is(err, rpctypes.ErrCompacted) || !strings.Contains(err.Error(), "mvcc: required revision has been compacted") {
		k.t.Errorf("%s: %v, want that it was compacted", what, err)
	}
}

// kubeLease: events share a lease, which nobody renews or revokes. At its end,
// not before, they go in one revision, and the watch sees each with what it was.
func kubeLease(k *kube) {
	const objects, ttl = 1000, 4
	before := k.now()
	ch := k.watch(before)
	granted := time.Now()
	lease, err := k.Grant(k.ctx, ttl)
	k.ok(err)
	if lease.ID <= 0 || lease.TTL != ttl {
		k.t.Errorf("%+v", lease)
	}
	for i := 0; i < objects; { // many at once, so that a slow machine is done within the TTL
		var ops []clientv3.Op
		for ; len(ops) < 100; i++ {
			ops = append(ops, clientv3.OpPut(k.key(i), strconv.Itoa(i), clientv3.WithLease(lease.ID)))
		}
		_, err := k.Txn(k.ctx).Then(ops...).Commit()
		k.ok(err)
	}
	puts := k.events(ch, objects)
	resp := <-ch
	for resp.IsProgressNotify() {
		resp = <-ch
	}
	if lived := time.Since(granted); lived < ttl*time.Second {
		k.t.Errorf("the lease has ended %v after it was asked for", lived)
	}
	if len(resp.Events) != objects {
		k.t.Fatalf("%d events in one response, want %d: %v", len(resp.Events), objects, resp.Err())
	}
	end := puts[len(puts)-1].Kv.ModRevision + 1
	seen := map[string]bool{}
	for _, ev := range resp.Events {
		seen[string(ev.Kv.Key)] = true
		if ev.Type != mvccpb.Event_DELETE || ev.Kv.ModRevision != end || string(ev.PrevKv.GetValue()) != strings.TrimPrefix(string(ev.Kv.Key), k.prefix) || ev.PrevKv.GetLease() != int64(lease.ID) {
			k.t.Fatalf("%v, want a deletion at %d with what was there", ev, end)
		}
	}
	n, err := k.Kubernetes.Count(k.ctx, k.prefix, kubernetes.CountOptions{})
	if err != nil || n != 0 || len(seen) != objects {
		k.t.Errorf("%d objects are left, %d were deleted, %v", n, len(seen), err)
	}
	if left, err := k.TimeToLive(k.ctx, lease.ID); err != nil || left.TTL != -1 {
		k.t.Errorf("the lease: %+v, %v", left, err)
	}
}

// kubeRangeStream: the parts of a stream are a list.
func kubeRangeStream(k *kube) {
	const objects = 3000
	k.fill(objects, 1000)
	want, err := k.KV.Get(k.ctx, k.prefix, clientv3.WithPrefix())
	k.ok(err)
	parts, err := k.GetStream(k.ctx, k.prefix, clientv3.WithPrefix())
	k.ok(err)
	got := &pb.RangeResponse{}
	last := ""
	for p := range parts {
		k.ok(p.Err())
		if got.Header != nil {
			k.t.Error("there is more after the part with the header")
		}
		for _, kv := range p.Kvs {
			if string(kv.Key) <= last {
				k.t.Fatalf("%s after %s", kv.Key, last)
			}
			last = string(kv.Key)
		}
		proto.Merge(got, p.RangeResponse)
	}
	if want.Header.MemberId, got.Header.MemberId = 0, 0; !proto.Equal(got, (*pb.RangeResponse)(want)) || got.Count != objects || got.More {
		k.t.Errorf("the stream has %d keys, count %d, %v; the list %d keys, count %d, %v", len(got.Kvs), got.Count, got.Header, len(want.Kvs), want.Count, want.Header)
	}
}

// fill makes n objects of a size.
func (k *kube) fill(n, size int) {
	k.t.Helper()
	value := string(make([]byte, size))
	for i := 0; i < n; {
		var ops []clientv3.Op
		for len(ops) < 100 && len(ops)*size < 1<<20 && i < n {
			ops = append(ops, clientv3.OpPut(k.key(fmt.Sprintf("%06d", i)), value))
			i++
		}
		_, err := k.Txn(k.ctx).Then(ops...).Commit()
		k.ok(err)
	}
}

// kubeRangeStreamCompacted: a stream whose revision is compacted while it is read
// ends with that error, as a list would.
func kubeRangeStreamCompacted(k *kube) {
	k.fill(800, 16<<10)
	c := k.dial(0)
	stream, err := pb.NewKVClient(c.ActiveConnection()).RangeStream(k.ctx, &pb.RangeRequest{Key: []byte(k.prefix), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(k.prefix))})
	k.ok(err)
	if _, err := stream.Recv(); err != nil {
		k.t.Fatal(err)
	}
	resp, err := c.Put(k.ctx, k.key("more"), "v")
	k.ok(err)
	_, err = c.Compact(k.ctx, resp.Header.Revision, clientv3.WithCompactPhysical())
	k.ok(err)
	for err == nil {
		_, err = stream.Recv()
	}
	if errors.Is(err, io.EOF) {
		k.t.Fatal("the stream has ended as if nothing had been compacted")
	}
	k.gone("the stream", rpctypes.Error(err))
	_, err = k.Delete(k.ctx, k.prefix, clientv3.WithPrefix())
	k.ok(err)
}
