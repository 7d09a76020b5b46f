package api

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"

	"github.com/conclave-kv/conclave/audit"
	"github.com/conclave-kv/conclave/internal/logging"
)

// auditLog is a log that fails closed, and takes nothing any more once it is closed.
func auditLog(t *testing.T, level audit.Level) *audit.Log {
	t.Helper()
	name := filepath.Join(t.TempDir(), "audit.log")
	l, err := audit.Open(audit.Options{Output: name, Rotation: logging.Rotation{MaxSize: 1}, Level: level, FailClosed: true, Log: zerolog.Nop()})
	must(t, err)
	t.Cleanup(func() { _ = l.Close(t.Context()) })
	return l
}

// What would have to be recorded, and cannot be, is not done; what need not be is.
func TestAudit_failsClosed(t *testing.T) {
	l := auditLog(t, audit.Writes)
	f := start(t, "http", func(o *Options) { o.Audit = l })
	c := pb.NewKVClient(f.dialPlain(t))
	_, err := c.Put(call(t), &pb.PutRequest{Key: []byte("k")})
	must(t, err)
	must(t, l.Close(t.Context()))
	before := f.backend.rev
	_, err = c.Put(call(t), &pb.PutRequest{Key: []byte("k")})
	want(t, "put", err, codes.Unavailable, "etcdserver: "+audit.ErrUnavailable.Error())
	_, err = c.Txn(call(t), &pb.TxnRequest{Success: []*pb.RequestOp{putOp(&pb.PutRequest{Key: []byte("k")})}})
	want(t, "txn", err, codes.Unavailable, "etcdserver: "+audit.ErrUnavailable.Error())
	if f.backend.rev != before {
		t.Errorf("a write that is not recorded was done: revision %d, then %d", before, f.backend.rev)
	}
	_, err = c.Range(call(t), &pb.RangeRequest{Key: []byte("k")})
	must(t, err)
}

// The same for reads and streams, where those are recorded.
func TestAudit_readsFailClosed(t *testing.T) {
	l := auditLog(t, audit.All)
	f := start(t, "http", func(o *Options) { o.Audit = l })
	must(t, l.Close(t.Context()))
	cc := f.dialPlain(t)
	refused := func(what string, err error) {
		t.Helper()
		want(t, what, err, codes.Unavailable, "etcdserver: "+audit.ErrUnavailable.Error())
	}
	_, err := pb.NewKVClient(cc).Range(call(t), &pb.RangeRequest{Key: []byte("k")})
	refused("range", err)
	parts, err := pb.NewKVClient(cc).RangeStream(call(t), &pb.RangeRequest{Key: []byte("k")})
	must(t, err)
	_, err = parts.Recv()
	refused("range in parts", err)
	renewals, err := pb.NewLeaseClient(cc).LeaseKeepAlive(call(t))
	must(t, err)
	must(t, renewals.Send(&pb.LeaseKeepAliveRequest{ID: 1}))
	_, err = renewals.Recv()
	refused("renewal", err)
	watches, err := pb.NewWatchClient(cc).Watch(call(t))
	must(t, err)
	must(t, watches.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("k")}}}))
	resp, err := watches.Recv()
	must(t, err)
	if !resp.GetCanceled() || !strings.Contains(resp.GetCancelReason(), audit.ErrUnavailable.Error()) {
		t.Errorf("a watch is made: %v", resp)
	}
}

// Every method that is served is known to look, or is recorded as a write.
func TestAudit_everyMethodHasALevel(t *testing.T) {
	writes := []string{
		"KV/Put", "KV/DeleteRange", "KV/Txn", "KV/Compact", "Lease/LeaseGrant", "Lease/LeaseRevoke",
		"Cluster/MemberAdd", "Cluster/MemberRemove", "Cluster/MemberUpdate", "Cluster/MemberPromote",
		"Maintenance/Alarm", "Maintenance/Defragment", "Maintenance/MoveLeader", "Maintenance/Downgrade",
		"Auth/Authenticate", "Auth/AuthEnable", "Auth/AuthDisable", "Auth/UserAdd", "Auth/UserDelete", "Auth/UserChangePassword",
		"Auth/UserGrantRole", "Auth/UserRevokeRole", "Auth/RoleAdd", "Auth/RoleDelete", "Auth/RoleGrantPermission", "Auth/RoleRevokePermission",
		"Lock/Lock", "Lock/Unlock", "Election/Campaign", "Election/Proclaim", "Election/Resign", "PKI/Issue",
	}
	f := start(t, "http", nil)
	for service, info := range f.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			short := service[strings.LastIndex(service, ".")+1:] + "/" + m.Name
			if writes := slices.Contains(writes, short); writes == looks["/"+service+"/"+m.Name] {
				t.Errorf("%s: a write %t, a look %t", short, writes, !writes)
			}
		}
	}
}

func TestAuditLevel_byRequest(t *testing.T) {
	read := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("k")}}}
	nested := func(r *pb.TxnRequest) *pb.TxnRequest {
		return &pb.TxnRequest{Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: r}}}}
	}
	reads := &pb.TxnRequest{Success: []*pb.RequestOp{read}}
	writes := &pb.TxnRequest{Success: []*pb.RequestOp{read, putOp(&pb.PutRequest{Key: []byte("k")})}}
	for _, c := range []struct {
		method string
		req    any
		want   audit.Level
	}{
		{pb.KV_Txn_FullMethodName, reads, audit.All}, {pb.KV_Txn_FullMethodName, nested(reads), audit.All},
		{pb.KV_Txn_FullMethodName, writes, audit.Writes}, {pb.KV_Txn_FullMethodName, nested(nested(writes)), audit.Writes},
		{pb.Maintenance_Alarm_FullMethodName, &pb.AlarmRequest{}, audit.All},
		{pb.Maintenance_Alarm_FullMethodName, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE}, audit.Writes},
		{pb.Maintenance_Downgrade_FullMethodName, &pb.DowngradeRequest{}, audit.All},
		{pb.Maintenance_Downgrade_FullMethodName, &pb.DowngradeRequest{Action: pb.DowngradeRequest_ENABLE}, audit.Writes},
		{"/a.b/New", nil, audit.Writes},
	} {
		if got := auditLevel(c.method, c.req); got != c.want {
			t.Errorf("%s %v: %s, want %s", c.method, c.req, got, c.want)
		}
	}
}

// A transaction far too deep or too long is described within bounds, before anybody
// has refused it.
func TestTargetOf_hostileTxn(t *testing.T) {
	deep := &pb.TxnRequest{}
	for range 5000 {
		deep = &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: deep}}, putOp(&pb.PutRequest{Key: []byte("k"), Value: []byte("value")})}}
	}
	long := &pb.TxnRequest{}
	for range 10 * audit.MaxOps {
		long.Success = append(long.Success, putOp(&pb.PutRequest{Key: []byte("k"), Value: []byte("value")}))
	}
	for name, r := range map[string]*pb.TxnRequest{"deep": deep, "long": long} {
		target := targetOf(r)
		text, err := json.Marshal(target)
		must(t, err)
		if len(target.Ops) == 0 || len(target.Ops) > audit.MaxOps || target.Left == 0 || len(text) > 64<<10 {
			t.Errorf("%s: %d operations, %d left, %d bytes", name, len(target.Ops), target.Left, len(text))
		}
	}
}
