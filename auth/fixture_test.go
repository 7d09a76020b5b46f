package auth

import (
	"encoding/base64"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// bed is a Store on a file of its own.
type bed struct {
	*Store
	t  testing.TB
	db *bbolt.DB
}

func newBed(t testing.TB) *bed {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, &bbolt.Options{NoSync: true})
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	b := &bed{t: t, db: db}
	b.Store = b.load()
	return b
}

func (b *bed) load() (s *Store) {
	b.t.Helper()
	must(b.t, b.db.View(func(tx *bbolt.Tx) (err error) {
		s, err = Open(tx)
		return err
	}))
	return s
}

// commit freezes a batch and brings it into the file.
func (b *bed) commit() {
	b.t.Helper()
	if _, changes := b.Freeze(); changes != nil {
		must(b.t, b.db.Update(changes.Write))
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func hashed(password string) string { return base64.StdEncoding.EncodeToString([]byte(password)) }

func (b *bed) user(name string, roles ...string) {
	b.t.Helper()
	must(b.t, b.UserAdd(&pb.AuthUserAddRequest{Name: name, HashedPassword: hashed("pw")}))
	for _, r := range roles {
		must(b.t, b.UserGrantRole(&pb.AuthUserGrantRoleRequest{User: name, Role: r}))
	}
}

func (b *bed) role(name string, perms ...*authpb.Permission) {
	b.t.Helper()
	must(b.t, b.RoleAdd(&pb.AuthRoleAddRequest{Name: name}))
	for _, p := range perms {
		must(b.t, b.RoleGrantPermission(&pb.AuthRoleGrantPermissionRequest{Name: name, Perm: p}))
	}
}

func perm(kind authpb.Permission_Type, key, end string) *authpb.Permission {
	return &authpb.Permission{PermType: kind, Key: []byte(key), RangeEnd: []byte(end)}
}

const (
	read  = authpb.Permission_READ
	write = authpb.Permission_WRITE
	both  = authpb.Permission_READWRITE
)

// enable makes root and has requests need an identity.
func (b *bed) enable() {
	b.t.Helper()
	b.user(Root, Root)
	must(b.t, b.Enable(nil))
}

// leased are the keys of leases, for Authorize.
type leased map[int64][]string

func (l leased) EachLeaseKey(id int64, fn func([]byte) bool) {
	for _, k := range l[id] {
		if !fn([]byte(k)) {
			return
		}
	}
}

func (l leased) EachAttachedKey(fn func([]byte) bool) {
	for id := range l {
		l.EachLeaseKey(id, fn)
	}
}

// may asks as a user of the current state.
func (b *bed) may(name, method string, req any, leases leased) error {
	b.t.Helper()
	return Authorize(b.Current(), b.Current().User(name).Identity(), method, req, leases)
}
