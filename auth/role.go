package auth

import (
	"bytes"
	"slices"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// RoleAdd makes a role without permissions. Errors: ErrRoleEmpty, ErrNameTooLong,
// ErrRoleExists.
func (s *Store) RoleAdd(r *pb.AuthRoleAddRequest) error {
	if err := checkName(r.GetName(), ErrRoleEmpty); err != nil {
		return err
	}
	if s.Current().roles[r.GetName()] != nil {
		return ErrRoleExists
	}
	s.advance()
	s.putRole(&Role{name: r.GetName()}) // which changes nobody's rights
	return nil
}

// RoleDelete removes a role, and takes it from its users. Errors:
// ErrRoleNotFound, ErrInvalidManagement for root while authentication is on.
func (s *Store) RoleDelete(r *pb.AuthRoleDeleteRequest) error {
	v := s.Current()
	switch {
	case v.enabled && r.GetRole() == Root:
		return ErrInvalidManagement
	case v.roles[r.GetRole()] == nil:
		return ErrRoleNotFound
	}
	revision := s.advance().revision
	delete(s.ownRoles().roles, r.GetRole())
	s.changes.roles[r.GetRole()] = nil
	for _, name := range s.Current().Users() {
		if u := s.Current().users[name]; slices.Contains(u.roles, r.GetRole()) {
			s.takeRole(u, r.GetRole(), revision)
		}
	}
	return nil
}

// RoleGrantPermission gives a role a permission on a range, in the place of one on
// exactly that range. Errors: ErrPermissionNotGiven, ErrInvalidManagement for a
// range without keys, ErrRoleNotFound.
func (s *Store) RoleGrantPermission(r *pb.AuthRoleGrantPermissionRequest) error {
	p := r.GetPerm()
	if p == nil {
		return ErrPermissionNotGiven
	}
	if !validRange(p.GetKey(), p.GetRangeEnd()) {
		return ErrInvalidManagement
	}
	role := s.Current().roles[r.GetName()]
	if role == nil {
		return ErrRoleNotFound
	}
	next := *role
	next.perms = slices.Clone(role.perms)
	perm := &authpb.Permission{PermType: p.GetPermType(), Key: p.GetKey(), RangeEnd: p.GetRangeEnd()}
	if i := slices.IndexFunc(next.perms, func(o *authpb.Permission) bool { return sameRange(o, p.GetKey(), p.GetRangeEnd()) }); i >= 0 {
		next.perms[i] = perm
	} else {
		next.perms = append(next.perms, perm)
		slices.SortStableFunc(next.perms, func(a, b *authpb.Permission) int { return bytes.Compare(a.GetKey(), b.GetKey()) })
	}
	next.changed = s.advance().revision
	s.putRole(&next)
	return nil
}

// RoleRevokePermission takes the permission on exactly a range from a role.
// Errors: ErrRoleNotFound, ErrPermissionNotGranted.
func (s *Store) RoleRevokePermission(r *pb.AuthRoleRevokePermissionRequest) error {
	role := s.Current().roles[r.GetRole()]
	if role == nil {
		return ErrRoleNotFound
	}
	next := *role
	next.perms = slices.DeleteFunc(slices.Clone(role.perms), func(p *authpb.Permission) bool { return sameRange(p, r.GetKey(), r.GetRangeEnd()) })
	if len(next.perms) == len(role.perms) {
		return ErrPermissionNotGranted
	}
	next.changed = s.advance().revision
	s.putRole(&next)
	return nil
}

func sameRange(p *authpb.Permission, key, end []byte) bool {
	return bytes.Equal(p.GetKey(), key) && bytes.Equal(p.GetRangeEnd(), end)
}
