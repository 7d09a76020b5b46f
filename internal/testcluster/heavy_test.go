package testcluster_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclave-kv/conclave/internal/testcluster"
)

// heavyKeys is enough for what costs a time per key to be felt.
const heavyKeys = 48 * 64 * 64

// fillHeavy puts the keys heavy/0000000 and so on, 64 times 64 in a transaction,
// which is the most that --max-txn-ops lets be.
func fillHeavy(t *testing.T, c *clientv3.Client, n int) {
	t.Helper()
	for i := 0; i < n; i += 64 * 64 {
		var outer []clientv3.Op
		for j := i; j < i+64*64; j += 64 {
			var inner []clientv3.Op
			for k := j; k < j+64; k++ {
				inner = append(inner, clientv3.OpPut(fmt.Sprintf("heavy/%07d", k), "value"))
			}
			outer = append(outer, clientv3.OpTxn(nil, inner, nil))
		}
		if _, err := c.Txn(within(t)).Then(outer...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

// However costly the requests of some clients are to apply, no member stands for
// election, and others' puts go on. The timeout is long because three members in
// one process, on few busy processors, starve each other.
func TestCluster_heavyRequests(t *testing.T) {
	if testing.Short() {
		t.Skip("writes a million records on each member")
	}
	c := testcluster.Start(t, 3, testcluster.Options{ElectionTimeout: 5 * time.Second})
	lead := c.Leader()
	cli, other := client(t, c.Members[lead].ClientURL), client(t, c.Members[(lead+1)%3].ClientURL)
	terms := func() (out []uint64) {
		for _, m := range c.Members {
			status, err := cli.Status(within(t), m.ClientURL)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, status.RaftTerm)
		}
		return out
	}
	fillHeavy(t, cli, heavyKeys)
	before := terms()
	l := startLoad(t, other, 4)
	passes := clientv3.Compare(clientv3.ModRevision("heavy/"), ">", 0).WithPrefix()
	rate, worst := l.during(func() {
		_, err := other.Txn(within(t)).If(slices.Repeat([]clientv3.Cmp{passes}, 128)...).Then(clientv3.OpPut("x", "")).Commit()
		if !errors.Is(err, rpctypes.ErrTooManyOps) {
			t.Errorf("128 compares with all keys: %v", err)
		}
		resp, err := cli.Txn(within(t)).If(passes).Then(clientv3.OpPut("x", ""), clientv3.OpGet("heavy/", clientv3.WithPrefix(),
			clientv3.WithSort(clientv3.SortByValue, clientv3.SortDescend))).Commit()
		if err != nil || len(resp.Responses[1].GetResponseRange().Kvs) != heavyKeys {
			t.Errorf("a read of all keys in a transaction: %v", err)
		}
		for _, opts := range [][]clientv3.OpOption{{clientv3.WithPrefix()}, {clientv3.WithPrefix(), clientv3.WithPrevKV()}} {
			rev := resp.Header.Revision
			gone, err := other.Delete(within(t), "heavy/", opts...)
			if err != nil || gone.Deleted != heavyKeys || gone.Header.Revision <= rev {
				t.Errorf("a deletion of all keys: %v", err)
			}
			fillHeavy(t, cli, heavyKeys)
		}
	})
	if after := terms(); !slices.Equal(after, before) {
		t.Errorf("terms %v, before %v", after, before)
	}
	// Longer than anything above takes, and far less than 128 compares would.
	if t.Logf("%.0f puts/s beside it, the longest %v", rate, worst); worst > 5*time.Second {
		t.Errorf("the longest put took %v", worst)
	}
	l.end()
	awaitTrue(t, "members to be equal", func() bool { equal, _ := c.Equal(); return equal })
}
