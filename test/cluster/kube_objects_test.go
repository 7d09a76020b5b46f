package cluster_test

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

// kubeHealth: any error is bad, an empty answer is not.
func kubeHealth(k *kube) {
	resp, err := k.KV.Get(k.ctx, "/registry/health")
	k.ok(err)
	if resp.Count != 0 || resp.Header.Revision < 1 {
		k.t.Errorf("%v", resp)
	}
}

// kubeGet: the newest, an older one, and none.
func kubeGet(k *kube) {
	first := k.create("a", "1")
	second := k.put("a", "2", first)
	for at, want := range map[int64]string{0: "2", first: "1", second: "2"} {
		resp, err := k.Kubernetes.Get(k.ctx, k.key("a"), kubernetes.GetOptions{Revision: at})
		k.ok(err)
		if resp.KV == nil || string(resp.KV.Value) != want || resp.Revision < second {
			k.t.Errorf("at %d: %+v, want the value %s", at, resp, want)
		}
	}
	resp, err := k.Kubernetes.Get(k.ctx, k.key("none"), kubernetes.GetOptions{})
	k.ok(err)
	if resp.KV != nil || resp.Revision != second {
		k.t.Errorf("none: %+v, want the revision %d", resp, second)
	}
}

// kubeListInPages: all pages are of the revision of the first one, whatever is
// written between them.
func kubeListInPages(k *kube) {
	const objects, page = 25, 10
	for i := range objects {
		k.create(fmt.Sprintf("%02d", i), "old")
	}
	var kept []string
	var revision int64
	start := k.prefix
	for n := 0; ; n++ {
		resp, err := k.KV.Get(k.ctx, start, clientv3.WithRange(clientv3.GetPrefixRangeEnd(k.prefix)), clientv3.WithLimit(page), clientv3.WithRev(revision))
		k.ok(err)
		if resp.Count != int64(objects-page*n) || resp.More != (objects > page*(n+1)) {
			k.t.Errorf("page %d: count %d, more %t", n, resp.Count, resp.More)
		}
		if now := k.now(); resp.Header.Revision != now {
			k.t.Errorf("page %d has the revision %d in its header, the current one is %d", n, resp.Header.Revision, now)
		}
		for _, kv := range resp.Kvs {
			kept = append(kept, strings.TrimPrefix(string(kv.Key), k.prefix)+"="+string(kv.Value))
		}
		if n == 0 {
			revision = resp.Header.Revision
		}
		if !resp.More {
			break
		}
		last := resp.Kvs[len(resp.Kvs)-1]
		start = string(last.Key) + "\x00"
		k.put(strings.TrimPrefix(string(last.Key), k.prefix), "new", last.ModRevision)
		k.create(fmt.Sprintf("%02d-between", 10*n+15), "new")
		k.remove(fmt.Sprintf("%02d", 10*n+12), k.object(fmt.Sprintf("%02d", 10*n+12)).ModRevision)
	}
	for i := range objects {
		if want := fmt.Sprintf("%02d=old", i); i >= len(kept) || kept[i] != want {
			k.t.Fatalf("the pages hold %v", kept)
		}
	}
	if len(kept) != objects {
		k.t.Errorf("the pages hold %v", kept)
	}
}

func kubeCountAndKeys(k *kube) {
	const objects = 30
	for i := range objects {
		k.create(fmt.Sprintf("%02d", i), "value")
	}
	n, err := k.Kubernetes.Count(k.ctx, k.prefix, kubernetes.CountOptions{})
	if err != nil || n != objects {
		k.t.Errorf("count: %d, %v", n, err)
	}
	resp, err := k.KV.Get(k.ctx, k.prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	k.ok(err)
	if len(resp.Kvs) != objects || resp.Count != objects {
		k.t.Errorf("keys: %d of %d", len(resp.Kvs), resp.Count)
	}
	for i, kv := range resp.Kvs {
		if string(kv.Key) != k.key(fmt.Sprintf("%02d", i)) || len(kv.Value) != 0 || kv.ModRevision == 0 {
			k.t.Errorf("key %d: %v", i, kv)
		}
	}
}

// kubeCreateOnce: of many apiservers that create an object, one does; the others
// are shown what is there.
func kubeCreateOnce(k *kube) {
	const apiservers = 6
	answers := make([]kubernetes.PutResponse, apiservers)
	var wg sync.WaitGroup
	for i := range apiservers {
		c := k.dial(i % 3)
		wg.Go(func() {
			var err error
			answers[i], err = c.Kubernetes.OptimisticPut(k.ctx, k.key("one"), []byte(strconv.Itoa(i)), 0, kubernetes.PutOptions{GetOnFailure: true})
			if err != nil {
				k.t.Error(err)
			}
		})
	}
	wg.Wait()
	winner := -1
	for i, a := range answers {
		if a.Succeeded && winner >= 0 {
			k.t.Fatalf("%d and %d created it", winner, i)
		}
		if a.Succeeded {
			winner = i
		}
	}
	if winner < 0 {
		k.t.Fatal("nobody created it")
	}
	for i, a := range answers {
		if i != winner && (a.KV == nil || string(a.KV.Value) != strconv.Itoa(winner) || a.KV.ModRevision != answers[winner].Revision || a.Revision < answers[winner].Revision) {
			k.t.Errorf("%d was shown %+v, and %d created it at %d", i, a, winner, answers[winner].Revision)
		}
	}
}

// kubeUpdate: only from the newest revision; the put of the transaction names
// the revision too.
func kubeUpdate(k *kube) {
	first := k.create("a", "1")
	second := k.put("a", "2", first)
	late, err := k.Kubernetes.OptimisticPut(k.ctx, k.key("a"), []byte("3"), first, kubernetes.PutOptions{GetOnFailure: true})
	k.ok(err)
	if late.Succeeded || late.KV == nil || string(late.KV.Value) != "2" || late.KV.ModRevision != second || late.Revision != second {
		k.t.Errorf("an update from an old revision: %+v", late)
	}
	resp, err := k.Txn(k.ctx).If(clientv3.Compare(clientv3.ModRevision(k.key("a")), "=", second)).
		Then(clientv3.OpPut(k.key("a"), "3")).Else(clientv3.OpGet(k.key("a"))).Commit()
	k.ok(err)
	put := resp.Responses[0].GetResponsePut()
	if !resp.Succeeded || put.GetHeader().GetRevision() != second+1 || resp.Header.Revision != second+1 {
		k.t.Errorf("the transaction's answer is %v", resp)
	}
	if kv := k.object("a"); kv.Version != 3 || kv.CreateRevision != first || kv.ModRevision != second+1 {
		k.t.Errorf("%v after three writes", kv)
	}
}

// kubeDelete: the delete of the transaction has a header of its own.
func kubeDelete(k *kube) {
	first := k.create("a", "1")
	second := k.put("a", "2", first)
	late, err := k.Kubernetes.OptimisticDelete(k.ctx, k.key("a"), first, kubernetes.DeleteOptions{GetOnFailure: true})
	k.ok(err)
	if late.Succeeded || late.KV == nil || late.KV.ModRevision != second || late.Revision != second {
		k.t.Errorf("a delete from an old revision: %+v", late)
	}
	for n, succeeds := range []bool{true, false} {
		resp, err := k.Txn(k.ctx).If(clientv3.Compare(clientv3.ModRevision(k.key("a")), "=", second)).
			Then(clientv3.OpDelete(k.key("a"))).Else(clientv3.OpGet(k.key("a"))).Commit()
		k.ok(err)
		inner := resp.Responses[0].GetResponseDeleteRange().GetHeader()
		if !succeeds {
			inner = resp.Responses[0].GetResponseRange().GetHeader()
		}
		if resp.Succeeded != succeeds || inner == nil || inner.Revision != second+1 || resp.Header.Revision != second+1 {
			k.t.Errorf("delete %d: %v", n, resp)
		}
	}
}

// kubeRevisions: each transaction that writes has the next revision, one that
// writes nothing has none, and every member reads what was acknowledged.
func kubeRevisions(k *kube) {
	var readers []*kubernetes.Client
	for i := range 3 {
		readers = append(readers, k.dial(i))
	}
	last := k.create("a", "0")
	for i := range 20 {
		next := k.put("a", strconv.Itoa(i), last)
		if next != last+1 {
			k.t.Fatalf("revision %d after %d", next, last)
		}
		last = next
		if late, err := k.Kubernetes.OptimisticPut(k.ctx, k.key("a"), nil, 1, kubernetes.PutOptions{}); err != nil || late.Succeeded || late.Revision != last {
			k.t.Errorf("what wrote nothing: %+v, %v", late, err)
		}
		for m, c := range readers {
			resp, err := c.Kubernetes.Get(k.ctx, k.key("a"), kubernetes.GetOptions{})
			k.ok(err)
			if resp.Revision < last || resp.KV == nil || resp.KV.ModRevision != last {
				k.t.Errorf("member %d answers %+v after revision %d was acknowledged", m, resp, last)
			}
		}
	}
}

// object is one of the case's own.
func (k *kube) object(name any) *mvccpb.KeyValue {
	k.t.Helper()
	resp, err := k.Kubernetes.Get(k.ctx, k.key(name), kubernetes.GetOptions{})
	if err != nil || resp.KV == nil {
		k.t.Fatalf("%s: %+v, %v", k.key(name), resp, err)
	}
	return resp.KV
}

// kubeFuture: a revision that there is not yet is an error of its own.
func kubeFuture(k *kube) {
	now := k.create("a", "1")
	_, err := k.KV.Get(k.ctx, k.key("a"), clientv3.WithRev(now+1000))
	if !errors.Is(err, rpctypes.ErrFutureRev) || !strings.Contains(err.Error(), "mvcc: required revision is a future revision") {
		k.t.Errorf("a read at a future revision: %v", err)
	}
	ch := k.watch(now + 1)
	k.put("a", "2", now)
	k.put("a", "3", now+1)
	if ev := k.events(ch, 1)[0]; ev.Kv.ModRevision != now+2 || string(ev.PrevKv.GetValue()) != "2" {
		k.t.Errorf("a watch from %d saw %v first", now+2, ev)
	}
}

// kubeFeatures: kube-apiserver looks at the version before it asks for progress.
func kubeFeatures(k *kube) {
	cfg := k.sys.config()
	for _, e := range cfg.Endpoints {
		s, err := k.Status(k.ctx, e)
		k.ok(err)
		var v [3]int
		n, err := fmt.Sscanf(s.Version, "%d.%d.%d", &v[0], &v[1], &v[2])
		if err != nil || n != 3 || s.Version != fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) {
			k.t.Errorf("%s: version %q", e, s.Version)
		}
		old := v[0] < 3 || v[0] == 3 && (v[1] < 4 || v[1] == 4 && v[2] < 31 || v[1] == 5 && v[2] < 13)
		if old || s.DbSize <= 0 || s.DbSizeInUse <= 0 || s.Leader == 0 || len(s.Errors) > 0 || s.IsLearner {
			k.t.Errorf("%s: %v", e, s)
		}
	}
}

// kubeLargeObjects: 1.4 MiB are written, watched, and listed many at a
// time; more than a server takes is refused as such.
func kubeLargeObjects(k *kube) {
	const objects = 8
	before := k.now()
	ch := k.watch(before)
	value := bytes.Repeat([]byte("x"), 1400<<10)
	for i := range objects {
		k.create(fmt.Sprintf("%02d", i), string(value))
	}
	for i, ev := range k.events(ch, objects) {
		if !bytes.Equal(ev.Kv.Value, value) {
			k.t.Errorf("event %d has %d bytes", i, len(ev.Kv.Value))
		}
	}
	resp, err := k.Kubernetes.List(k.ctx, k.prefix, kubernetes.ListOptions{})
	k.ok(err)
	for _, kv := range resp.Kvs {
		if !bytes.Equal(kv.Value, value) {
			k.t.Errorf("%s has %d bytes", kv.Key, len(kv.Value))
		}
	}
	if len(resp.Kvs) != objects {
		k.t.Errorf("%d objects", len(resp.Kvs))
	}
	_, err = k.Kubernetes.OptimisticPut(k.ctx, k.key("huge"), bytes.Repeat([]byte("x"), 1600<<10), 0, kubernetes.PutOptions{})
	if !errors.Is(err, rpctypes.ErrRequestTooLarge) {
		k.t.Errorf("1,600 KiB: %v", err)
	}
	_, err = k.Delete(k.ctx, k.prefix, clientv3.WithPrefix())
	k.ok(err)
}
