package auth

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// TestRules_everyMethodHasOne walks the services that are compiled in.
func TestRules_everyMethodHasOne(t *testing.T) {
	seen := 0
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				seen++
				if method := fmt.Sprintf("/%s/%s", s.FullName(), s.Methods().Get(j).Name()); !HasRule(method) {
					t.Errorf("%s has no rule", method)
				}
			}
		}
		return true
	})
	if seen < 40 {
		t.Errorf("only %d methods were found", seen)
	}
	for method, r := range rules {
		if r.who == 0 || r.may != nil && r.who != user {
			t.Errorf("%s: %+v", method, r)
		}
	}
}

func rangeOp(key, end string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key), RangeEnd: []byte(end)}}}
}

func putOp(p *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: p}}
}

func deleteOp(d *pb.DeleteRangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: d}}
}

func nested(t *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: t}}
}

// TestRules_matrix asks as a user who may read r/ and write w/, read and write
// b/, and all from zz on.
func TestRules_matrix(t *testing.T) {
	b := newBed(t)
	b.role("mixed", perm(read, "r/", "r0"), perm(write, "w/", "w0"), perm(both, "b/", "b0"), perm(both, "zz", openEnd), perm(both, "one", ""))
	b.role("other")
	b.user("u", "mixed")
	b.user("nothing")
	b.enable()
	leases := leased{1: {"b/1", "w/1"}, 2: {"b/1", "r/1"}, 4: {}}
	k := func(s string) []byte { return []byte(s) }
	for _, c := range []struct {
		method string
		req    any
		may    bool
	}{
		{pb.KV_Range_FullMethodName, &pb.RangeRequest{Key: k("r/1")}, true},
		{pb.KV_Range_FullMethodName, &pb.RangeRequest{Key: k("r/"), RangeEnd: k("r0")}, true},
		{pb.KV_Range_FullMethodName, &pb.RangeRequest{Key: k("r/"), RangeEnd: k("r00")}, false},
		{pb.KV_Range_FullMethodName, &pb.RangeRequest{Key: k("r/"), RangeEnd: k(openEnd)}, false},
		{pb.KV_Range_FullMethodName, &pb.RangeRequest{Key: k("r/"), CountOnly: true, RangeEnd: k("s")}, false},
		{pb.KV_Range_FullMethodName, &pb.RangeRequest{Key: k("w/1")}, false},
		{pb.KV_Range_FullMethodName, &pb.RangeRequest{Key: k("zzz"), RangeEnd: k(openEnd)}, true},
		{pb.KV_RangeStream_FullMethodName, &pb.RangeRequest{Key: k("w/1")}, false},
		{pb.KV_Put_FullMethodName, &pb.PutRequest{Key: k("w/1")}, true},
		{pb.KV_Put_FullMethodName, &pb.PutRequest{Key: k("w/1"), PrevKv: true}, false},
		{pb.KV_Put_FullMethodName, &pb.PutRequest{Key: k("b/1"), PrevKv: true}, true},
		{pb.KV_Put_FullMethodName, &pb.PutRequest{Key: k("r/1")}, false},
		{pb.KV_Put_FullMethodName, &pb.PutRequest{Key: k("w/1"), Lease: 1}, true},
		{pb.KV_Put_FullMethodName, &pb.PutRequest{Key: k("w/1"), Lease: 2}, false},
		{pb.KV_Put_FullMethodName, &pb.PutRequest{Key: k("w/1"), Lease: 3}, true},
		{pb.KV_DeleteRange_FullMethodName, &pb.DeleteRangeRequest{Key: k("w/"), RangeEnd: k("w0")}, true},
		{pb.KV_DeleteRange_FullMethodName, &pb.DeleteRangeRequest{Key: k("w/"), RangeEnd: k("w0"), PrevKv: true}, false},
		{pb.KV_DeleteRange_FullMethodName, &pb.DeleteRangeRequest{Key: k("w/"), RangeEnd: k(openEnd)}, false},
		{pb.KV_Txn_FullMethodName, &pb.TxnRequest{}, true},
		{pb.KV_Txn_FullMethodName, &pb.TxnRequest{Compare: []*pb.Compare{{Key: k("w/1")}}}, false},
		{pb.KV_Txn_FullMethodName, &pb.TxnRequest{Compare: []*pb.Compare{{Key: k("r/"), RangeEnd: k("r0")}}}, true},
		{pb.KV_Txn_FullMethodName, &pb.TxnRequest{Compare: []*pb.Compare{{Key: k("r/"), RangeEnd: k(openEnd)}}}, false},
		{pb.KV_Txn_FullMethodName, &pb.TxnRequest{Success: []*pb.RequestOp{rangeOp("r/1", ""), putOp(&pb.PutRequest{Key: k("w/1")})}}, true},
		{pb.KV_Txn_FullMethodName, &pb.TxnRequest{Failure: []*pb.RequestOp{rangeOp("w/1", "")}}, false},
		{pb.KV_Txn_FullMethodName, &pb.TxnRequest{Success: []*pb.RequestOp{putOp(&pb.PutRequest{Key: k("w/1"), PrevKv: true})}}, false},
		{pb.KV_Txn_FullMethodName, &pb.TxnRequest{Success: []*pb.RequestOp{putOp(&pb.PutRequest{Key: k("w/1"), Lease: 2})}}, false},
		{pb.KV_Txn_FullMethodName, &pb.TxnRequest{Success: []*pb.RequestOp{deleteOp(&pb.DeleteRangeRequest{Key: k("w/1"), PrevKv: true})}}, false},
		{pb.KV_Txn_FullMethodName, &pb.TxnRequest{Success: []*pb.RequestOp{nested(&pb.TxnRequest{Failure: []*pb.RequestOp{nested(&pb.TxnRequest{Success: []*pb.RequestOp{rangeOp("w/1", "")}})}})}}, false},
		{pb.KV_Txn_FullMethodName, &pb.TxnRequest{Success: []*pb.RequestOp{nested(&pb.TxnRequest{Compare: []*pb.Compare{{Key: k("w/1")}}})}}, false},
		{pb.KV_Txn_FullMethodName, &pb.TxnRequest{Success: []*pb.RequestOp{{}}}, false},
		{pb.KV_Compact_FullMethodName, &pb.CompactionRequest{}, false},
		{pb.Watch_Watch_FullMethodName, &pb.WatchCreateRequest{Key: k("one")}, true},
		{pb.Watch_Watch_FullMethodName, &pb.WatchCreateRequest{Key: k("one"), RangeEnd: k(openEnd)}, false},
		{pb.Watch_Watch_FullMethodName, &pb.WatchCreateRequest{Key: k("\x00"), RangeEnd: k(openEnd)}, false},
		{pb.Watch_Watch_FullMethodName, &pb.WatchRequest{}, false}, // not what the rule is about
		{pb.Lease_LeaseGrant_FullMethodName, &pb.LeaseGrantRequest{}, true},
		{pb.Lease_LeaseRevoke_FullMethodName, &pb.LeaseRevokeRequest{ID: 1}, true},
		{pb.Lease_LeaseRevoke_FullMethodName, &pb.LeaseRevokeRequest{ID: 2}, false},
		{pb.Lease_LeaseKeepAlive_FullMethodName, &pb.LeaseKeepAliveRequest{ID: 1}, true},
		{pb.Lease_LeaseKeepAlive_FullMethodName, &pb.LeaseKeepAliveRequest{ID: 2}, false},
		{pb.Lease_LeaseTimeToLive_FullMethodName, &pb.LeaseTimeToLiveRequest{ID: 1}, true},
		{pb.Lease_LeaseTimeToLive_FullMethodName, &pb.LeaseTimeToLiveRequest{ID: 1, Keys: true}, false},
		{pb.Lease_LeaseTimeToLive_FullMethodName, &pb.LeaseTimeToLiveRequest{ID: 2, Keys: true}, true},
		{pb.Lease_LeaseLeases_FullMethodName, &pb.LeaseLeasesRequest{}, false},
		{pb.Cluster_MemberList_FullMethodName, &pb.MemberListRequest{}, true},
		{pb.Cluster_MemberAdd_FullMethodName, &pb.MemberAddRequest{}, false},
		{pb.Maintenance_Alarm_FullMethodName, &pb.AlarmRequest{}, true},
		{pb.Maintenance_Alarm_FullMethodName, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE}, false},
		{pb.Maintenance_Status_FullMethodName, &pb.StatusRequest{}, true},
		{pb.Maintenance_Snapshot_FullMethodName, &pb.SnapshotRequest{}, false},
		{pb.Auth_AuthStatus_FullMethodName, &pb.AuthStatusRequest{}, true},
		{pb.Auth_UserGet_FullMethodName, &pb.AuthUserGetRequest{Name: "u"}, true},
		{pb.Auth_UserGet_FullMethodName, &pb.AuthUserGetRequest{Name: Root}, false},
		{pb.Auth_RoleGet_FullMethodName, &pb.AuthRoleGetRequest{Role: "mixed"}, true},
		{pb.Auth_RoleGet_FullMethodName, &pb.AuthRoleGetRequest{Role: "other"}, false},
		{pb.Auth_UserChangePassword_FullMethodName, &pb.AuthUserChangePasswordRequest{Name: "u"}, false},
		{"/v3lockpb.Lock/Lock", named{name: k("b"), lease: 1}, true},
		{"/v3lockpb.Lock/Lock", named{name: k("b"), lease: 2}, false},
		{"/v3lockpb.Lock/Lock", named{name: k("r")}, false},
		{"/v3lockpb.Lock/Unlock", named{key: k("b/1")}, true},
		{"/v3lockpb.Lock/Unlock", named{key: k("r/1")}, false},
		{"/v3electionpb.Election/Campaign", named{name: k("w")}, false},
		{"/v3electionpb.Election/Leader", named{name: k("r")}, true},
		{"/v3electionpb.Election/Observe", named{name: k("w")}, false},
		{"/conclave.pki.v1.PKI/Issue", nil, false},
		{"/some.Other/Method", nil, false},
	} {
		if err := b.may("u", c.method, c.req, leases); (err == nil) != c.may || err != nil && !errors.Is(err, ErrPermissionDenied) {
			t.Errorf("%s %+v: %v, want %t", c.method, c.req, err, c.may)
		}
		if err := b.may(Root, c.method, c.req, leases); err != nil && c.method != "/some.Other/Method" {
			t.Errorf("root, %s: %v", c.method, err)
		}
		open := strings.HasSuffix(c.method, "/AuthStatus")
		if err := Authorize(b.Current(), nil, c.method, c.req, leases); open != (err == nil) {
			t.Errorf("nobody, %s: %v", c.method, err)
		}
		if err := Authorize(b.Current(), &Identity{User: "unknown", Revision: 99}, c.method, c.req, leases); open != (err == nil) {
			t.Errorf("a user that does not exist, %s: %v", c.method, err)
		}
	}
	must(t, b.Disable(nil))
	if err := Authorize(b.Current(), nil, pb.KV_Compact_FullMethodName, nil, nil); err != nil {
		t.Errorf("while authentication is off: %v", err)
	}
}

// named is a request of the services Lock and Election.
type named struct {
	name, key []byte
	lease     int64
}

func (n named) GetName() []byte { return n.name }
func (n named) GetKey() []byte  { return n.key }
func (n named) GetLease() int64 { return n.lease }

// BenchmarkAuthorize_put is the whole decision, with a role of 1,000 ranges.
func BenchmarkAuthorize_put(b *testing.B) {
	bed := newBed(b)
	bed.role("r")
	for i := range 1000 {
		must(b, bed.RoleGrantPermission(&pb.AuthRoleGrantPermissionRequest{Name: "r", Perm: perm(both, fmt.Sprintf("/app/%04d/", i), fmt.Sprintf("/app/%04d0", i))}))
	}
	bed.user("u", "r")
	bed.enable()
	v := bed.Current()
	id := v.User("u").Identity()
	put := &pb.PutRequest{Key: []byte("/app/0567/key")}
	var leases Leases = leased{}
	b.ReportAllocs()
	for b.Loop() {
		if err := Authorize(v, id, pb.KV_Put_FullMethodName, put, leases); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStore_grant adds a range to a role of 1,000 that 100 users have.
func BenchmarkStore_grant(b *testing.B) {
	bed := newBed(b)
	bed.role("r")
	for i := range 1000 {
		must(b, bed.RoleGrantPermission(&pb.AuthRoleGrantPermissionRequest{Name: "r", Perm: perm(both, fmt.Sprintf("/app/%04d/", i), fmt.Sprintf("/app/%04d0", i))}))
	}
	for i := range 100 {
		bed.user(fmt.Sprintf("u%d", i), "r")
	}
	for b.Loop() {
		must(b, bed.RoleGrantPermission(&pb.AuthRoleGrantPermissionRequest{Name: "r", Perm: perm(both, "/x", "")}))
		bed.Freeze()
	}
}

// A decision allocates nothing, whichever it is, except where keys of leases are
// looked at.
func TestAuthorize_allocatesNothing(t *testing.T) {
	b := newBed(t)
	b.role("r", perm(both, "a", "b"), perm(both, "c", "d"))
	b.user("u", "r")
	b.enable()
	v, id := b.Current(), b.Current().User("u").Identity()
	for method, req := range map[string]any{
		pb.KV_Put_FullMethodName:      &pb.PutRequest{Key: []byte("aa"), PrevKv: true},
		pb.KV_Range_FullMethodName:    &pb.RangeRequest{Key: []byte("c"), RangeEnd: []byte("d")},
		pb.KV_Compact_FullMethodName:  &pb.CompactionRequest{},
		pb.KV_Txn_FullMethodName:      &pb.TxnRequest{Success: []*pb.RequestOp{rangeOp("aa", ""), putOp(&pb.PutRequest{Key: []byte("x")})}},
		pb.Watch_Watch_FullMethodName: &pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte(openEnd)},
	} {
		var leases Leases = leased{}
		if n := testing.AllocsPerRun(100, func() { _ = Authorize(v, id, method, req, leases) }); n != 0 {
			t.Errorf("%s: %v allocations", method, n)
		}
	}
}

// counted counts the keys of leases that are looked at.
type counted struct {
	leased
	seen int
}

func (c *counted) EachLeaseKey(id int64, fn func(key []byte) bool) {
	c.leased.EachLeaseKey(id, func(key []byte) bool {
		c.seen++
		return fn(key)
	})
}

// A decision about a transaction looks at each key of a lease once, however many puts
// name the lease, and however deep; and at those of one that may not be written, too.
func TestAuthorize_leasesOfATransaction(t *testing.T) {
	b := newBed(t)
	b.role("r", perm(authpb.Permission_READWRITE, "w/", "w0"))
	b.user("u", "r")
	b.enable()
	leases := &counted{leased: leased{1: {"w/1", "w/2", "w/3"}, 2: {"b/1"}}}
	puts := &pb.TxnRequest{}
	for range 100 {
		puts.Success = append(puts.Success, putOp(&pb.PutRequest{Key: []byte("w/9"), Lease: 1}))
	}
	deep := &pb.TxnRequest{Success: []*pb.RequestOp{nested(puts)}, Failure: []*pb.RequestOp{nested(puts)}}
	id := b.Current().User("u").Identity()
	if err := Authorize(b.Current(), id, pb.KV_Txn_FullMethodName, deep, leases); err != nil || leases.seen != 3 {
		t.Errorf("%v, and %d keys were looked at", err, leases.seen)
	}
	deep.Failure = append(deep.Failure, putOp(&pb.PutRequest{Key: []byte("w/9"), Lease: 2}))
	if err := Authorize(b.Current(), id, pb.KV_Txn_FullMethodName, deep, leases); !errors.Is(err, ErrPermissionDenied) {
		t.Errorf("with a lease that has a foreign key: %v", err)
	}
}
