package api

import (
	"strconv"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/conclave-kv/conclave/audit"
	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/internal/lockpb"
)

// looks are the methods that change nothing. Any other is recorded as a write: one
// that is added and forgotten here is recorded too often, and not too seldom.
var looks = map[string]bool{
	pb.KV_Range_FullMethodName: true, pb.KV_RangeStream_FullMethodName: true, pb.Watch_Watch_FullMethodName: true,
	pb.Lease_LeaseKeepAlive_FullMethodName: true, pb.Lease_LeaseTimeToLive_FullMethodName: true, pb.Lease_LeaseLeases_FullMethodName: true,
	pb.Cluster_MemberList_FullMethodName: true,
	pb.Maintenance_Status_FullMethodName: true, pb.Maintenance_Hash_FullMethodName: true, pb.Maintenance_HashKV_FullMethodName: true,
	pb.Maintenance_Snapshot_FullMethodName: true,
	pb.Auth_AuthStatus_FullMethodName:      true, pb.Auth_UserGet_FullMethodName: true, pb.Auth_UserList_FullMethodName: true,
	pb.Auth_RoleGet_FullMethodName: true, pb.Auth_RoleList_FullMethodName: true,
	lockpb.Election_Leader_FullMethodName: true, lockpb.Election_Observe_FullMethodName: true,
	conclavepb.Debug_Raft_FullMethodName: true, conclavepb.Audit_Anchors_FullMethodName: true,
	grpc_health_v1.Health_Check_FullMethodName: true, grpc_health_v1.Health_Watch_FullMethodName: true, grpc_health_v1.Health_List_FullMethodName: true,
}

// auditLevel is the level from which on a request is recorded when it is allowed.
func auditLevel(method string, req any) audit.Level {
	look := looks[method]
	switch r := req.(type) {
	case *pb.TxnRequest:
		look = !changes(r)
	case *pb.AlarmRequest:
		look = r.GetAction() == pb.AlarmRequest_GET
	case *pb.DowngradeRequest:
		look = r.GetAction() == pb.DowngradeRequest_VALIDATE
	}
	if look {
		return audit.All
	}
	return audit.Writes
}

// changes tells whether a transaction may change a key.
func changes(r *pb.TxnRequest) bool {
	for _, list := range [2][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		for _, op := range list {
			switch o := op.GetRequest().(type) {
			case *pb.RequestOp_RequestPut, *pb.RequestOp_RequestDeleteRange:
				return true
			case *pb.RequestOp_RequestTxn:
				if changes(o.RequestTxn) {
					return true
				}
			}
		}
	}
	return false
}

// targetOf is what a request is about: keys and names, and never a value, a password
// or a token.
func targetOf(req any) audit.Target {
	switch r := req.(type) {
	case *pb.PutRequest:
		t := audit.Target{Key: r.GetKey()}
		if r.GetLease() != 0 {
			t.Facts = facts("lease", r.GetLease())
		}
		return t
	case *pb.RangeRequest:
		return audit.Target{Key: r.GetKey(), End: r.GetRangeEnd()}
	case *pb.DeleteRangeRequest:
		return audit.Target{Key: r.GetKey(), End: r.GetRangeEnd()}
	case *pb.TxnRequest:
		var t audit.Target
		listOps(&t, r, "")
		return t
	case *pb.CompactionRequest:
		return audit.Target{Facts: facts("compact_revision", r.GetRevision())}
	case *pb.WatchCreateRequest:
		return audit.Target{Key: r.GetKey(), End: r.GetRangeEnd(), Facts: facts("start_revision", r.GetStartRevision())}
	case *pb.LeaseGrantRequest:
		return audit.Target{Facts: facts("lease", r.GetID(), "ttl", r.GetTTL())}
	case interface{ GetID() int64 }: // of leases
		return audit.Target{Facts: facts("lease", r.GetID())}
	case *lockpb.LockRequest:
		return audit.Target{Key: r.GetName(), Facts: facts("lease", r.GetLease())}
	case *lockpb.UnlockRequest:
		return audit.Target{Key: r.GetKey()}
	case *lockpb.CampaignRequest:
		return audit.Target{Key: r.GetName(), Facts: facts("lease", r.GetLease())}
	case interface{ GetLeader() *lockpb.LeaderKey }: // of elections
		return audit.Target{Key: r.GetLeader().GetKey(), Facts: facts("lease", r.GetLeader().GetLease())}
	case *lockpb.LeaderRequest:
		return audit.Target{Key: r.GetName()}
	case *conclavepb.IssueRequest:
		return audit.Target{Facts: facts("profile", r.GetProfile(), "cn", r.GetCn(), "hosts", r.GetHosts())}
	}
	if t, ok := targetOfAuth(req); ok {
		return t
	}
	return targetOfCluster(req)
}

// targetOfAuth is what a request about users and roles is about.
func targetOfAuth(req any) (audit.Target, bool) {
	switch r := req.(type) {
	case *pb.AuthenticateRequest: // who asks
	case *pb.AuthUserGrantRoleRequest:
		return audit.Target{Facts: facts("name", r.GetUser(), "role", r.GetRole())}, true
	case *pb.AuthUserRevokeRoleRequest:
		return audit.Target{Facts: facts("name", r.GetName(), "role", r.GetRole())}, true
	case *pb.AuthRoleGrantPermissionRequest:
		p := r.GetPerm()
		return audit.Target{Key: p.GetKey(), End: p.GetRangeEnd(), Facts: facts("role", r.GetName(), "permission", p.GetPermType().String())}, true
	case *pb.AuthRoleRevokePermissionRequest:
		return audit.Target{Key: r.GetKey(), End: r.GetRangeEnd(), Facts: facts("role", r.GetRole())}, true
	case *pb.AuthRoleAddRequest:
		return audit.Target{Facts: facts("role", r.GetName())}, true
	case interface{ GetRole() string }:
		return audit.Target{Facts: facts("role", r.GetRole())}, true
	case interface{ GetName() string }: // of users
		return audit.Target{Facts: facts("name", r.GetName())}, true
	}
	return audit.Target{}, false
}

// targetOfCluster is what a request about members is about.
func targetOfCluster(req any) audit.Target {
	switch r := req.(type) {
	case *pb.MemberAddRequest:
		return audit.Target{Facts: facts("peer_urls", r.GetPeerURLs(), "learner", r.GetIsLearner())}
	case *pb.MemberUpdateRequest:
		return audit.Target{Facts: facts("id", hexID(r.GetID()), "peer_urls", r.GetPeerURLs())}
	case interface{ GetID() uint64 }:
		return audit.Target{Facts: facts("id", hexID(r.GetID()))}
	case *pb.MoveLeaderRequest:
		return audit.Target{Facts: facts("id", hexID(r.GetTargetID()))}
	case *pb.AlarmRequest:
		return audit.Target{Facts: facts("action", r.GetAction().String(), "alarm", r.GetAlarm().String(), "id", hexID(r.GetMemberID()))}
	case *pb.DowngradeRequest:
		return audit.Target{Facts: facts("action", r.GetAction().String(), "version", r.GetVersion())}
	case *conclavepb.AnchorsRequest:
		return audit.Target{Facts: facts("id", hexID(r.GetMember()))}
	}
	return audit.Target{}
}

// maxPath bounds the names of branches, in bytes: this comes before a transaction is
// found to be too deep.
const maxPath = 64

// listOps lists what a transaction compares and does, in order.
func listOps(t *audit.Target, r *pb.TxnRequest, path string) {
	if len(path) > maxPath {
		t.Left++
		return
	}
	for _, c := range r.GetCompare() {
		listOp(t, audit.Op{Kind: "compare", In: path + "if", Key: c.GetKey(), End: c.GetRangeEnd()})
	}
	for _, branch := range [2]struct {
		name string
		ops  []*pb.RequestOp
	}{{"then", r.GetSuccess()}, {"else", r.GetFailure()}} {
		for _, op := range branch.ops {
			switch o := op.GetRequest().(type) {
			case *pb.RequestOp_RequestRange:
				listOp(t, audit.Op{Kind: "range", In: path + branch.name, Key: o.RequestRange.GetKey(), End: o.RequestRange.GetRangeEnd()})
			case *pb.RequestOp_RequestPut:
				listOp(t, audit.Op{Kind: "put", In: path + branch.name, Key: o.RequestPut.GetKey()})
			case *pb.RequestOp_RequestDeleteRange:
				listOp(t, audit.Op{Kind: "delete", In: path + branch.name, Key: o.RequestDeleteRange.GetKey(), End: o.RequestDeleteRange.GetRangeEnd()})
			case *pb.RequestOp_RequestTxn:
				listOps(t, o.RequestTxn, path+branch.name+"/")
			}
		}
	}
}

func listOp(t *audit.Target, op audit.Op) {
	if len(t.Ops) >= audit.MaxOps {
		t.Left++
		return
	}
	t.Ops = append(t.Ops, op)
}

// facts makes a list of names and values in turn, without those that were not given.
func facts(pairs ...any) []audit.Fact {
	out := make([]audit.Fact, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		switch v := pairs[i+1]; v {
		case int64(0), "", false:
		default:
			out = append(out, audit.Fact{Name: pairs[i].(string), Value: v})
		}
	}
	return out
}

func hexID(id uint64) string { return strconv.FormatUint(id, 16) }
