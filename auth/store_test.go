package auth

import (
	"errors"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// TestStore_rules makes changes in order; each says what it answers and what the
// revision is afterwards, as etcd does.
func TestStore_rules(t *testing.T) {
	b := newBed(t)
	user := func(name string) func() error {
		return func() error { return b.UserAdd(&pb.AuthUserAddRequest{Name: name, HashedPassword: hashed("x")}) }
	}
	role := func(name string) func() error {
		return func() error { return b.RoleAdd(&pb.AuthRoleAddRequest{Name: name}) }
	}
	grant := func(user, role string) func() error {
		return func() error { return b.UserGrantRole(&pb.AuthUserGrantRoleRequest{User: user, Role: role}) }
	}
	revoke := func(user, role string) func() error {
		return func() error { return b.UserRevokeRole(&pb.AuthUserRevokeRoleRequest{Name: user, Role: role}) }
	}
	remove := func(user string) func() error {
		return func() error { return b.UserDelete(&pb.AuthUserDeleteRequest{Name: user}) }
	}
	permit := func(role string, p *authpb.Permission) func() error {
		return func() error { return b.RoleGrantPermission(&pb.AuthRoleGrantPermissionRequest{Name: role, Perm: p}) }
	}
	forbid := func(role, key, end string) func() error {
		return func() error {
			return b.RoleRevokePermission(&pb.AuthRoleRevokePermissionRequest{Role: role, Key: []byte(key), RangeEnd: []byte(end)})
		}
	}
	drop := func(role string) func() error {
		return func() error { return b.RoleDelete(&pb.AuthRoleDeleteRequest{Role: role}) }
	}
	enable := func() error { return b.Enable(nil) }
	disable := func() error { return b.Disable(nil) }
	for i, c := range []struct {
		do       func() error
		err      error
		revision uint64
	}{
		{disable, nil, 1},
		{enable, ErrRootUserMissing, 1},
		{user(""), ErrUserEmpty, 1},
		{user(strings.Repeat("x", maxName+1)), ErrNameTooLong, 1},
		{user(strings.Repeat("x", maxName)), nil, 2},
		{remove(strings.Repeat("x", maxName)), nil, 3},
		{user(Root), nil, 4},
		{user(Root), ErrUserExists, 4},
		{enable, ErrRootRoleMissing, 4},
		{grant(Root, Root), nil, 5}, // though there is no such role
		{grant(Root, Root), nil, 5},
		{enable, nil, 5},
		{enable, nil, 5},
		{remove(Root), ErrInvalidManagement, 5},
		{revoke(Root, Root), ErrInvalidManagement, 5},
		{drop(Root), ErrInvalidManagement, 5},
		{role(""), ErrRoleEmpty, 5},
		{role("r"), nil, 6},
		{role("r"), ErrRoleExists, 6},
		{grant("nobody", "r"), ErrUserNotFound, 6},
		{grant(Root, "none"), ErrRoleNotFound, 6},
		{user("u"), nil, 7},
		{revoke("u", "r"), ErrRoleNotGranted, 7},
		{revoke("nobody", "r"), ErrUserNotFound, 7},
		{grant("u", "r"), nil, 8},
		{permit("r", nil), ErrPermissionNotGiven, 8},
		{permit("r", perm(read, "", "")), ErrInvalidManagement, 8},
		{permit("r", perm(read, "b", "a")), ErrInvalidManagement, 8},
		{permit("r", perm(read, "b", "b")), ErrInvalidManagement, 8},
		{permit("none", perm(read, "b", "c")), ErrRoleNotFound, 8},
		{permit("r", perm(read, "b", "c")), nil, 9},
		{permit("r", perm(both, "b", "c")), nil, 10},
		{permit("r", perm(write, "b", openEnd)), nil, 11},
		{forbid("r", "b", ""), ErrPermissionNotGranted, 11},
		{forbid("none", "b", "c"), ErrRoleNotFound, 11},
		{forbid("r", "b", "c"), nil, 12},
		{drop("none"), ErrRoleNotFound, 12},
		{drop("r"), nil, 13},
		{remove("nobody"), ErrUserNotFound, 13},
		{disable, nil, 14},
		{disable, nil, 14},
		{revoke(Root, Root), nil, 15},
		{remove(Root), nil, 16},
	} {
		err := c.do()
		if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) || b.Current().Revision() != c.revision {
			t.Fatalf("step %d: %v at revision %d, want %v at %d", i, err, b.Current().Revision(), c.err, c.revision)
		}
		if i%3 == 0 {
			b.commit()
		}
		if got, want := told(t, b.load().View()), told(t, b.Current()); i%3 == 0 && got != want {
			t.Fatalf("step %d: the file holds\n%s\ninstead of\n%s", i, got, want)
		}
	}
	if roles := b.Current().User("u").Roles(); len(roles) != 0 {
		t.Errorf("a deleted role is still granted: %v", roles)
	}
}

// Of a user only bcrypt's hash is kept; one without a password gets none.
func TestStore_passwords(t *testing.T) {
	b := newBed(t)
	must(t, b.UserAdd(&pb.AuthUserAddRequest{Name: "cert", Options: &authpb.UserAddOptions{NoPassword: true}}))
	must(t, b.UserChangePassword(&pb.AuthUserChangePasswordRequest{Name: "cert", HashedPassword: hashed("x")}))
	if u := b.Current().User("cert"); u.HasPassword() || u.PasswordHash() != nil {
		t.Errorf("%+v", u)
	}
	if err := b.UserAdd(&pb.AuthUserAddRequest{Name: "u", HashedPassword: "%"}); !errors.Is(err, ErrNoPassword) {
		t.Error(err)
	}
	b.user("u")
	if u := b.Current().User("u"); !u.HasPassword() || string(u.PasswordHash()) != "pw" {
		t.Errorf("%+v", u)
	}
	must(t, b.UserChangePassword(&pb.AuthUserChangePasswordRequest{Name: "u", HashedPassword: hashed("new")}))
	if got := string(b.Current().User("u").PasswordHash()); got != "new" {
		t.Error(got)
	}
}

// What etcd wrote is read: without fields of our own, and with whatever an older
// etcd let in.
func TestOpen_etcdsRecords(t *testing.T) {
	b := newBed(t)
	put := func(tx *bbolt.Tx, bucket, key string, m proto.Message) {
		value, err := proto.Marshal(m)
		must(t, err)
		must(t, tx.Bucket([]byte(bucket)).Put([]byte(key), value))
	}
	must(t, b.db.Update(func(tx *bbolt.Tx) error {
		must(t, newChanges().Write(tx))
		must(t, tx.Bucket(bucketAuth).Put(keyRevision, number(9)))
		must(t, tx.Bucket(bucketAuth).Put(keyEnabled, []byte{1}))
		put(tx, "authUsers", "u", &authpb.User{Name: []byte("u"), Password: []byte("h"), Roles: []string{"gone", "r"}})
		put(tx, "authRoles", "r", &authpb.Role{Name: []byte("r"), KeyPermission: []*authpb.Permission{
			perm(both, "a", "b"), perm(read, "z", "y"), perm(authpb.Permission_Type(7), "c", ""),
		}})
		return nil
	}))
	b.Store = b.load()
	u := b.View().User("u")
	if !b.View().Enabled() || b.View().Revision() != 9 || u.Identity().Revision != 9 || !u.HasPassword() {
		t.Fatalf("%+v %+v", b.View(), u)
	}
	for key, want := range map[string]error{"a": nil, "b": ErrPermissionDenied, "z": ErrPermissionDenied, "c": ErrPermissionDenied} {
		if err := b.may("u", pb.KV_Range_FullMethodName, &pb.RangeRequest{Key: []byte(key)}, nil); !errors.Is(err, want) {
			t.Errorf("%s: %v", key, err)
		}
	}
	must(t, b.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketUsers).Put([]byte("bad"), []byte{255}) }))
	err := b.db.View(func(tx *bbolt.Tx) error { _, err := Open(tx); return err })
	if !errors.Is(err, errCorrupt) {
		t.Errorf("a damaged record: %v", err)
	}
}

// Only who is concerned has to identify itself anew.
func TestIdentity_olderThanTheUsersRights(t *testing.T) {
	b := newBed(t)
	b.role("r", perm(both, "a", "b"))
	b.role("other")
	b.user("u", "r")
	b.user("v", "r")
	b.enable()
	put := &pb.PutRequest{Key: []byte("a")}
	ask := func(id *Identity) error {
		return Authorize(b.Current(), id, pb.KV_Put_FullMethodName, put, leased{})
	}
	u, v := b.Current().User("u").Identity(), b.Current().User("v").Identity()
	b.user("w", "other")
	must(t, b.RoleGrantPermission(&pb.AuthRoleGrantPermissionRequest{Name: "other", Perm: perm(both, "x", "")}))
	must(t, b.UserChangePassword(&pb.AuthUserChangePasswordRequest{Name: "v", HashedPassword: hashed("new")}))
	if err := ask(u); err != nil {
		t.Errorf("changes of others: %v", err)
	}
	if err := ask(v); !errors.Is(err, ErrOldRevision) {
		t.Errorf("after a change of the password: %v", err)
	}
	must(t, b.RoleGrantPermission(&pb.AuthRoleGrantPermissionRequest{Name: "r", Perm: perm(both, "x", "")}))
	if err := ask(u); !errors.Is(err, ErrOldRevision) {
		t.Errorf("after a change of a role: %v", err)
	}
	u = b.Current().User("u").Identity()
	must(t, b.Disable(nil))
	must(t, b.Enable(nil))
	if err := ask(u); !errors.Is(err, ErrOldRevision) {
		t.Errorf("after authentication was off: %v", err)
	}
	if err := ask(b.Current().User("u").Identity()); err != nil {
		t.Error(err)
	}
	u = b.Current().User("u").Identity()
	must(t, b.UserDelete(&pb.AuthUserDeleteRequest{Name: "u"}))
	if err := ask(u); !errors.Is(err, ErrPermissionDenied) {
		t.Errorf("a deleted user: %v", err)
	}
	b.user("u", "r")
	if err := ask(u); !errors.Is(err, ErrOldRevision) {
		t.Errorf("a user made anew: %v", err)
	}
}
