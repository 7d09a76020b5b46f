package testcluster_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/internal/testcluster"
)

// Random requests of users with random roles are decided alike by three members,
// and those about one key as by a look at every permission.
func TestAuth_sameDecisionsOnAllMembers(t *testing.T) {
	const users, roles, grants, requests = 5, 4, 4, 400
	rng := rand.New(rand.NewPCG(11, 11))
	c := testcluster.Start(t, 3, testcluster.Options{})
	key := func() string {
		return strings.Repeat(string(rune('a'+rng.IntN(3))), 1+rng.IntN(2)) + fmt.Sprint(rng.IntN(3))
	}
	span := func() (from, to string) {
		switch from, to = key(), key(); {
		case rng.IntN(3) == 0:
			return from, "\x00"
		case rng.IntN(2) == 0 || from >= to:
			return from, ""
		}
		return from, to
	}
	admin := client(t, c.Members[0].ClientURL)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	perms := map[string][]*authpb.Permission{} // by user
	of := map[string][]*authpb.Permission{}    // by role
	for r := range roles {
		role := fmt.Sprint("r", r)
		_, err := admin.RoleAdd(within(t), role)
		check(err)
		for range grants {
			from, to := span()
			if slices.ContainsFunc(of[role], func(p *authpb.Permission) bool { return string(p.Key) == from && string(p.RangeEnd) == to }) {
				continue
			}
			kind := authpb.Permission_Type(rng.IntN(3))
			_, err := admin.RoleGrantPermission(within(t), role, from, to, clientv3.PermissionType(kind))
			check(err)
			of[role] = append(of[role], &authpb.Permission{PermType: kind, Key: []byte(from), RangeEnd: []byte(to)})
		}
	}
	for u := range users {
		user, role := fmt.Sprint("u", u), fmt.Sprint("r", u%roles)
		_, err := admin.UserAdd(within(t), user, user)
		check(err)
		_, err = admin.UserGrantRole(within(t), user, role)
		check(err)
		perms[user] = of[role]
	}
	setUpUsersOn(t, c)
	tokens := map[string]string{}
	for user := range perms {
		tokens[user] = login(t, raw(t, c.Members[0].ClientURL), user)
	}
	permits := func(user string, want authpb.Permission_Type, k string) bool {
		return slices.ContainsFunc(perms[user], func(p *authpb.Permission) bool {
			from, to := string(p.Key), string(p.RangeEnd)
			inside := k == from || to == "\x00" && k >= from || to != "" && k >= from && k < to
			return inside && (p.PermType == want || p.PermType == authpb.READWRITE)
		})
	}
	var members []pb.KVClient
	for _, m := range c.Members {
		members = append(members, pb.NewKVClient(raw(t, m.ClientURL)))
	}
	allowed := 0
	for range requests {
		user, prev := fmt.Sprint("u", rng.IntN(users)), rng.IntN(3) == 0
		from, to := span()
		ask, want := func(kv pb.KVClient) error {
			_, err := kv.Range(bearing(within(t), tokens[user]), &pb.RangeRequest{Key: []byte(from), RangeEnd: []byte(to)})
			return err
		}, permits(user, authpb.READ, from)
		switch rng.IntN(3) {
		case 0:
			ask, to = func(kv pb.KVClient) error {
				_, err := kv.Put(bearing(within(t), tokens[user]), &pb.PutRequest{Key: []byte(from), PrevKv: prev})
				return err
			}, ""
			want = permits(user, authpb.WRITE, from) && (!prev || permits(user, authpb.READ, from))
		case 1:
			ask = func(kv pb.KVClient) error {
				_, err := kv.DeleteRange(bearing(within(t), tokens[user]), &pb.DeleteRangeRequest{Key: []byte(from), RangeEnd: []byte(to), PrevKv: prev})
				return err
			}
			want = permits(user, authpb.WRITE, from) && (!prev || permits(user, authpb.READ, from))
		}
		var decided [3]codes.Code
		var work sync.WaitGroup
		for i, kv := range members {
			work.Go(func() { decided[i] = status.Code(ask(kv)) })
		}
		work.Wait()
		if decided[0] != decided[1] || decided[1] != decided[2] || decided[0] != codes.OK && decided[0] != codes.PermissionDenied {
			t.Fatalf("%s [%q, %q): %v", user, from, to, decided)
		}
		yes := decided[0] == codes.OK
		// Of a range a look at its first key tells only why not.
		if yes != want && (to == "" || yes) {
			t.Fatalf("%s [%q, %q), prev_kv %t: allowed %t, and its permissions are %v", user, from, to, prev, yes, perms[user])
		}
		if yes {
			allowed++
		}
	}
	if allowed < requests/20 || allowed > requests*19/20 {
		t.Errorf("%d of %d were allowed: the test asks for the wrong things", allowed, requests)
	}
	t.Logf("%d of %d were allowed", allowed, requests)
}
