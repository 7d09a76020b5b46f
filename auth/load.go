package auth

import (
	"encoding/binary"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/authpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Open loads what is in the buckets; missing ones are empty. The Store keeps
// nothing of the transaction.
func Open(tx *bbolt.Tx) (*Store, error) {
	v := &View{revision: 1, users: make(map[string]*User), roles: make(map[string]*Role), tokens: &tokenTable{}, enabled: EnabledIn(tx)}
	if b := tx.Bucket(bucketAuth); b != nil {
		for _, n := range []struct {
			key  []byte
			keep func(uint64)
		}{
			{keyRevision, func(n uint64) { v.revision = max(n, 1) }},
			{keyFloor, func(n uint64) { v.floor = n }},
			{keySwept, func(n uint64) { v.swept = int64(n) }},
		} {
			if raw := b.Get(n.key); len(raw) == 8 {
				n.keep(binary.BigEndian.Uint64(raw))
			} else if raw != nil {
				return nil, fmt.Errorf("%w: %s of %d bytes", errCorrupt, n.key, len(raw))
			}
		}
	}
	s := &Store{view: v, tokensOf: make(map[string][]TokenHash)}
	for _, l := range []struct {
		bucket []byte
		load   func(k, value []byte) error
	}{{bucketRoles, v.loadRole}, {bucketUsers, v.loadUser}, {bucketTokens, s.loadToken}} {
		b := tx.Bucket(l.bucket)
		if b == nil {
			continue
		}
		err := b.ForEach(func(k, value []byte) error {
			if err := l.load(k, value); err != nil {
				return fmt.Errorf("%w: bucket %s, key %q: %w", errCorrupt, l.bucket, k, err)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (v *View) loadRole(k, value []byte) error {
	var m authpb.Role
	if err := proto.Unmarshal(value, &m); err != nil {
		return err
	}
	r := &Role{name: string(k), perms: m.GetKeyPermission(), rights: grantOf(m.GetKeyPermission())}
	own, err := ownFields(m.ProtoReflect().GetUnknown())
	r.changed = v.at(own, fieldChanged)
	v.roles[r.name] = r
	return err
}

func (v *View) loadUser(k, value []byte) error {
	var m authpb.User
	if err := proto.Unmarshal(value, &m); err != nil {
		return err
	}
	u := &User{name: string(k), password: m.GetPassword(), roles: m.GetRoles(), options: m.GetOptions()}
	slices.Sort(u.roles)
	own, err := ownFields(m.ProtoReflect().GetUnknown())
	u.changed, u.credential = v.at(own, fieldChanged), v.at(own, fieldCredential)
	v.derive(u)
	v.users[u.name] = u
	return err
}

// at is the revision that a field of our own tells. In a record of etcd's it may
// be any up to the newest.
func (v *View) at(own map[protowire.Number]uint64, field protowire.Number) uint64 {
	if n, ok := own[field]; ok {
		return n
	}
	return v.revision
}

func (s *Store) loadToken(k, value []byte) error {
	if len(k) != len(TokenHash{}) || len(value) < 8 {
		return fmt.Errorf("a record of %d bytes", len(value))
	}
	h := TokenHash(k)
	t := Token{User: string(value[8:]), Deadline: int64(binary.BigEndian.Uint64(value))}
	if s.view.tokens[h[0]] == nil {
		s.view.tokens[h[0]] = make(map[TokenHash]Token)
	}
	s.view.tokens[h[0]][h] = t
	s.tokensOf[t.User] = append(s.tokensOf[t.User], h)
	return nil
}

// ownFields reads numbers among the fields that etcd does not know.
func ownFields(unknown []byte) (map[protowire.Number]uint64, error) {
	own := make(map[protowire.Number]uint64)
	for b := unknown; len(b) > 0; {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		b = b[n:]
		if kind == protowire.VarintType {
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return nil, protowire.ParseError(n)
			}
			own[field] = v
		}
		if n = protowire.ConsumeFieldValue(field, kind, b); n < 0 {
			return nil, protowire.ParseError(n)
		}
		b = b[n:]
	}
	return own, nil
}
