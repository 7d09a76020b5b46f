package fsm

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/auth"
	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// authorize decides whether who asked may do what is about to be applied, on the
// state that it is applied to: so all members decide alike, and a right that was
// taken away before is gone. What is denied changes nothing.
func (m *Machine) authorize(method string, req *request, msg any) error {
	v := m.auth.Current()
	if !v.Enabled() || len(req.user) == 0 && req.authRevision == ByMember.AuthRevision {
		return nil
	}
	if len(req.user) == 0 {
		return auth.ErrUserEmpty
	}
	id := auth.Identity{Revision: req.authRevision}
	if u := v.UserOf(req.user); u != nil {
		id.User = u.Name()
	} else {
		id.User = string(req.user)
	}
	return auth.Authorize(v, &id, method, msg, m.leases())
}

// leases are those of the state as it is now.
func (m *Machine) leases() auth.Leases {
	if m.batch != nil {
		return m.batch
	}
	return m.file.Load().keys.View()
}

// authOps are the changes of users, roles and permissions. Their commands are the
// requests, with the hash in the place of the password.
var authOps = map[Kind]func(*Machine, uint64, *request) Result{
	KindAuthEnable:           authOp[pb.AuthEnableRequest, pb.AuthEnableResponse](pb.Auth_AuthEnable_FullMethodName, (*auth.Store).Enable),
	KindAuthDisable:          authOp[pb.AuthDisableRequest, pb.AuthDisableResponse](pb.Auth_AuthDisable_FullMethodName, (*auth.Store).Disable),
	KindUserAdd:              authOp[pb.AuthUserAddRequest, pb.AuthUserAddResponse](pb.Auth_UserAdd_FullMethodName, (*auth.Store).UserAdd),
	KindUserDelete:           authOp[pb.AuthUserDeleteRequest, pb.AuthUserDeleteResponse](pb.Auth_UserDelete_FullMethodName, (*auth.Store).UserDelete),
	KindUserChangePassword:   authOp[pb.AuthUserChangePasswordRequest, pb.AuthUserChangePasswordResponse](pb.Auth_UserChangePassword_FullMethodName, (*auth.Store).UserChangePassword),
	KindUserGrantRole:        authOp[pb.AuthUserGrantRoleRequest, pb.AuthUserGrantRoleResponse](pb.Auth_UserGrantRole_FullMethodName, (*auth.Store).UserGrantRole),
	KindUserRevokeRole:       authOp[pb.AuthUserRevokeRoleRequest, pb.AuthUserRevokeRoleResponse](pb.Auth_UserRevokeRole_FullMethodName, (*auth.Store).UserRevokeRole),
	KindRoleAdd:              authOp[pb.AuthRoleAddRequest, pb.AuthRoleAddResponse](pb.Auth_RoleAdd_FullMethodName, (*auth.Store).RoleAdd),
	KindRoleDelete:           authOp[pb.AuthRoleDeleteRequest, pb.AuthRoleDeleteResponse](pb.Auth_RoleDelete_FullMethodName, (*auth.Store).RoleDelete),
	KindRoleGrantPermission:  authOp[pb.AuthRoleGrantPermissionRequest, pb.AuthRoleGrantPermissionResponse](pb.Auth_RoleGrantPermission_FullMethodName, (*auth.Store).RoleGrantPermission),
	KindRoleRevokePermission: authOp[pb.AuthRoleRevokePermissionRequest, pb.AuthRoleRevokePermissionResponse](pb.Auth_RoleRevokePermission_FullMethodName, (*auth.Store).RoleRevokePermission),
}

// authOp makes the application of one kind of change.
func authOp[Req, Resp any, PReq interface {
	*Req
	proto.Message
}](method string, change func(*auth.Store, PReq) error) func(*Machine, uint64, *request) Result {
	return func(m *Machine, index uint64, req *request) Result {
		r := PReq(new(Req))
		m.decode(index, req.body, r)
		err := m.authorize(method, req, r)
		if err == nil {
			err = change(m.auth, r)
		}
		if err != nil {
			return Result{Err: err}
		}
		return Result{Response: new(Resp)}
	}
}

// applyToken makes a token known, or lets some last longer.
func (m *Machine) applyToken(index uint64, req *request) Result {
	if req.kind == KindTokenRenew {
		var r conclavepb.TokenRenew
		m.decode(index, req.body, &r)
		var hashes []auth.TokenHash
		for _, h := range r.GetHashes() {
			hashes = append(hashes, tokenHash(h))
		}
		m.auth.RenewTokens(hashes, r.GetDeadline(), r.GetNow())
		return Result{}
	}
	var r conclavepb.TokenIssue
	m.decode(index, req.body, &r)
	return Result{Err: m.auth.IssueToken(tokenHash(r.GetHash()), auth.Token{User: r.GetUser(), Deadline: r.GetDeadline()}, r.GetCredential(), r.GetNow())}
}

// tokenHash reads what a member wrote; of another length it is nobody's.
func tokenHash(b []byte) (h auth.TokenHash) {
	copy(h[:], b)
	return h
}
