package member

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/raftstore/fsm"
)

func putOp(r *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
}

// many puts n keys p000000 and so on, in transactions.
func many(t testing.TB, m *Member, n int, value []byte) {
	t.Helper()
	const each = 5000
	for i := 0; i < n; i += each {
		r := &pb.TxnRequest{}
		for j := i; j < min(n, i+each); j++ {
			r.Success = append(r.Success, putOp(&pb.PutRequest{Key: fmt.Appendf(nil, "p%06d", j), Value: value}))
		}
		if _, err := m.Txn(limited(t), r); err != nil {
			t.Fatal(err)
		}
	}
}

// What is long is read after it was applied, and is in the answer all the same.
func TestTxn_longAnswers(t *testing.T) {
	members := startCluster(t, 3)
	_, m := leaderAndOther(t, members)
	const keys = 6000 // more than are read at once
	many(t, m.Member, keys, []byte("v"))
	all := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("p"), RangeEnd: []byte("q")}}}
	drop := &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("p"), RangeEnd: []byte("q"), PrevKv: true}}}
	resp, err := m.Txn(limited(t), &pb.TxnRequest{Success: []*pb.RequestOp{all, drop, all}})
	if err != nil {
		t.Fatal(err)
	}
	before, gone, after := resp.Responses[0].GetResponseRange(), resp.Responses[1].GetResponseDeleteRange(), resp.Responses[2].GetResponseRange()
	if len(before.Kvs) != keys || gone.Deleted != keys || len(gone.PrevKvs) != keys || len(after.Kvs) != 0 {
		t.Errorf("%d keys before, %d deleted with %d old values, %d keys after", len(before.Kvs), gone.Deleted, len(gone.PrevKvs), len(after.Kvs))
	}
	if rev := resp.Header.Revision; before.Header.Revision != rev-1 || gone.Header.Revision != rev || string(gone.PrevKvs[keys-1].Value) != "v" {
		t.Errorf("revisions %d, %d, %d", before.Header.Revision, gone.Header.Revision, rev)
	}
}

// A request that takes long to apply has its turn until the outcome is known,
// also when its client has gone.
func TestHeavy_turnEndsWithTheOutcome(t *testing.T) {
	m := &Member{cfg: Config{RequestTimeout: time.Minute}, heavy: make(heavy, 1), ctx: t.Context()}
	first, second := newWaiter(), newWaiter()
	if err := m.heavy.enter(t.Context(), m, first); err != nil {
		t.Fatal(err)
	}
	first.leave()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.heavy.enter(gone, m, second); !errors.Is(err, context.Canceled) || second.turn != nil {
		t.Fatalf("a second one while the first is under way: %v", err)
	}
	first.answer(fsm.Result{})
	if err := m.heavy.enter(t.Context(), m, second); err != nil {
		t.Fatal(err)
	}
	m.cfg.RequestTimeout = time.Nanosecond
	if err := m.heavy.enter(t.Context(), m, newWaiter()); !errors.Is(err, ErrTooManyRequests) {
		t.Errorf("beyond the time that a request has: %v", err)
	}
	second.endTurn()
	second.endTurn()
	if len(m.heavy) != 0 {
		t.Error("a turn was not ended")
	}
}

func TestProposer_batchesAreBoundedByWeight(t *testing.T) {
	p := newProposer(&Member{}, 1)
	encode := func(dst []byte) ([]byte, error) { return append(dst, 1), nil }
	for _, w := range []weight{{keys: heavyKeys}, {keys: 1}, {bytes: batchBytes}, {keys: 1}} {
		if err := p.enqueue(w, encode, newWaiter()); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.queue) != 3 || p.queued != batchBytes+4 {
		t.Fatalf("%d batches of %d bytes", len(p.queue), p.queued)
	}
	for range 3 {
		taken, _ := p.take()
		p.land(taken)
	}
	if p.queued != 0 || p.unapplied.Load() != 0 {
		t.Errorf("%d bytes are queued, %d unapplied, of none", p.queued, p.unapplied.Load())
	}
}

// Old values that are written again are bounded in a request, which is short
// itself.
func TestTxn_keptValues(t *testing.T) {
	m := startCluster(t, 1)[0]
	const size = 1 << 20 * 3 / 4
	r := &pb.TxnRequest{}
	for i := range maxKept/size + 1 {
		key := fmt.Appendf(nil, "large%02d", i)
		if _, err := m.Put(limited(t), &pb.PutRequest{Key: key, Value: make([]byte, size)}); err != nil {
			t.Fatal(err)
		}
		r.Success = append(r.Success, putOp(&pb.PutRequest{Key: key, IgnoreValue: true}))
	}
	rev := m.View().KV.Rev()
	if _, err := m.Txn(limited(t), r); !errors.Is(err, ErrRequestTooLarge) || m.View().KV.Rev() != rev {
		t.Errorf("%d values of %d bytes: %v, revision %d after %d", len(r.Success), size, err, m.View().KV.Rev(), rev)
	}
	r.Success = r.Success[:maxKept/size]
	if _, err := m.Txn(limited(t), r); err != nil {
		t.Errorf("%d values: %v", len(r.Success), err)
	}
}

// What a request costs is told from the keys in its ranges, of both branches.
func TestWeigh_ranges(t *testing.T) {
	m := startCluster(t, 1)[0]
	many(t, m.Member, 1000, []byte("value"))
	if _, err := m.LeaseGrant(limited(t), &pb.LeaseGrantRequest{ID: 7, TTL: 100}); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if _, err := m.Put(limited(t), &pb.PutRequest{Key: fmt.Appendf(nil, "leased%d", i), Lease: 7}); err != nil {
			t.Fatal(err)
		}
	}
	drop := &pb.DeleteRangeRequest{Key: []byte("p"), RangeEnd: []byte("q")}
	dropOp := &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: drop}}
	v := m.View().KV
	for name, c := range map[string]struct{ got, want weight }{
		"put":            {weigh(v, &pb.PutRequest{Key: []byte("p000001")}), weight{keys: 1}},
		"kept value":     {weigh(v, &pb.PutRequest{Key: []byte("p000001"), IgnoreValue: true}), weight{keys: 1, bytes: 5}},
		"delete":         {weigh(v, drop), weight{keys: 1001}},
		"revocation":     {weigh(v, &pb.LeaseRevokeRequest{ID: 7}), weight{keys: 6}},
		"nested, failed": {weigh(v, &pb.TxnRequest{Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: []*pb.RequestOp{dropOp}}}}}}), weight{keys: 1003}},
		"compare":        {weigh(v, &pb.TxnRequest{Compare: []*pb.Compare{{Key: drop.Key, RangeEnd: drop.RangeEnd}}}), weight{keys: 1001}},
	} {
		if c.got != c.want {
			t.Errorf("%s: %+v, want %+v", name, c.got, c.want)
		}
	}
}

// What deciding about a request looks at counts too: all keys of each lease that it
// attaches keys to, once, unless root asks, about whom nothing is looked at.
func TestWeighRights_leases(t *testing.T) {
	m := startCluster(t, 1)[0]
	for _, user := range []string{"root", "alice"} {
		if _, err := m.UserAdd(limited(t), &pb.AuthUserAddRequest{Name: user, Options: &authpb.UserAddOptions{NoPassword: true}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.UserGrantRole(limited(t), &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"}); err != nil {
		t.Fatal(err)
	}
	for id := range int64(2) {
		if _, err := m.LeaseGrant(limited(t), &pb.LeaseGrantRequest{ID: 7 + id, TTL: 100}); err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			if _, err := m.Put(limited(t), &pb.PutRequest{Key: fmt.Appendf(nil, "leased%d-%d", id, i), Lease: 7 + id}); err != nil {
				t.Fatal(err)
			}
		}
	}
	put := &pb.PutRequest{Key: []byte("k"), Lease: 7}
	other := &pb.PutRequest{Key: []byte("l"), Lease: 8}
	txn := &pb.TxnRequest{Success: []*pb.RequestOp{putOp(put), putOp(put)}, Failure: []*pb.RequestOp{
		{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: []*pb.RequestOp{putOp(put), putOp(other)}}}},
	}}
	v := m.View()
	for name, c := range map[string]struct{ got, want int }{
		"put":         {weighRights(v, "alice", put), 5},
		"no lease":    {weighRights(v, "alice", &pb.PutRequest{Key: []byte("k")}), 0},
		"transaction": {weighRights(v, "alice", txn), 10},
		"root":        {weighRights(v, "root", txn), 0},
		"unknown":     {weighRights(v, "nobody", txn), 0},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d keys, want %d", name, c.got, c.want)
		}
	}
}
