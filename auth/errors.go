package auth

import "errors"

// The answers of a Store and of Authorize; api maps each to etcd's published gRPC
// error. None of them changes anything.
var (
	// ErrUserEmpty: a user name is empty, or a request that needs a user has none.
	ErrUserEmpty = errors.New("user name is empty")
	// ErrRoleEmpty: a role name is empty.
	ErrRoleEmpty = errors.New("role name is empty")
	// ErrNameTooLong: a name has more than maxName bytes.
	ErrNameTooLong = errors.New("name is longer than 32768 bytes")
	// ErrUserExists: a user of that name is there already.
	ErrUserExists = errors.New("user name already exists")
	// ErrUserNotFound: there is no user of that name.
	ErrUserNotFound = errors.New("user name not found")
	// ErrRoleExists: a role of that name is there already.
	ErrRoleExists = errors.New("role name already exists")
	// ErrRoleNotFound: there is no role of that name.
	ErrRoleNotFound = errors.New("role name not found")
	// ErrRoleNotGranted: the user does not have the role.
	ErrRoleNotGranted = errors.New("role is not granted to the user")
	// ErrPermissionNotGiven: a grant names no permission.
	ErrPermissionNotGiven = errors.New("permission not given")
	// ErrPermissionNotGranted: the role has no permission on exactly that range.
	ErrPermissionNotGranted = errors.New("permission is not granted to the role")
	// ErrInvalidManagement: it would leave nobody to manage users, or a range is
	// none.
	ErrInvalidManagement = errors.New("invalid auth management")
	// ErrRootUserMissing: authentication cannot be enabled without the user root.
	ErrRootUserMissing = errors.New("root user does not exist")
	// ErrRootRoleMissing: nor while that user lacks the role root.
	ErrRootRoleMissing = errors.New("root user does not have root role")
	// ErrNotEnabled: nobody can log in while authentication is off.
	ErrNotEnabled = errors.New("authentication is not enabled")
	// ErrFailed: user or password is wrong; which of them is not told.
	ErrFailed = errors.New("authentication failed, invalid user ID or password")
	// ErrNoPassword: the user has none, and logs in with a certificate.
	ErrNoPassword = errors.New("auth: authentication failed, password was given for no password user")
	// ErrInvalidToken: a token is unknown, expired, or was withdrawn.
	ErrInvalidToken = errors.New("invalid auth token")
	// ErrOldRevision: rights or credentials of the caller changed since it was
	// identified; it should identify itself again.
	ErrOldRevision = errors.New("revision of auth store is old")
	// ErrPermissionDenied: the user may not do that.
	ErrPermissionDenied = errors.New("permission denied")
)
