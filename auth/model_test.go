package auth

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// naive is users, roles and permissions as lists, and a check that looks at
// every permission for every boundary.
type naive struct {
	roles map[string][]*authpb.Permission
	users map[string][]string
}

func (n *naive) permits(user string, want authpb.Permission_Type, key, end string) bool {
	if slices.Contains(n.users[user], Root) {
		return true
	}
	points := []string{key} // first keys of pieces that are in all or none of each permission
	open := end == openEnd
	var perms []*authpb.Permission
	for _, role := range n.users[user] {
		for _, p := range n.roles[role] {
			if p.PermType != want && p.PermType != both {
				continue
			}
			perms = append(perms, p)
			edges := []string{string(p.Key), string(p.RangeEnd)}
			if len(p.RangeEnd) == 0 {
				edges[1] = string(p.Key) + "\x00"
			}
			for _, e := range edges {
				if end != "" && e > key && (open || e < end) {
					points = append(points, e)
				}
			}
		}
	}
	for _, at := range points {
		if !slices.ContainsFunc(perms, func(p *authpb.Permission) bool { return holds(p, at) }) {
			return false
		}
	}
	// Beyond all boundaries only what is open itself is still there.
	return !open || slices.ContainsFunc(perms, func(p *authpb.Permission) bool { return string(p.RangeEnd) == openEnd })
}

func holds(p *authpb.Permission, key string) bool {
	switch string(p.RangeEnd) {
	case "":
		return key == string(p.Key)
	case openEnd:
		return key >= string(p.Key)
	}
	return key >= string(p.Key) && key < string(p.RangeEnd)
}

var alphabet = []string{"a", "b", "c", "\x00", "\xff"}

func randomKey(rng *rand.Rand) string {
	key := alphabet[rng.IntN(len(alphabet))]
	for rng.IntN(2) == 0 && len(key) < 4 {
		key += alphabet[rng.IntN(len(alphabet))]
	}
	return key
}

func randomRange(rng *rand.Rand) (key, end string) {
	key = randomKey(rng)
	switch rng.IntN(6) {
	case 0, 1:
		return key, ""
	case 2:
		return key, openEnd
	}
	return key, randomKey(rng)
}

func pick(rng *rand.Rand, what string, n int) string { return fmt.Sprintf("%s%d", what, rng.IntN(n)) }

// change makes one random change of both, which have to agree whether it can be.
func (n *naive) change(t *testing.T, rng *rand.Rand, s *Store) {
	user, role := pick(rng, "u", 6), pick(rng, "r", 5)
	_, isRole := n.roles[role]
	roles, isUser := n.users[user]
	key, end := randomRange(rng)
	var err error
	var allowed bool
	switch rng.IntN(20) {
	case 0:
		err, allowed = s.UserAdd(&pb.AuthUserAddRequest{Name: user}), !isUser
		if allowed {
			n.users[user] = nil
		}
	case 1:
		if allowed = isUser; rng.IntN(3) == 0 {
			err = s.UserDelete(&pb.AuthUserDeleteRequest{Name: user})
			delete(n.users, user)
		} else {
			err = s.UserChangePassword(&pb.AuthUserChangePasswordRequest{Name: user})
		}
	case 2, 3:
		err, allowed = s.RoleAdd(&pb.AuthRoleAddRequest{Name: role}), !isRole
		if allowed {
			n.roles[role] = nil
		}
	case 4:
		err, allowed = s.RoleDelete(&pb.AuthRoleDeleteRequest{Role: role}), isRole
		delete(n.roles, role)
		for u, list := range n.users {
			n.users[u] = slices.DeleteFunc(list, func(r string) bool { return r == role })
		}
	case 5, 6, 7, 8:
		if rng.IntN(60) == 0 {
			role, isRole = Root, true
		}
		err, allowed = s.UserGrantRole(&pb.AuthUserGrantRoleRequest{User: user, Role: role}), isUser && isRole
		if allowed && !slices.Contains(roles, role) {
			n.users[user] = append(roles, role)
		}
	case 9:
		err, allowed = s.UserRevokeRole(&pb.AuthUserRevokeRoleRequest{Name: user, Role: role}), slices.Contains(roles, role)
		if allowed {
			n.users[user] = slices.DeleteFunc(roles, func(r string) bool { return r == role })
		}
	case 10, 11:
		if perms := n.roles[role]; len(perms) > 0 && rng.IntN(4) > 0 {
			p := perms[rng.IntN(len(perms))]
			key, end = string(p.Key), string(p.RangeEnd)
		}
		before := len(n.roles[role])
		err = s.RoleRevokePermission(&pb.AuthRoleRevokePermissionRequest{Role: role, Key: []byte(key), RangeEnd: []byte(end)})
		if isRole {
			n.roles[role] = slices.DeleteFunc(n.roles[role], func(p *authpb.Permission) bool { return string(p.Key) == key && string(p.RangeEnd) == end })
		}
		allowed = len(n.roles[role]) < before
	default:
		p := perm(authpb.Permission_Type(rng.IntN(3)), key, end)
		err = s.RoleGrantPermission(&pb.AuthRoleGrantPermissionRequest{Name: role, Perm: p})
		if allowed = isRole && (end == "" || end == openEnd || key < end); allowed {
			n.roles[role] = append(slices.DeleteFunc(n.roles[role], func(o *authpb.Permission) bool { return string(o.Key) == key && string(o.RangeEnd) == end }), p)
		}
	}
	if allowed != (err == nil) {
		t.Fatalf("user %s with %v, role %s %v, range [%q, %q): %v, should be possible: %t", user, roles, role, n.roles[role], key, end, err, allowed)
	}
}

// decide compares one random request.
func (n *naive) decide(t *testing.T, rng *rand.Rand, v *View) bool {
	user := pick(rng, "u", 6)
	key, end := randomRange(rng)
	prev := rng.IntN(4) == 0
	var req any
	var method string
	var want bool
	switch rng.IntN(4) {
	case 0:
		method, req = pb.KV_Range_FullMethodName, &pb.RangeRequest{Key: []byte(key), RangeEnd: []byte(end)}
		want = n.permits(user, read, key, end)
	case 1:
		method, req = pb.KV_Put_FullMethodName, &pb.PutRequest{Key: []byte(key), PrevKv: prev}
		want = n.permits(user, write, key, "") && (!prev || n.permits(user, read, key, ""))
	case 2:
		method, req = pb.KV_DeleteRange_FullMethodName, &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end), PrevKv: prev}
		want = n.permits(user, write, key, end) && (!prev || n.permits(user, read, key, end))
	default:
		method, req = pb.Watch_Watch_FullMethodName, &pb.WatchCreateRequest{Key: []byte(key), RangeEnd: []byte(end)}
		want = n.permits(user, read, key, end)
	}
	_, exists := n.users[user]
	id := &Identity{User: user, Revision: v.Revision()}
	err := Authorize(v, id, method, req, leased{})
	if (err == nil) != (want && exists) || err != nil && !errors.Is(err, ErrPermissionDenied) {
		t.Fatalf("%s of %s with roles %v on [%q, %q): %v, naively %t\nroles: %v", method, user, n.users[user], key, end, err, want, n.roles)
	}
	return err == nil
}

// told is all that a View holds, as text.
func told(t *testing.T, v *View) string {
	t.Helper()
	text := fmt.Sprintln(v.enabled, v.revision, v.floor, v.swept, v.Tokens())
	for _, name := range v.Users() {
		u := v.users[name]
		enc, err := u.encode()
		must(t, err)
		text += fmt.Sprintf("user %q %q %v %v %+v\n", name, enc, u.root, u.identity, u.rights)
	}
	for _, name := range v.Roles() {
		enc, err := v.roles[name].encode()
		must(t, err)
		text += fmt.Sprintf("role %q %q %+v\n", name, enc, v.roles[name].rights)
	}
	return text
}

// TestAuthorize_model compares a million decisions with a naive checker's, also
// after loading the state from its file.
func TestAuthorize_model(t *testing.T) {
	decisions := 1_000_000
	if testing.Short() {
		decisions /= 10
	}
	rng := rand.New(rand.NewPCG(7, 7))
	allowed := 0
	const rounds = 50
	for range rounds {
		b := newBed(t)
		n := &naive{roles: make(map[string][]*authpb.Permission), users: make(map[string][]string)}
		b.enable()
		n.users[Root] = []string{Root}
		for step := range 100 {
			for range 1 + rng.IntN(3) {
				n.change(t, rng, b.Store)
			}
			if rng.IntN(3) == 0 {
				b.commit()
			}
			if step%25 == 24 {
				b.commit()
				loaded := b.load()
				if got, want := told(t, loaded.view), told(t, b.view); got != want {
					t.Fatalf("the file holds\n%s\ninstead of\n%s", got, want)
				}
				b.Store = loaded
			}
			for range decisions / rounds / 100 {
				if n.decide(t, rng, b.Current()) {
					allowed++
				}
			}
		}
	}
	if share := float64(allowed) / float64(decisions); share < 0.05 || share > 0.95 {
		t.Errorf("%.2f of the decisions were yes: the model asks for the wrong things", share)
	}
}

// A View that was handed out stays as it is, whatever is done afterwards.
func TestView_staysAsItIs(t *testing.T) {
	b := newBed(t)
	b.role("r", perm(both, "a", "b"))
	b.user("alice", "r")
	b.enable()
	must(t, b.IssueToken(TokenHash{1}, Token{User: "alice", Deadline: 5}, b.Current().User("alice").Credential(), 1))
	b.commit()
	v := b.View()
	must(t, b.RoleGrantPermission(&pb.AuthRoleGrantPermissionRequest{Name: "r", Perm: perm(both, "c", "d")}))
	must(t, b.RoleRevokePermission(&pb.AuthRoleRevokePermissionRequest{Role: "r", Key: []byte("a"), RangeEnd: []byte("b")}))
	must(t, b.UserDelete(&pb.AuthUserDeleteRequest{Name: "alice"}))
	must(t, b.Disable(nil))
	b.commit()
	if _, found := v.Token(TokenHash{1}); !v.Enabled() || !found || v.User("alice") == nil || len(v.Role("r").Permissions()) != 1 {
		t.Errorf("the view changed: %+v", v)
	}
	id := v.User("alice").Identity()
	if err := Authorize(v, id, pb.KV_Range_FullMethodName, &pb.RangeRequest{Key: []byte("aa")}, leased{}); err != nil {
		t.Error(err)
	}
	if err := Authorize(v, id, pb.KV_Range_FullMethodName, &pb.RangeRequest{Key: []byte("c")}, leased{}); !errors.Is(err, ErrPermissionDenied) {
		t.Error(err)
	}
}
