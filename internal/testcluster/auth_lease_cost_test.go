package testcluster_test

import (
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclave-kv/conclave/internal/testcluster"
)

// nestedPuts are 64 times 64 puts of further keys under a lease, in 64 transactions.
func nestedPuts(prefix string, lease clientv3.LeaseID) (outer []clientv3.Op) {
	for i := range 64 {
		var inner []clientv3.Op
		for k := range 64 {
			inner = append(inner, clientv3.OpPut(fmt.Sprintf("%s%02d%02d", prefix, i, k), "", clientv3.WithLease(lease)))
		}
		outer = append(outer, clientv3.OpTxn(nil, inner, nil))
	}
	return outer
}

// Who attaches keys to a lease must be allowed to write those that it has: that is
// asked once for each lease of a transaction, not for each of its puts, because
// everybody waits while it is applied.
func TestAuth_manyPutsUnderALargeLease(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{})
	setUpUsersOn(t, c)
	alice, root := userClient(t, "alice", c.Endpoints()...), userClient(t, "root", c.Endpoints()...)
	lease, err := alice.Grant(within(t), 3600)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if _, err := root.Txn(within(t)).Then(nestedPuts(fmt.Sprintf("a/%d/", i), lease.ID)...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := root.Put(within(t), "other", ""); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	began := time.Now()
	go func() { // which writes nothing
		_, err := alice.Txn(within(t)).If(clientv3.Compare(clientv3.Version("a/none"), ">", 0)).Then(nestedPuts("a/x/", lease.ID)...).Commit()
		sent <- err
	}()
	worst := time.Duration(0)
	for done := false; !done; {
		select {
		case err := <-sent:
			t.Logf("the transaction took %v: %v", time.Since(began), err)
			done = true
		default:
		}
		at := time.Now()
		if _, err := root.Put(within(t), "other", ""); err != nil {
			t.Errorf("root's put: %v", err)
		}
		worst = max(worst, time.Since(at))
	}
	t.Logf("the longest of root's puts took %v", worst)
	if worst > time.Second {
		t.Errorf("a put of another client waited %v", worst)
	}
}
