package auth

import (
	"encoding/base64"
	"maps"
	"slices"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// maxName bounds names in bytes: they are keys in the state file.
const maxName = 32768

// recordBytes is about what a record, or a permission of one, takes of memory.
const recordBytes = 100

// Store is users, roles and tokens as the log makes them. It is used by one
// goroutine; readers use Views.
type Store struct {
	view     *View
	draft    *View // what the batch has made of view so far; nil: nothing
	owned    owned
	changes  *Changes
	tokensOf map[string][]TokenHash // by user, in no order
}

// owned tells which parts of the draft are its own and may be changed.
type owned struct {
	users, roles bool
	tokens       map[byte]bool // shards
}

// View returns the state of the last Freeze.
func (s *Store) View() *View { return s.view }

// Current returns the state with the changes since. It is good until the next
// change.
func (s *Store) Current() *View {
	if s.draft != nil {
		return s.draft
	}
	return s.view
}

// Freeze ends a batch: the returned View never changes again, and the Changes,
// nil if there are none, bring the state file from the View before to it.
func (s *Store) Freeze() (*View, *Changes) {
	if s.draft == nil {
		return s.view, nil
	}
	changes := s.changes
	changes.view = s.draft
	s.view, s.draft, s.changes, s.owned = s.draft, nil, nil, owned{}
	return s.view, changes
}

// begin returns the draft of this batch.
func (s *Store) begin() *View {
	if s.draft == nil {
		v := *s.view
		s.draft, s.changes = &v, newChanges()
	}
	return s.draft
}

// advance begins an effective change of users or roles.
func (s *Store) advance() *View {
	d := s.begin()
	d.revision++
	s.changes.settings = true
	return d
}

func (s *Store) putUser(u *User) {
	d := s.begin()
	if !s.owned.users {
		d.users, s.owned.users = maps.Clone(d.users), true
	}
	d.derive(u)
	d.users[u.name] = u
	s.changes.users[u.name] = u
	s.changes.size += len(u.name) + len(u.password) + recordBytes
}

func (s *Store) putRole(r *Role) {
	d := s.ownRoles()
	r.rights = grantOf(r.perms)
	d.roles[r.name] = r
	s.changes.roles[r.name] = r
	s.changes.size += recordBytes * (1 + len(r.perms))
	s.rederive(func(u *User) bool { return slices.Contains(u.roles, r.name) })
}

func (s *Store) ownRoles() *View {
	d := s.begin()
	if !s.owned.roles {
		d.roles, s.owned.roles = maps.Clone(d.roles), true
	}
	return d
}

// rederive makes anew what follows for some users from what changed. What is on
// disk of them stays.
func (s *Store) rederive(touched func(*User) bool) {
	d := s.begin()
	for name, u := range d.users {
		if !touched(u) {
			continue
		}
		if !s.owned.users {
			d.users, s.owned.users = maps.Clone(d.users), true
		}
		next := *u
		d.derive(&next)
		d.users[name] = &next
	}
}

// Enable has requests need an identity from now on. Errors: ErrRootUserMissing,
// ErrRootRoleMissing.
func (s *Store) Enable(*pb.AuthEnableRequest) error {
	v := s.Current()
	root := v.users[Root]
	switch {
	case v.enabled:
		return nil
	case root == nil:
		return ErrRootUserMissing
	case !root.root:
		return ErrRootRoleMissing
	}
	s.begin().enabled = true
	s.changes.settings = true
	return nil
}

// Disable ends that, and withdraws all tokens.
func (s *Store) Disable(*pb.AuthDisableRequest) error {
	if !s.Current().enabled {
		return nil
	}
	d := s.advance()
	d.enabled, d.floor = false, d.revision
	s.rederive(func(*User) bool { return true })
	s.dropTokens(func(Token) bool { return true })
	return nil
}

func checkName(name string, empty error) error {
	switch {
	case name == "":
		return empty
	case len(name) > maxName:
		return ErrNameTooLong
	}
	return nil
}

// UserAdd makes a user without roles, whose password is given as bcrypt's hash in
// base64. Errors: ErrUserEmpty, ErrNameTooLong, ErrUserExists, ErrNoPassword for a
// hash that is not in base64.
func (s *Store) UserAdd(r *pb.AuthUserAddRequest) error {
	if err := checkName(r.GetName(), ErrUserEmpty); err != nil {
		return err
	}
	if s.Current().users[r.GetName()] != nil {
		return ErrUserExists
	}
	options := r.GetOptions()
	if options == nil {
		options = &authpb.UserAddOptions{}
	}
	u := &User{name: r.GetName(), options: options}
	if !options.GetNoPassword() {
		hash, err := base64.StdEncoding.DecodeString(r.GetHashedPassword())
		if err != nil {
			return ErrNoPassword
		}
		u.password = hash
	}
	u.credential = s.advance().revision
	u.changed = u.credential
	s.putUser(u)
	return nil
}

// UserDelete removes a user, and its tokens. Errors: ErrUserNotFound,
// ErrInvalidManagement for root while authentication is on.
func (s *Store) UserDelete(r *pb.AuthUserDeleteRequest) error {
	v := s.Current()
	switch {
	case v.enabled && r.GetName() == Root:
		return ErrInvalidManagement
	case v.users[r.GetName()] == nil:
		return ErrUserNotFound
	}
	d := s.advance()
	if !s.owned.users {
		d.users, s.owned.users = maps.Clone(d.users), true
	}
	delete(d.users, r.GetName())
	s.changes.users[r.GetName()] = nil
	s.dropUser(r.GetName())
	return nil
}

// UserChangePassword replaces a password, and withdraws the user's tokens. One
// who has none stays without. Errors: ErrUserNotFound, ErrNoPassword.
func (s *Store) UserChangePassword(r *pb.AuthUserChangePasswordRequest) error {
	u := s.Current().users[r.GetName()]
	if u == nil {
		return ErrUserNotFound
	}
	next := *u
	next.password = nil
	if u.HasPassword() {
		hash, err := base64.StdEncoding.DecodeString(r.GetHashedPassword())
		if err != nil {
			return ErrNoPassword
		}
		next.password = hash
	}
	next.credential = s.advance().revision
	next.changed = next.credential
	s.putUser(&next)
	s.dropUser(next.name)
	return nil
}

// UserGrantRole gives a user a role; the role root need not exist. One that the
// user has changes nothing. Errors: ErrUserNotFound, ErrRoleNotFound.
func (s *Store) UserGrantRole(r *pb.AuthUserGrantRoleRequest) error {
	v := s.Current()
	u := v.users[r.GetUser()]
	switch {
	case u == nil:
		return ErrUserNotFound
	case r.GetRole() != Root && v.roles[r.GetRole()] == nil:
		return ErrRoleNotFound
	case slices.Contains(u.roles, r.GetRole()):
		return nil
	}
	next := *u
	next.roles = append(slices.Clone(u.roles), r.GetRole())
	slices.Sort(next.roles)
	next.changed = s.advance().revision
	s.putUser(&next)
	return nil
}

// UserRevokeRole takes a role from a user. Errors: ErrUserNotFound,
// ErrRoleNotGranted, ErrInvalidManagement for root of root while authentication
// is on.
func (s *Store) UserRevokeRole(r *pb.AuthUserRevokeRoleRequest) error {
	v := s.Current()
	u := v.users[r.GetName()]
	switch {
	case v.enabled && r.GetName() == Root && r.GetRole() == Root:
		return ErrInvalidManagement
	case u == nil:
		return ErrUserNotFound
	case !slices.Contains(u.roles, r.GetRole()):
		return ErrRoleNotGranted
	}
	s.takeRole(u, r.GetRole(), s.advance().revision)
	return nil
}

func (s *Store) takeRole(u *User, role string, revision uint64) {
	next := *u
	next.roles = slices.DeleteFunc(slices.Clone(u.roles), func(r string) bool { return r == role })
	next.changed = revision
	s.putUser(&next)
}
