package auth

import (
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/authpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// The buckets. All but the last are etcd's, which leaves alone what it does not
// know in the first.
var (
	bucketAuth   = []byte("auth")
	bucketUsers  = []byte("authUsers")
	bucketRoles  = []byte("authRoles")
	bucketTokens = []byte("conclave_auth_tokens") // hash: deadline, 8 bytes big-endian, and user

	keyEnabled  = []byte("authEnabled")
	keyRevision = []byte("authRevision")
	keyFloor    = []byte("conclaveFloor")
	keySwept    = []byte("conclaveSwept")
)

// Fields of our own in authpb.User and authpb.Role, always written: where they
// are missing etcd wrote the record.
const (
	fieldChanged    protowire.Number = 7000
	fieldCredential protowire.Number = 7001
)

// errCorrupt: a record cannot be what a member wrote.
var errCorrupt = errors.New("auth: damaged record")

// ForgetTokens removes the tokens from a state that becomes another cluster's:
// users log in there anew.
func ForgetTokens(tx *bbolt.Tx) error {
	if err := tx.DeleteBucket(bucketTokens); err != nil && tx.Bucket(bucketTokens) != nil {
		return err
	}
	return nil
}

// EnabledIn reports whether a state file says that requests need an identity.
func EnabledIn(tx *bbolt.Tx) bool {
	b := tx.Bucket(bucketAuth)
	return b != nil && string(b.Get(keyEnabled)) == "\x01"
}

// Changes bring the state file from one View to the next.
type Changes struct {
	view     *View
	settings bool // revision, floor, or whether it is enabled
	swept    bool
	users    map[string]*User // nil: removed
	roles    map[string]*Role
	tokens   map[TokenHash]*Token
	size     int
}

// Bytes is about what the changes take of memory.
func (c *Changes) Bytes() int { return c.size }

func newChanges() *Changes {
	return &Changes{users: make(map[string]*User), roles: make(map[string]*Role), tokens: make(map[TokenHash]*Token)}
}

// Write carries the changes into the file, and makes the buckets that are missing.
func (c *Changes) Write(tx *bbolt.Tx) error {
	for _, name := range [][]byte{bucketAuth, bucketUsers, bucketRoles, bucketTokens} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return fmt.Errorf("create bucket %s: %w", name, err)
		}
	}
	var errs []error
	b := tx.Bucket(bucketAuth)
	if c.settings {
		enabled := []byte{0}
		if c.view.enabled {
			enabled[0] = 1
		}
		errs = append(errs, b.Put(keyEnabled, enabled), b.Put(keyRevision, number(c.view.revision)), b.Put(keyFloor, number(c.view.floor)))
	}
	if c.swept {
		errs = append(errs, b.Put(keySwept, number(uint64(c.view.swept))))
	}
	for name, u := range c.users {
		errs = append(errs, writeRecord(tx.Bucket(bucketUsers), []byte(name), u != nil, u.encode))
	}
	for name, r := range c.roles {
		errs = append(errs, writeRecord(tx.Bucket(bucketRoles), []byte(name), r != nil, r.encode))
	}
	for h, t := range c.tokens {
		errs = append(errs, writeRecord(tx.Bucket(bucketTokens), h[:], t != nil, t.encode))
	}
	return errors.Join(errs...)
}

func writeRecord(b *bbolt.Bucket, key []byte, there bool, encode func() ([]byte, error)) error {
	if !there {
		return b.Delete(key)
	}
	value, err := encode()
	if err != nil {
		return err
	}
	return b.Put(key, value)
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func (u *User) encode() ([]byte, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(&authpb.User{
		Name: []byte(u.name), Password: u.password, Roles: u.roles, Options: u.options,
	})
	b = protowire.AppendVarint(protowire.AppendTag(b, fieldChanged, protowire.VarintType), u.changed)
	return protowire.AppendVarint(protowire.AppendTag(b, fieldCredential, protowire.VarintType), u.credential), err
}

func (r *Role) encode() ([]byte, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(&authpb.Role{Name: []byte(r.name), KeyPermission: r.perms})
	return protowire.AppendVarint(protowire.AppendTag(b, fieldChanged, protowire.VarintType), r.changed), err
}

func (t *Token) encode() ([]byte, error) { return append(number(uint64(t.Deadline)), t.User...), nil }
