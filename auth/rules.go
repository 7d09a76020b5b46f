package auth

import (
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// who may call a method at all; root always may.
type who uint8

const (
	anybody       who = iota + 1 // also without a user
	user                         // any user that exists
	administrator                // only users with the role root
)

// A rule is what a method demands while authentication is on.
type rule struct {
	who who
	may func(a access, req any) bool // of a user; nil: whatever is asked
	// state: decided on the very state that the request is answered from, by
	// members where that is read and where it is applied. Others are decided
	// where the request comes in.
	state bool
}

// by makes the check of one type of request. What comes as another type may not.
func by[T any](may func(a access, req T) bool) func(access, any) bool {
	return func(a access, req any) bool {
		r, ok := req.(T)
		return ok && may(a, r)
	}
}

// rules has every method of every service. It is etcd 3.7's table of who may do
// what, with conclave's own services.
var rules = map[string]rule{
	pb.KV_Range_FullMethodName:       {who: user, may: by(access.rangeOf), state: true},
	pb.KV_RangeStream_FullMethodName: {who: user, may: by(access.rangeOf), state: true},
	pb.KV_Put_FullMethodName:         {who: user, may: by(access.put), state: true},
	pb.KV_DeleteRange_FullMethodName: {who: user, may: by(access.deleteRange), state: true},
	pb.KV_Txn_FullMethodName:         {who: user, may: by(access.txn), state: true},
	pb.KV_Compact_FullMethodName:     {who: administrator, state: true},

	// A stream of watches: each creation is decided, and again when rights change.
	pb.Watch_Watch_FullMethodName: {who: user, may: by(func(a access, r *pb.WatchCreateRequest) bool {
		return a.reads(r.GetKey(), r.GetRangeEnd())
	}), state: true},

	pb.Lease_LeaseGrant_FullMethodName: {who: user, state: true},
	pb.Lease_LeaseRevoke_FullMethodName: {who: user, may: by(func(a access, r *pb.LeaseRevokeRequest) bool {
		return a.writesLease(r.GetID())
	}), state: true},
	// A stream: each renewal is decided.
	pb.Lease_LeaseKeepAlive_FullMethodName: {who: user, may: by(func(a access, r *pb.LeaseKeepAliveRequest) bool {
		return a.writesLease(r.GetID())
	}), state: true},
	pb.Lease_LeaseTimeToLive_FullMethodName: {who: user, may: by(access.timeToLive), state: true},
	pb.Lease_LeaseLeases_FullMethodName:     {who: user, may: by(access.listLeases), state: true},

	pb.Cluster_MemberAdd_FullMethodName:     {who: administrator},
	pb.Cluster_MemberRemove_FullMethodName:  {who: administrator},
	pb.Cluster_MemberUpdate_FullMethodName:  {who: administrator},
	pb.Cluster_MemberPromote_FullMethodName: {who: administrator},
	pb.Cluster_MemberList_FullMethodName:    {who: user},

	pb.Maintenance_Alarm_FullMethodName: {who: user, may: by(func(_ access, r *pb.AlarmRequest) bool {
		return r.GetAction() == pb.AlarmRequest_GET
	})},
	pb.Maintenance_Status_FullMethodName:     {who: user},
	pb.Maintenance_Defragment_FullMethodName: {who: administrator},
	pb.Maintenance_Hash_FullMethodName:       {who: administrator},
	pb.Maintenance_HashKV_FullMethodName:     {who: administrator},
	pb.Maintenance_Snapshot_FullMethodName:   {who: administrator},
	pb.Maintenance_MoveLeader_FullMethodName: {who: administrator},
	pb.Maintenance_Downgrade_FullMethodName:  {who: administrator},

	pb.Auth_AuthStatus_FullMethodName:           {who: anybody},
	pb.Auth_Authenticate_FullMethodName:         {who: anybody},
	pb.Auth_AuthEnable_FullMethodName:           {who: administrator, state: true},
	pb.Auth_AuthDisable_FullMethodName:          {who: administrator, state: true},
	pb.Auth_UserAdd_FullMethodName:              {who: administrator, state: true},
	pb.Auth_UserList_FullMethodName:             {who: administrator, state: true},
	pb.Auth_UserDelete_FullMethodName:           {who: administrator, state: true},
	pb.Auth_UserChangePassword_FullMethodName:   {who: administrator, state: true},
	pb.Auth_UserGrantRole_FullMethodName:        {who: administrator, state: true},
	pb.Auth_UserRevokeRole_FullMethodName:       {who: administrator, state: true},
	pb.Auth_RoleAdd_FullMethodName:              {who: administrator, state: true},
	pb.Auth_RoleList_FullMethodName:             {who: administrator, state: true},
	pb.Auth_RoleDelete_FullMethodName:           {who: administrator, state: true},
	pb.Auth_RoleGrantPermission_FullMethodName:  {who: administrator, state: true},
	pb.Auth_RoleRevokePermission_FullMethodName: {who: administrator, state: true},
	pb.Auth_UserGet_FullMethodName: {who: user, may: by(func(a access, r *pb.AuthUserGetRequest) bool {
		return r.GetName() == a.user.name
	}), state: true},
	pb.Auth_RoleGet_FullMethodName: {who: user, may: by(func(a access, r *pb.AuthRoleGetRequest) bool {
		return slices.Contains(a.user.roles, r.GetRole())
	}), state: true},

	// What these do to keys is decided besides, as of any other client.
	"/v3lockpb.Lock/Lock": {who: user, may: by(access.queues)},
	"/v3lockpb.Lock/Unlock": {who: user, may: by(func(a access, r interface{ GetKey() []byte }) bool {
		return a.writes(r.GetKey(), nil)
	})},
	"/v3electionpb.Election/Campaign": {who: user, may: by(access.queues)},
	"/v3electionpb.Election/Leader":   {who: user, may: by(access.observes)},
	"/v3electionpb.Election/Observe":  {who: user, may: by(access.observes)},
	// Who leads is told by key and revision; the keys that these write are decided
	// where that is done.
	"/v3electionpb.Election/Proclaim": {who: user},
	"/v3electionpb.Election/Resign":   {who: user},

	// Whoever gets certificates made can be anybody.
	conclavepb.PKI_Issue_FullMethodName:  {who: administrator},
	conclavepb.Debug_Raft_FullMethodName: {who: user},
	// It tells how much is done on which member.
	conclavepb.Audit_Anchors_FullMethodName: {who: administrator},

	// Whether this process answers is no secret.
	"/grpc.health.v1.Health/Check": {who: anybody},
	"/grpc.health.v1.Health/Watch": {who: anybody},
	"/grpc.health.v1.Health/List":  {who: anybody},
}

// HasRule reports whether a method has a rule; one that has not is denied.
func HasRule(method string) bool {
	_, ok := rules[method]
	return ok
}

// OnState reports whether a method is decided where its state is read or applied,
// rather than where the request comes in.
func OnState(method string) bool { return rules[method].state }

// OpenToAll reports whether a method needs nobody.
func OpenToAll(method string) bool { return rules[method].who == anybody }
