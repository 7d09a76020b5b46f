package member

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/auth"
)

// readAuth returns a state that has everything acknowledged before the call, on
// which the request is allowed.
func (m *Member) readAuth(ctx context.Context, method string, req any) (*auth.View, *pb.ResponseHeader, error) {
	ctx, cancel := m.bounded(ctx)
	defer cancel()
	if err := m.linearize(ctx); err != nil {
		return nil, nil, err
	}
	v := m.View()
	if err := allowed(ctx, v, method, req); err != nil {
		return nil, nil, err
	}
	return v.Auth, m.Header(v.KV.Rev()), nil
}

// AuthStatus tells whether authentication is on; anybody may ask.
func (m *Member) AuthStatus(ctx context.Context, r *pb.AuthStatusRequest) (*pb.AuthStatusResponse, error) {
	v, h, err := m.readAuth(ctx, pb.Auth_AuthStatus_FullMethodName, r)
	if err != nil {
		return nil, err
	}
	return &pb.AuthStatusResponse{Header: h, Enabled: v.Enabled(), AuthRevision: v.Revision()}, nil
}

// UserGet tells a user's roles. Errors: auth.ErrUserNotFound, those of
// auth.Authorize.
func (m *Member) UserGet(ctx context.Context, r *pb.AuthUserGetRequest) (*pb.AuthUserGetResponse, error) {
	v, h, err := m.readAuth(ctx, pb.Auth_UserGet_FullMethodName, r)
	if err != nil {
		return nil, err
	}
	u := v.User(r.GetName())
	if u == nil {
		return nil, auth.ErrUserNotFound
	}
	return &pb.AuthUserGetResponse{Header: h, Roles: u.Roles()}, nil
}

// UserList lists all users.
func (m *Member) UserList(ctx context.Context, r *pb.AuthUserListRequest) (*pb.AuthUserListResponse, error) {
	v, h, err := m.readAuth(ctx, pb.Auth_UserList_FullMethodName, r)
	if err != nil {
		return nil, err
	}
	return &pb.AuthUserListResponse{Header: h, Users: v.Users()}, nil
}

// RoleGet tells a role's permissions. Errors: auth.ErrRoleNotFound, those of
// auth.Authorize.
func (m *Member) RoleGet(ctx context.Context, r *pb.AuthRoleGetRequest) (*pb.AuthRoleGetResponse, error) {
	v, h, err := m.readAuth(ctx, pb.Auth_RoleGet_FullMethodName, r)
	if err != nil {
		return nil, err
	}
	role := v.Role(r.GetRole())
	if role == nil {
		return nil, auth.ErrRoleNotFound
	}
	return &pb.AuthRoleGetResponse{Header: h, Perm: role.Permissions()}, nil
}

// RoleList lists all roles.
func (m *Member) RoleList(ctx context.Context, r *pb.AuthRoleListRequest) (*pb.AuthRoleListResponse, error) {
	v, h, err := m.readAuth(ctx, pb.Auth_RoleList_FullMethodName, r)
	if err != nil {
		return nil, err
	}
	return &pb.AuthRoleListResponse{Header: h, Roles: v.Roles()}, nil
}
