package api

import (
	"context"
	"net/netip"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/peer"

	"github.com/conclave-kv/conclave/auth"
)

// AuthBackend is the part of a Backend that knows users and decides what they may
// do. Its errors are those of package auth.
type AuthBackend interface {
	// AuthView is what this member knows of users and rights; it does not block,
	// and is called for each request.
	AuthView() *auth.View
	// Changed returns a channel that is closed when rights, among other things,
	// change; take it before looking.
	Changed() <-chan struct{}
	// Identify tells whom a token stands for, and may ask the other members.
	Identify(ctx context.Context, token string) (*auth.Identity, error)
	// Authorize decides about a request of whoever asks in ctx. All other methods of
	// a Backend decide by themselves where auth.OnState says so.
	Authorize(ctx context.Context, method string, req any) error
	// Confirm is Authorize on what is agreed by now, and asks the other members.
	Confirm(ctx context.Context, method string, req any) error

	// The rest is etcd's Auth service. Passwords are gone from requests afterwards.
	AuthEnable(context.Context, *pb.AuthEnableRequest) (*pb.AuthEnableResponse, error)
	AuthDisable(context.Context, *pb.AuthDisableRequest) (*pb.AuthDisableResponse, error)
	AuthStatus(context.Context, *pb.AuthStatusRequest) (*pb.AuthStatusResponse, error)
	// Authenticate finds where the request comes from in ctx: see auth.SourceOf.
	Authenticate(context.Context, *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error)
	UserAdd(context.Context, *pb.AuthUserAddRequest) (*pb.AuthUserAddResponse, error)
	UserGet(context.Context, *pb.AuthUserGetRequest) (*pb.AuthUserGetResponse, error)
	UserList(context.Context, *pb.AuthUserListRequest) (*pb.AuthUserListResponse, error)
	UserDelete(context.Context, *pb.AuthUserDeleteRequest) (*pb.AuthUserDeleteResponse, error)
	UserChangePassword(context.Context, *pb.AuthUserChangePasswordRequest) (*pb.AuthUserChangePasswordResponse, error)
	UserGrantRole(context.Context, *pb.AuthUserGrantRoleRequest) (*pb.AuthUserGrantRoleResponse, error)
	UserRevokeRole(context.Context, *pb.AuthUserRevokeRoleRequest) (*pb.AuthUserRevokeRoleResponse, error)
	RoleAdd(context.Context, *pb.AuthRoleAddRequest) (*pb.AuthRoleAddResponse, error)
	RoleGet(context.Context, *pb.AuthRoleGetRequest) (*pb.AuthRoleGetResponse, error)
	RoleList(context.Context, *pb.AuthRoleListRequest) (*pb.AuthRoleListResponse, error)
	RoleDelete(context.Context, *pb.AuthRoleDeleteRequest) (*pb.AuthRoleDeleteResponse, error)
	RoleGrantPermission(context.Context, *pb.AuthRoleGrantPermissionRequest) (*pb.AuthRoleGrantPermissionResponse, error)
	RoleRevokePermission(context.Context, *pb.AuthRoleRevokePermissionRequest) (*pb.AuthRoleRevokePermissionResponse, error)
}

// authService is etcdserverpb.Auth: requests have no shape to check that the Backend
// does not.
type authService struct {
	pb.UnsafeAuthServer
	AuthBackend
}

// Authenticate adds where the request comes from.
func (s authService) Authenticate(ctx context.Context, r *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	return s.AuthBackend.Authenticate(auth.WithSource(ctx, sourceOf(ctx)), r)
}

// wholeSubnet is what one customer of a provider has of IPv6, in bits.
const wholeSubnet = 64

// sourceOf is the address a call comes from: all of an IPv4 address, the network of
// an IPv6 one, "" of a local socket.
func sourceOf(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return ""
	}
	from, err := netip.ParseAddrPort(p.Addr.String())
	if err != nil {
		return ""
	}
	addr := from.Addr().Unmap().WithZone("")
	if addr.Is6() {
		return netip.PrefixFrom(addr, wholeSubnet).Masked().String()
	}
	return addr.String()
}
