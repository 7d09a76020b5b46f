package auth

import (
	"cmp"
	"slices"

	"go.etcd.io/etcd/api/v3/authpb"
)

// A Reason is a permission of a role that lets somebody do something.
type Reason struct {
	Role       string
	Permission *authpb.Permission
}

// Explain says why somebody with roles, and their permissions, may read or, with
// write, change all keys of a range: by as few permissions as there can be, in
// order of their keys. It returns nil if the roles do not allow it, exactly when
// Authorize would deny it.
func Explain(roles map[string][]*authpb.Permission, write bool, key, end []byte) []Reason {
	if _, ok := roles[Root]; ok {
		return []Reason{{Root, rootPermissions[0]}}
	}
	want := authpb.Permission_READ
	if write {
		want = authpb.Permission_WRITE
	}
	var all []Reason
	for role, perms := range roles {
		for _, p := range perms {
			if t := p.GetPermType(); t == want || t == authpb.Permission_READWRITE {
				all = append(all, Reason{role, p})
			}
		}
	}
	slices.SortFunc(all, func(a, b Reason) int { // the result does not depend on the map's order
		return cmp.Or(cmp.Compare(string(a.Permission.GetKey()), string(b.Permission.GetKey())), cmp.Compare(a.Role, b.Role))
	})
	return cover(all, spanOf(key, end))
}

// cover picks the fewest permissions that together have all of a span, and for an
// empty one its first key: each time the one that reaches the farthest.
func cover(all []Reason, s span) []Reason {
	var picked []Reason
	for at := s.lo; ; {
		best, reach := -1, ""
		for i, r := range all {
			p := spanOf(r.Permission.GetKey(), r.Permission.GetRangeEnd())
			if p.lo <= at && (p.hi == "" || p.hi > at) && (best < 0 || reach != "" && (p.hi == "" || p.hi > reach)) {
				best, reach = i, p.hi
			}
		}
		if best < 0 {
			return nil
		}
		picked = append(picked, all[best])
		if reach == "" || s.hi != "" && s.hi <= reach {
			return picked
		}
		at = reach
	}
}
