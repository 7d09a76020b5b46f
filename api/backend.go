package api

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/kv"
	"github.com/conclave-kv/conclave/member"
)

// Backend is the member behind the door. All methods may be called from any
// number of goroutines at once. Requests arrive with their shape checked
// (validate.go) and belong to the Backend afterwards; responses are complete,
// header included, and belong to the caller. An error is one of the sentinels
// of the table in errors.go (possibly wrapped), a context error, or a gRPC
// status; anything else reaches the client as code Unknown with its own text.
//
// Every method that takes a context returns soon after the context is done,
// and bounds its own waiting (5 s plus two election timeouts) when the context
// has no deadline.
type Backend interface {
	// Range reads keys; linearizable unless the request says serializable.
	Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error)
	// RangeStream gives the answer to Range to send in parts; see kv.Scan. The
	// request asks for the order of keys, and has no revision filter. An error of
	// send is returned.
	RangeStream(ctx context.Context, r *pb.RangeRequest, send func(*pb.RangeResponse) error) error
	// Put, DeleteRange and Txn return after the change is agreed and visible
	// on this member. A Txn that only reads is not proposed.
	Put(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error)
	DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error)
	Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error)
	// Compact makes revisions below the request's unreadable.
	Compact(ctx context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error)

	// LeaseGrant and LeaseRevoke return after the change is agreed. LeaseRenew
	// answers TTL 0, and LeaseTimeToLive -1, for a lease that there is not.
	// BeginLeaseRenew is LeaseRenew, where authentication is off, in two parts: it
	// does not block, what it returns does. LeaseLeases lists from this member's own state.
	LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error)
	LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error)
	LeaseRenew(ctx context.Context, id int64) (*pb.LeaseKeepAliveResponse, error)
	BeginLeaseRenew(ctx context.Context, id int64) (wait func() (*pb.LeaseKeepAliveResponse, error))
	LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error)
	LeaseLeases(ctx context.Context) (*pb.LeaseLeasesResponse, error)

	// NewWatchStream makes a stream of watches on this member's state, which the
	// caller closes. Header is a complete header at a revision. Neither blocks.
	NewWatchStream() *kv.Stream
	Header(revision int64) *pb.ResponseHeader

	AuthBackend

	// Status describes this member from its own knowledge, without quorum:
	// every field of the response, errors (no leader, alarms) included.
	Status(ctx context.Context) (*pb.StatusResponse, error)
	// MemberList lists the members, sorted by id; linearizable waits for a
	// confirmed read, otherwise the member's own table is enough. The header
	// carries no revision.
	MemberList(ctx context.Context, linearizable bool) (*pb.MemberListResponse, error)
	// MemberAdd, MemberRemove, MemberUpdate and MemberPromote return after the
	// change is agreed and in this member's own table; peer URLs are valid,
	// sorted and not empty.
	MemberAdd(ctx context.Context, r *pb.MemberAddRequest) (*pb.MemberAddResponse, error)
	MemberRemove(ctx context.Context, r *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error)
	MemberUpdate(ctx context.Context, r *pb.MemberUpdateRequest) (*pb.MemberUpdateResponse, error)
	MemberPromote(ctx context.Context, r *pb.MemberPromoteRequest) (*pb.MemberPromoteResponse, error)
	// MoveLeader hands leadership from this member to another and returns when
	// that one leads.
	MoveLeader(ctx context.Context, to uint64) error
	// Alarm raises or takes back an alarm, or lists those of a type, all for
	// NONE; it returns after that is agreed. Action and type are known ones.
	Alarm(ctx context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error)
	// Snapshot opens a copy of this member's state with every write that was
	// acknowledged before the call. The caller closes it, at any time, from any
	// goroutine.
	Snapshot(ctx context.Context) (member.Snapshot, error)
	// Hash is a checksum of all of this member's state, HashKV of its key-value
	// history up to a revision, 0 for the newest.
	Hash(ctx context.Context) (*pb.HashResponse, error)
	HashKV(ctx context.Context, revision int64) (*pb.HashKVResponse, error)
	// Downgrade answers whether a downgrade is possible, begins or ends it; the
	// action is a known one.
	Downgrade(ctx context.Context, r *pb.DowngradeRequest) (*pb.DowngradeResponse, error)
	// Alarms lists all alarms from this member's own state, without quorum.
	Alarms(ctx context.Context) (*pb.AlarmResponse, error)

	// Defragment gives free space in this member's state file back to the file
	// system, and returns when that is done.
	Defragment(ctx context.Context) error

	// Anchors lists what the cluster remembers of a member's audit log; linearizable.
	Anchors(ctx context.Context, r *conclavepb.AnchorsRequest) (*conclavepb.AnchorsResponse, error)

	// RaftReport says how this member sees itself and the others, without
	// quorum and without waiting. The caller may change it.
	RaftReport() *conclavepb.RaftReport
	// Stuck is how long the write to the log that is under way has taken so
	// far; 0 when there is none. It does not block.
	Stuck() time.Duration

	// Leader is the id of the leader this member knows, 0 for none. It does
	// not block; it is called once per request that carries `hasleader`.
	Leader() uint64
	// Damaged tells whether this member's data differ from those of a majority,
	// so that it may answer nothing about keys; Corrupt whether it is not fit for
	// clients, because of that or because a user raised the CORRUPT alarm.
	// Neither blocks; Damaged is called once per request.
	Damaged() bool
	Corrupt() bool
	// IsLearner tells whether this member has no vote. It does not block; it is
	// called once per request.
	IsLearner() bool
	// ClusterVersion is the agreed cluster version ("3.7.0"), "not_decided"
	// until known. It does not block.
	ClusterVersion() string
}
