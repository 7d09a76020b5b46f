package fsm

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/auth"
	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// authBed is a Machine that every command is applied and published on, by itself.
type authBed struct {
	t    *testing.T
	m    *Machine
	r    *recorder
	next uint64
}

func newAuthBed(t *testing.T) *authBed {
	m := openMachine(t, filepath.Join(t.TempDir(), "db"))
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &authBed{t: t, m: m, r: &recorder{wants: map[uint64]bool{}, delivered: map[uint64][]Result{}}, next: 1}
	m.SetSink(b.r)
	m.Configure(1, 1, members(1))
	m.Publish()
	return b
}

// as applies one request of a user and returns its result.
func (b *authBed) as(origin Origin, kind Kind, msg proto.Message) Result {
	b.t.Helper()
	b.next++
	data, err := AppendRequest(AppendHeader(nil, 2, b.next), kind, origin, msg)
	if err != nil {
		b.t.Fatal(err)
	}
	b.r.wants[b.next] = true
	b.m.Command(b.next, 2, data)
	b.m.Publish()
	return b.r.delivered[b.next][0]
}

func (b *authBed) origin(user string) Origin {
	return Origin{User: user, AuthRevision: b.m.View().Auth.User(user).Identity().Revision}
}

// must applies a request of root, or of anybody while authentication is off.
func (b *authBed) must(kind Kind, msg proto.Message) {
	b.t.Helper()
	origin := Origin{}
	if b.m.View().Auth.Enabled() {
		origin = b.origin(auth.Root)
	}
	if r := b.as(origin, kind, msg); r.Err != nil {
		b.t.Fatalf("%T: %v", msg, r.Err)
	}
}

// setUp makes root, and users alice and bob, who may read and write a/ and b/.
func (b *authBed) setUp() {
	b.t.Helper()
	for _, user := range []string{auth.Root, "alice", "bob"} {
		b.must(KindUserAdd, &pb.AuthUserAddRequest{Name: user, HashedPassword: base64.StdEncoding.EncodeToString([]byte("hash"))})
	}
	b.must(KindUserGrantRole, &pb.AuthUserGrantRoleRequest{User: auth.Root, Role: auth.Root})
	for user, prefix := range map[string]string{"alice": "a", "bob": "b"} {
		b.must(KindRoleAdd, &pb.AuthRoleAddRequest{Name: prefix})
		b.must(KindRoleGrantPermission, &pb.AuthRoleGrantPermissionRequest{Name: prefix, Perm: &authpb.Permission{
			PermType: authpb.Permission_READWRITE, Key: []byte(prefix + "/"), RangeEnd: []byte(prefix + "0")}})
		b.must(KindUserGrantRole, &pb.AuthUserGrantRoleRequest{User: user, Role: prefix})
	}
	b.must(KindAuthEnable, &pb.AuthEnableRequest{})
}

// What is denied changes nothing, also where it is part of something that would
// be allowed.
func TestAuthorize_deniedChangesNothing(t *testing.T) {
	b := newAuthBed(t)
	b.setUp()
	put := func(key string) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key)}}}
	}
	b.must(KindLeaseGrant, &pb.LeaseGrantRequest{ID: 7, TTL: 100})
	b.must(KindPut, &pb.PutRequest{Key: []byte("b/1"), Lease: 7})
	alice := b.origin("alice")
	before, revision := b.m.View().KV.Rev(), b.m.View().Auth.Revision()
	for kind, msg := range map[Kind]proto.Message{
		KindPut:                 &pb.PutRequest{Key: []byte("b/1")},
		KindDeleteRange:         &pb.DeleteRangeRequest{Key: []byte("a/"), RangeEnd: []byte("b0")},
		KindTxn:                 &pb.TxnRequest{Success: []*pb.RequestOp{put("a/1"), put("b/1")}},
		KindCompact:             &pb.CompactionRequest{Revision: 2},
		KindLeaseRevoke:         &pb.LeaseRevokeRequest{ID: 7},
		KindAlarm:               &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE},
		KindDowngrade:           &pb.DowngradeRequest{Action: pb.DowngradeRequest_ENABLE, Version: "3.6.0"},
		KindAuthDisable:         &pb.AuthDisableRequest{},
		KindUserAdd:             &pb.AuthUserAddRequest{Name: "eve"},
		KindUserChangePassword:  &pb.AuthUserChangePasswordRequest{Name: auth.Root},
		KindUserGrantRole:       &pb.AuthUserGrantRoleRequest{User: "alice", Role: auth.Root},
		KindRoleGrantPermission: &pb.AuthRoleGrantPermissionRequest{Name: "a", Perm: &authpb.Permission{Key: []byte("b/")}},
	} {
		if r := b.as(alice, kind, msg); !errors.Is(r.Err, auth.ErrPermissionDenied) || r.Response != nil {
			t.Errorf("kind %d: %+v", kind, r)
		}
		if r := b.as(Origin{}, kind, msg); !errors.Is(r.Err, auth.ErrUserEmpty) {
			t.Errorf("kind %d of nobody: %+v", kind, r)
		}
	}
	v := b.m.View()
	if v.KV.Rev() != before || v.Auth.Revision() != revision || len(v.Alarms.All()) != 0 || v.Downgrade.Enabled || v.KV.CompactRev() > 0 {
		t.Errorf("something changed: %d, %d, %+v", v.KV.Rev(), v.Auth.Revision(), v)
	}
	if r := b.as(alice, KindTxn, &pb.TxnRequest{Success: []*pb.RequestOp{put("a/1")}}); r.Err != nil {
		t.Error(r.Err)
	}
	if r := b.as(ByMember, KindCompact, &pb.CompactionRequest{Revision: before}); r.Err != nil {
		t.Errorf("a member's own compaction: %v", r.Err)
	}
}

// A right that was taken away before a write is gone, however long ago the write
// was asked for; what happened to others does not matter.
func TestAuthorize_atApply(t *testing.T) {
	b := newAuthBed(t)
	b.setUp()
	alice, bob := b.origin("alice"), b.origin("bob")
	b.must(KindRoleRevokePermission, &pb.AuthRoleRevokePermissionRequest{Role: "a", Key: []byte("a/"), RangeEnd: []byte("a0")})
	if r := b.as(alice, KindPut, &pb.PutRequest{Key: []byte("a/1")}); !errors.Is(r.Err, auth.ErrOldRevision) {
		t.Error(r.Err)
	}
	if r := b.as(b.origin("alice"), KindPut, &pb.PutRequest{Key: []byte("a/1")}); !errors.Is(r.Err, auth.ErrPermissionDenied) {
		t.Error(r.Err)
	}
	if r := b.as(bob, KindPut, &pb.PutRequest{Key: []byte("b/1")}); r.Err != nil {
		t.Error(r.Err)
	}
	b.must(KindUserDelete, &pb.AuthUserDeleteRequest{Name: "bob"})
	if r := b.as(bob, KindPut, &pb.PutRequest{Key: []byte("b/1")}); !errors.Is(r.Err, auth.ErrPermissionDenied) {
		t.Error(r.Err)
	}
	// Both in one entry, the loss of the right first.
	b.must(KindUserAdd, &pb.AuthUserAddRequest{Name: "bob"})
	b.must(KindUserGrantRole, &pb.AuthUserGrantRoleRequest{User: "bob", Role: "b"})
	data, err := AppendRequest(AppendHeader(nil, 2, 900), KindUserRevokeRole, b.origin(auth.Root), &pb.AuthUserRevokeRoleRequest{Name: "bob", Role: "b"})
	if err == nil {
		data, err = AppendRequest(data, KindPut, b.origin("bob"), &pb.PutRequest{Key: []byte("b/2")})
	}
	if err != nil {
		t.Fatal(err)
	}
	b.next++
	b.r.wants[900] = true
	b.m.Command(b.next, 2, data)
	b.m.Publish()
	if got := b.r.delivered[900]; got[0].Err != nil || !errors.Is(got[1].Err, auth.ErrOldRevision) {
		t.Errorf("%+v", got)
	}
}

// authHistory is a random sequence of changes of rights, logins and writes.
func authHistory(t *testing.T, rng *rand.Rand, n int) [][]byte {
	users, roles := []string{auth.Root, "u1", "u2"}, []string{"r1", "r2", auth.Root}
	pick := func(of []string) string { return of[rng.IntN(len(of))] }
	key := func() []byte { return []byte(fmt.Sprintf("k%d", rng.IntN(9))) }
	var out [][]byte
	for i := range n {
		data := AppendHeader(nil, 2, uint64(i))
		for range 1 + rng.IntN(4) {
			kinds := map[Kind]proto.Message{
				KindAuthEnable:           &pb.AuthEnableRequest{},
				KindAuthDisable:          &pb.AuthDisableRequest{},
				KindUserAdd:              &pb.AuthUserAddRequest{Name: pick(users)},
				KindUserDelete:           &pb.AuthUserDeleteRequest{Name: pick(users)},
				KindUserChangePassword:   &pb.AuthUserChangePasswordRequest{Name: pick(users)},
				KindUserGrantRole:        &pb.AuthUserGrantRoleRequest{User: pick(users), Role: pick(roles)},
				KindUserRevokeRole:       &pb.AuthUserRevokeRoleRequest{Name: pick(users), Role: pick(roles)},
				KindRoleAdd:              &pb.AuthRoleAddRequest{Name: pick(roles)},
				KindRoleDelete:           &pb.AuthRoleDeleteRequest{Role: pick(roles)},
				KindRoleGrantPermission:  &pb.AuthRoleGrantPermissionRequest{Name: pick(roles), Perm: &authpb.Permission{PermType: authpb.Permission_WRITE, Key: key()}},
				KindRoleRevokePermission: &pb.AuthRoleRevokePermissionRequest{Role: pick(roles), Key: key()},
				KindTokenIssue:           &conclavepb.TokenIssue{Hash: []byte{byte(i), byte(rng.IntN(2))}, User: pick(users), Credential: uint64(rng.IntN(20)), Deadline: int64(i * 9000), Now: int64(i * 5000)},
				KindTokenRenew:           &conclavepb.TokenRenew{Hashes: [][]byte{{byte(rng.IntN(n))}}, Deadline: int64(i * 15000), Now: int64(i * 5000)},
				KindPut:                  &pb.PutRequest{Key: key()},
			}
			kind := KindPut
			if rng.IntN(3) != 0 {
				sorted := slices.Sorted(maps.Keys(kinds))
				kind = sorted[rng.IntN(len(sorted))]
			}
			origin := Origin{User: pick(users), AuthRevision: uint64(rng.IntN(60))}
			if rng.IntN(3) == 0 {
				origin = ByMember
			}
			var err error
			if data, err = AppendRequest(data, kind, origin, kinds[kind]); err != nil {
				t.Fatal(err)
			}
		}
		out = append(out, data)
	}
	return out
}

// dumpAll is all records of the state file but the position's, as text.
func dumpAll(t *testing.T, m *Machine) string {
	t.Helper()
	if err := m.Commit(); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	err := m.file.Load().view(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				fmt.Fprintf(&text, "%s %q %q\n", name, k, v)
				return nil
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// How entries are grouped, and where the process is killed in between, changes
// neither rights, nor tokens, nor what was allowed.
func TestAuth_batchesAndCrashesDoNotMatter(t *testing.T) {
	const n = 150
	enabled := 0
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		entries := authHistory(t, rng, n)
		run := func(publish, kill func() bool) string {
			path := filepath.Join(t.TempDir(), "db")
			m := openMachine(t, path)
			for i := 0; i <= n; i++ {
				if i == 0 {
					m.Configure(1, 1, members(1))
				} else {
					m.Command(uint64(i+1), 2, entries[i-1])
				}
				if publish() || i == n {
					m.Publish()
				}
				if !m.held && kill() && i < n {
					if rng.IntN(2) == 0 {
						dumpAll(t, m)
					}
					m.file.Load().db.Load().Close() // what is not committed is gone
					m = openMachine(t, path)
					i = int(m.Applied()) - 1
				}
			}
			if m.View().Auth.Enabled() {
				enabled++
			}
			text := dumpAll(t, m)
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			return text
		}
		always, never := func() bool { return true }, func() bool { return false }
		want := run(always, never)
		if got := run(func() bool { return rng.IntN(4) == 0 }, func() bool { return rng.IntN(9) == 0 }); got != want {
			t.Fatalf("seed %d:\n got %s\nwant %s", seed, got, want)
		}
	}
	if enabled == 0 {
		t.Error("authentication was never on at the end: the test shows little")
	}
}

// Deciding about an entry's request allocates nothing.
func TestAuthorize_allocatesNothing(t *testing.T) {
	b := newAuthBed(t)
	b.setUp()
	origin := b.origin("alice")
	req := &request{kind: KindPut, user: []byte(origin.User), authRevision: origin.AuthRevision}
	put := &pb.PutRequest{Key: []byte("a/1")}
	if err := b.m.authorize(pb.KV_Put_FullMethodName, req, put); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _ = b.m.authorize(pb.KV_Put_FullMethodName, req, put) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
