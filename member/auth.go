package member

import (
	"cmp"
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/auth"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// AuthView is what this member knows of users and rights. It does not block.
func (m *Member) AuthView() *auth.View { return m.machine.View().Auth }

// Authorize decides whether who asks in ctx may make a request, or send a message
// of a stream. A yes is of what this member knows; a no is given only after it was
// confirmed with the others, where they can be reached, because this member may be
// late. Errors: those of auth.Authorize, ErrNoLeader for a watch.
func (m *Member) Authorize(ctx context.Context, method string, req any) error {
	if method == pb.Watch_Watch_FullMethodName {
		if err := m.inTouch(ctx); err != nil {
			return err
		}
	}
	err := allowed(ctx, m.View(), method, req)
	if err == nil {
		return nil
	}
	ctx, cancel := m.bounded(ctx)
	defer cancel()
	if m.linearize(ctx) != nil {
		return err
	}
	return allowed(ctx, m.View(), method, req)
}

// Confirm decides like Authorize, on a state that has everything acknowledged before
// the call, also where the answer is yes: for what the others agree to without knowing
// who asked. Errors: those of auth.Authorize and of a read.
func (m *Member) Confirm(ctx context.Context, method string, req any) error {
	ctx, cancel := m.bounded(ctx)
	defer cancel()
	if err := m.linearize(ctx); err != nil {
		return err
	}
	return allowed(ctx, m.View(), method, req)
}

// touchTimeouts is for how many election timeouts a member without a leader answers
// from what it knows while authentication is on.
const touchTimeouts = 10

// inTouch refuses what a member would answer from its own state when it has not
// heard of a leader for long and authentication is on: the right to it may have been
// taken from the caller meanwhile. Error: ErrNoLeader.
func (m *Member) inTouch(ctx context.Context) error {
	if !m.View().Auth.Enabled() || auth.IsMember(ctx) {
		return nil
	}
	if m.node.Silence() > touchTimeouts*cmp.Or(m.cfg.ElectionTimeout, time.Second) {
		return ErrNoLeader
	}
	return nil
}

// allowed decides on one state.
func allowed(ctx context.Context, v *fsm.View, method string, req any) error {
	if !v.Auth.Enabled() || auth.IsMember(ctx) {
		return nil
	}
	return auth.Authorize(v.Auth, auth.FromContext(ctx), method, req, v.KV)
}

// origin is who asks in ctx, for the log.
func (m *Member) origin(ctx context.Context) fsm.Origin {
	if !m.View().Auth.Enabled() {
		return fsm.Origin{}
	}
	if auth.IsMember(ctx) {
		return fsm.ByMember
	}
	if id := auth.FromContext(ctx); id != nil {
		return fsm.Origin{User: id.User, AuthRevision: id.Revision}
	}
	return fsm.Origin{}
}

// methods are the gRPC methods of requests that go through the log, by which they
// are authorized.
var methods = map[fsm.Kind]string{
	fsm.KindPut: pb.KV_Put_FullMethodName, fsm.KindDeleteRange: pb.KV_DeleteRange_FullMethodName,
	fsm.KindTxn: pb.KV_Txn_FullMethodName, fsm.KindCompact: pb.KV_Compact_FullMethodName,
	fsm.KindLeaseGrant: pb.Lease_LeaseGrant_FullMethodName, fsm.KindLeaseRevoke: pb.Lease_LeaseRevoke_FullMethodName,
	fsm.KindAuthEnable: pb.Auth_AuthEnable_FullMethodName, fsm.KindAuthDisable: pb.Auth_AuthDisable_FullMethodName,
	fsm.KindUserAdd: pb.Auth_UserAdd_FullMethodName, fsm.KindUserDelete: pb.Auth_UserDelete_FullMethodName,
	fsm.KindUserChangePassword: pb.Auth_UserChangePassword_FullMethodName,
	fsm.KindUserGrantRole:      pb.Auth_UserGrantRole_FullMethodName, fsm.KindUserRevokeRole: pb.Auth_UserRevokeRole_FullMethodName,
	fsm.KindRoleAdd: pb.Auth_RoleAdd_FullMethodName, fsm.KindRoleDelete: pb.Auth_RoleDelete_FullMethodName,
	fsm.KindRoleGrantPermission:  pb.Auth_RoleGrantPermission_FullMethodName,
	fsm.KindRoleRevokePermission: pb.Auth_RoleRevokePermission_FullMethodName,
}

// admit refuses a request for the log that would be denied when it is applied, so
// that the log is not filled by who may do nothing. What it lets pass is decided
// there.
func (m *Member) admit(ctx context.Context, kind fsm.Kind, msg proto.Message) error {
	if !m.View().Auth.Enabled() {
		return nil
	}
	return m.Authorize(ctx, methods[kind], msg)
}

// changeAuth has a change of users, roles or permissions agreed, and returns the
// header of the answer.
func (m *Member) changeAuth(ctx context.Context, kind fsm.Kind, msg proto.Message) (*pb.ResponseHeader, error) {
	ctx, cancel := m.bounded(ctx)
	defer cancel()
	if m.cfg.MaxRequestBytes > 0 && proto.Size(msg) > m.cfg.MaxRequestBytes {
		return nil, ErrRequestTooLarge
	}
	if err := m.admit(ctx, kind, msg); err != nil {
		return nil, err
	}
	if _, err := m.proposer.do(ctx, m.origin(ctx), kind, msg); err != nil {
		return nil, err
	}
	return m.Header(m.View().KV.Rev()), nil
}

// AuthEnable has requests need an identity from now on.
func (m *Member) AuthEnable(ctx context.Context, r *pb.AuthEnableRequest) (*pb.AuthEnableResponse, error) {
	h, err := m.changeAuth(ctx, fsm.KindAuthEnable, r)
	if err != nil {
		return nil, err
	}
	m.cfg.Log.Info().Msg("authentication is enabled")
	return &pb.AuthEnableResponse{Header: h}, nil
}

// AuthDisable ends that.
func (m *Member) AuthDisable(ctx context.Context, r *pb.AuthDisableRequest) (*pb.AuthDisableResponse, error) {
	h, err := m.changeAuth(ctx, fsm.KindAuthDisable, r)
	if err != nil {
		return nil, err
	}
	m.cfg.Log.Warn().Msg("authentication is disabled")
	return &pb.AuthDisableResponse{Header: h}, nil
}

// hash turns a new password into what is replicated of it.
func (m *Member) hash(ctx context.Context, password string) (string, error) {
	if len(password) < m.cfg.MinPassword {
		return "", ErrPasswordTooShort
	}
	return m.passwords.Hash(ctx, password)
}

// UserAdd makes a user; the password becomes its hash before it leaves this
// member. Errors: ErrPasswordTooShort, ErrPasswordTooLong, ErrLoginsBusy, those of
// auth.Store.UserAdd.
func (m *Member) UserAdd(ctx context.Context, r *pb.AuthUserAddRequest) (*pb.AuthUserAddResponse, error) {
	if err := m.admit(ctx, fsm.KindUserAdd, r); err != nil {
		return nil, err
	}
	hash := ""
	if !r.GetOptions().GetNoPassword() {
		var err error
		if hash, err = m.hash(ctx, r.GetPassword()); err != nil {
			return nil, err
		}
	}
	r.Password, r.HashedPassword = "", hash
	h, err := m.changeAuth(ctx, fsm.KindUserAdd, r)
	if err != nil {
		return nil, err
	}
	return &pb.AuthUserAddResponse{Header: h}, nil
}

// UserChangePassword gives a user another password. Errors as of UserAdd.
func (m *Member) UserChangePassword(ctx context.Context, r *pb.AuthUserChangePasswordRequest) (*pb.AuthUserChangePasswordResponse, error) {
	if err := m.admit(ctx, fsm.KindUserChangePassword, r); err != nil {
		return nil, err
	}
	hash, err := m.hash(ctx, r.GetPassword())
	if err != nil {
		return nil, err
	}
	r.Password, r.HashedPassword = "", hash
	h, err := m.changeAuth(ctx, fsm.KindUserChangePassword, r)
	if err != nil {
		return nil, err
	}
	return &pb.AuthUserChangePasswordResponse{Header: h}, nil
}

// UserDelete removes a user.
func (m *Member) UserDelete(ctx context.Context, r *pb.AuthUserDeleteRequest) (*pb.AuthUserDeleteResponse, error) {
	h, err := m.changeAuth(ctx, fsm.KindUserDelete, r)
	if err != nil {
		return nil, err
	}
	return &pb.AuthUserDeleteResponse{Header: h}, nil
}

// UserGrantRole gives a user a role.
func (m *Member) UserGrantRole(ctx context.Context, r *pb.AuthUserGrantRoleRequest) (*pb.AuthUserGrantRoleResponse, error) {
	h, err := m.changeAuth(ctx, fsm.KindUserGrantRole, r)
	if err != nil {
		return nil, err
	}
	return &pb.AuthUserGrantRoleResponse{Header: h}, nil
}

// UserRevokeRole takes a role from a user.
func (m *Member) UserRevokeRole(ctx context.Context, r *pb.AuthUserRevokeRoleRequest) (*pb.AuthUserRevokeRoleResponse, error) {
	h, err := m.changeAuth(ctx, fsm.KindUserRevokeRole, r)
	if err != nil {
		return nil, err
	}
	return &pb.AuthUserRevokeRoleResponse{Header: h}, nil
}

// RoleAdd makes a role.
func (m *Member) RoleAdd(ctx context.Context, r *pb.AuthRoleAddRequest) (*pb.AuthRoleAddResponse, error) {
	h, err := m.changeAuth(ctx, fsm.KindRoleAdd, r)
	if err != nil {
		return nil, err
	}
	return &pb.AuthRoleAddResponse{Header: h}, nil
}

// RoleDelete removes a role.
func (m *Member) RoleDelete(ctx context.Context, r *pb.AuthRoleDeleteRequest) (*pb.AuthRoleDeleteResponse, error) {
	h, err := m.changeAuth(ctx, fsm.KindRoleDelete, r)
	if err != nil {
		return nil, err
	}
	return &pb.AuthRoleDeleteResponse{Header: h}, nil
}

// RoleGrantPermission gives a role a permission.
func (m *Member) RoleGrantPermission(ctx context.Context, r *pb.AuthRoleGrantPermissionRequest) (*pb.AuthRoleGrantPermissionResponse, error) {
	h, err := m.changeAuth(ctx, fsm.KindRoleGrantPermission, r)
	if err != nil {
		return nil, err
	}
	return &pb.AuthRoleGrantPermissionResponse{Header: h}, nil
}

// RoleRevokePermission takes a permission from a role.
func (m *Member) RoleRevokePermission(ctx context.Context, r *pb.AuthRoleRevokePermissionRequest) (*pb.AuthRoleRevokePermissionResponse, error) {
	h, err := m.changeAuth(ctx, fsm.KindRoleRevokePermission, r)
	if err != nil {
		return nil, err
	}
	return &pb.AuthRoleRevokePermissionResponse{Header: h}, nil
}
