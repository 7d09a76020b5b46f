package auth

import (
	"maps"
	"slices"

	"go.etcd.io/etcd/api/v3/authpb"
)

// A View is the state after some batch of changes. It never changes.
type View struct {
	enabled  bool
	revision uint64
	floor    uint64 // revision of the last disabling: no identity is older
	swept    int64  // when expired tokens were last dropped, in Unix milliseconds
	users    map[string]*User
	roles    map[string]*Role
	tokens   *tokenTable
}

// User is one user as of a View; it never changes.
type User struct {
	name       string
	password   []byte // bcrypt's hash
	options    *authpb.UserAddOptions
	roles      []string // sorted
	credential uint64   // revision of the last change of the password, or of the creation
	changed    uint64   // revision of the last change of that or of the roles

	// Derived.
	root     bool
	rights   grant
	identity Identity
	holder   Identity
}

// Role is one role as of a View; it never changes.
type Role struct {
	name    string
	perms   []*authpb.Permission // sorted by key
	changed uint64               // revision of the last change of what it gives

	rights grant // derived
}

// Enabled reports whether requests need an identity.
func (v *View) Enabled() bool { return v.enabled }

// Revision counts the changes of users and roles, from 1 on, as etcd does.
func (v *View) Revision() uint64 { return v.revision }

// User returns the user of a name, nil if there is none.
func (v *View) User(name string) *User { return v.users[name] }

// UserOf is User for a name that is not a string.
func (v *View) UserOf(name []byte) *User { return v.users[string(name)] }

// Role returns the role of a name, nil if there is none.
func (v *View) Role(name string) *Role { return v.roles[name] }

// Users returns the names of all users, sorted.
func (v *View) Users() []string { return slices.Sorted(maps.Keys(v.users)) }

// Roles returns the names of all roles, sorted.
func (v *View) Roles() []string { return slices.Sorted(maps.Keys(v.roles)) }

// Name is the user's name.
func (u *User) Name() string { return u.name }

// Roles are the names of the user's roles, sorted; not to be changed.
func (u *User) Roles() []string { return u.roles }

// PasswordHash is bcrypt's hash of the password, not to be changed.
func (u *User) PasswordHash() []byte { return u.password }

// HasPassword reports whether the user can log in with one.
func (u *User) HasPassword() bool { return !u.options.GetNoPassword() }

// Credential is the auth revision at which the user was made or got its
// password.
func (u *User) Credential() uint64 { return u.credential }

// Identity is what a user of this View asks with who has a token. It is shared.
func (u *User) Identity() *Identity { return &u.identity }

// Holder is what a user of this View asks with who has a certificate of that name.
// It is shared.
func (u *User) Holder() *Identity { return &u.holder }

// rootPermissions is what the role root gives, whatever is stored of it.
var rootPermissions = []*authpb.Permission{{PermType: authpb.Permission_READWRITE, Key: []byte{}, RangeEnd: []byte(openEnd)}}

// Permissions are the role's; not to be changed.
func (r *Role) Permissions() []*authpb.Permission {
	if r.name == Root {
		return rootPermissions
	}
	return r.perms
}

// derive completes a user from its roles. An identity proven before its revision
// is of no use any more.
func (v *View) derive(u *User) {
	u.identity = Identity{User: u.name, Revision: max(u.changed, v.floor)}
	u.holder = Identity{User: u.name, Revision: Certified}
	u.root = slices.Contains(u.roles, Root)
	var grants []grant
	for _, name := range u.roles {
		if r := v.roles[name]; r != nil {
			grants = append(grants, r.rights)
			u.identity.Revision = max(u.identity.Revision, r.changed)
		}
	}
	u.rights = join(grants)
}
