package testcluster_test

import (
	"context"
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/internal/lockpb"
	"github.com/conclave-kv/conclave/internal/testcluster"
)

// Who waits for a lock through a member that follows keeps its place while the
// leader goes away and another is elected, and so does an observer its view.
func TestLocks_leaderChange(t *testing.T) {
	c := testcluster.Start(t, 3, testcluster.Options{})
	clients := perMember(t, c)
	lead := leaderOf(t, c, clients)
	rest := (lead + 1) % 3
	cl, conn := clients[rest], clients[rest].ActiveConnection()
	locks, elections := lockpb.NewLockClient(conn), lockpb.NewElectionClient(conn)
	lease := func() int64 {
		granted, err := cl.Grant(within(t), 600)
		if err != nil {
			t.Fatal(err)
		}
		return int64(granted.ID)
	}
	first, err := locks.Lock(within(t), &lockpb.LockRequest{Name: []byte("l"), Lease: lease()})
	if err != nil {
		t.Fatal(err)
	}
	observed, err := elections.Observe(within(t), &lockpb.LeaderRequest{Name: []byte("l")})
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := observed.Recv(); err != nil || string(resp.Kv.Key) != string(first.Key) {
		t.Fatalf("observed %v, %v", resp, err)
	}
	type answer struct {
		resp *lockpb.LockResponse
		err  error
	}
	got := make(chan answer, 1)
	second := lease()
	ctx := within(t)
	go func() {
		resp, err := locks.Lock(ctx, &lockpb.LockRequest{Name: []byte("l"), Lease: second})
		got <- answer{resp, err}
	}()
	awaitTrue(t, "two in the queue", func() bool { return countOf(ctx, cl, "l/") == 2 })

	c.Members[lead].Stop()
	if _, err := locks.Unlock(within(t), &lockpb.UnlockRequest{Key: first.Key}); err != nil {
		t.Fatal(err)
	}
	a := <-got
	if want := fmt.Sprintf("l/%x", second); a.err != nil || string(a.resp.Key) != want {
		t.Fatalf("the waiter got %v, %v, want %s", a.resp, a.err, want)
	}
	if resp, err := observed.Recv(); err != nil || string(resp.Kv.Key) != string(a.resp.Key) {
		t.Errorf("observed %v, %v", resp, err)
	}
}

func countOf(ctx context.Context, cl *clientv3.Client, prefix string) int64 {
	resp, err := cl.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return -1
	}
	return resp.Count
}

// leaderOf is the index of the member that leads.
func leaderOf(t *testing.T, c *testcluster.Cluster, clients []*clientv3.Client) (lead int) {
	t.Helper()
	awaitTrue(t, "a leader", func() bool {
		for i, m := range c.Members {
			status, err := clients[i].Status(within(t), m.ClientURL)
			if err == nil && status.Leader == status.Header.MemberId {
				lead = i
				return true
			}
		}
		return false
	})
	return lead
}

// An observer sees no value that is proclaimed after it has lost the right to.
func TestLocks_observerLosesTheRight(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{})
	setUpUsers(t, client(t, c.Members[0].ClientURL))
	ctx := within(t)
	root := userClient(t, "root", c.Members[0].ClientURL)
	conn := raw(t, c.Members[0].ClientURL)
	elections := lockpb.NewElectionClient(conn)
	as := bearing(ctx, login(t, conn, "root"))
	led, err := elections.Campaign(as, &lockpb.CampaignRequest{Name: []byte("a"), Value: []byte("first")})
	if err != nil {
		t.Fatal(err)
	}
	observed, err := elections.Observe(bearing(ctx, login(t, conn, "alice")), &lockpb.LeaderRequest{Name: []byte("a")})
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := observed.Recv(); err != nil || string(resp.Kv.Value) != "first" {
		t.Fatalf("%v, %v", resp, err)
	}
	if _, err := root.RoleRevokePermission(ctx, "a", "a/", "a0"); err != nil {
		t.Fatal(err)
	}
	if _, err := elections.Proclaim(as, &lockpb.ProclaimRequest{Leader: led.Leader, Value: []byte("not to be seen")}); err != nil {
		t.Fatal(err)
	}
	resp, err := observed.Recv()
	if s := status.Convert(err); s.Code() != codes.PermissionDenied {
		t.Errorf("after the loss: %v, %v", resp, err)
	}
}
