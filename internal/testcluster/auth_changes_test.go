package testcluster_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/internal/testcluster"
)

// A watch ends when the right to what it shows is lost, or the password of its user
// is replaced, and shows nothing of what comes afterwards; other changes do not
// touch it.
func TestAuth_watchEndsWithTheRight(t *testing.T) {
	c := testcluster.Start(t, 3, testcluster.Options{})
	setUpUsersOn(t, c)
	ctx := within(t)
	root := userClient(t, "root", c.Members[0].ClientURL)
	other := c.Members[2].ClientURL
	for reason, take := range map[string]func() error{
		"permission denied":  func() error { return second(root.RoleRevokePermission(ctx, "a", "a/", "a0")) },
		"invalid auth token": func() error { return second(root.UserChangePassword(ctx, "alice", "alice")) },
	} {
		_, err := root.RoleGrantPermission(ctx, "a", "a/", "a0", clientv3.PermissionType(clientv3.PermReadWrite))
		if err != nil {
			t.Fatal(err)
		}
		alice := userClient(t, "alice", other)
		if r := <-alice.Watch(ctx, "a/", clientv3.WithFromKey()); !strings.Contains(fmt.Sprint(r.Err()), "permission denied") {
			t.Fatalf("a watch beyond the right: %v", r.Err())
		}
		conn := raw(t, other)
		watch, err := pb.NewWatchClient(conn).Watch(bearing(ctx, login(t, conn, "alice")))
		if err != nil {
			t.Fatal(err)
		}
		next := func() *pb.WatchResponse {
			t.Helper()
			r, err := watch.Recv()
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		if err := watch.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("a/"), RangeEnd: []byte("a0")}}}); err != nil {
			t.Fatal(err)
		}
		if r := next(); !r.Created || r.Canceled {
			t.Fatal(r)
		}
		if _, err := root.RoleGrantPermission(ctx, "a", "more", "", clientv3.PermissionType(clientv3.PermRead)); err != nil {
			t.Fatal(err)
		}
		if _, err := root.Put(ctx, "a/1", "seen"); err != nil {
			t.Fatal(err)
		}
		if r := next(); len(r.Events) != 1 {
			t.Fatal(r)
		}
		if err := take(); err != nil {
			t.Fatal(err)
		}
		if _, err := root.Put(ctx, "a/1", "not to be seen"); err != nil {
			t.Fatal(err)
		}
		if r := next(); !r.Canceled || len(r.Events) != 0 || !strings.Contains(r.CancelReason, reason) {
			t.Errorf("after the loss: %v; want %s", r, reason)
		}
	}
}

// Writers and changes of their rights race; what each write was answered is what
// all members have.
func TestAuth_membersDecideAlike(t *testing.T) {
	c := testcluster.Start(t, 3, testcluster.Options{})
	setUpUsersOn(t, c)
	root := userClient(t, "root", c.Members[0].ClientURL)
	done := make(chan struct{})
	var work sync.WaitGroup
	var mu sync.Mutex
	written, denied := map[string]bool{}, 0
	for i, m := range c.Members {
		conn := raw(t, m.ClientURL)
		token := login(t, conn, "alice")
		work.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				key := fmt.Sprintf("a/%d-%d", i, n)
				_, err := pb.NewKVClient(conn).Put(bearing(t.Context(), token), &pb.PutRequest{Key: []byte(key)})
				mu.Lock()
				switch text := status.Convert(err).Message(); {
				case err == nil:
					written[key] = true
				case strings.HasSuffix(text, "permission denied"), strings.HasSuffix(text, "revision of auth store is old"):
					denied++
				default:
					t.Errorf("%s: %v", key, err)
				}
				mu.Unlock()
			}
		})
	}
	for range 30 {
		if _, err := root.UserRevokeRole(within(t), "alice", "a"); err != nil {
			t.Error(err)
		}
		if _, err := root.UserGrantRole(within(t), "alice", "a"); err != nil {
			t.Error(err)
		}
	}
	close(done)
	work.Wait()
	for _, m := range c.Members {
		r, err := userClient(t, "root", m.ClientURL).Get(within(t), "a/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range r.Kvs {
			if !written[string(kv.Key)] {
				t.Errorf("%s has %s, which was denied", m.Name, kv.Key)
			}
		}
		if len(r.Kvs) != len(written) {
			t.Errorf("%s has %d keys of %d that were written", m.Name, len(r.Kvs), len(written))
		}
	}
	if equal, state := c.Equal(); !equal {
		t.Error(state)
	}
	if len(written) == 0 || denied == 0 {
		t.Errorf("%d writes, %d denied: the race shows nothing", len(written), denied)
	}
	t.Logf("%d writes, %d denied", len(written), denied)
}
