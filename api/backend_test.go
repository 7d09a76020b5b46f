package api

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/conclave-kv/conclave/auth"
	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/internal/version"
	"github.com/conclave-kv/conclave/kv"
	"github.com/conclave-kv/conclave/member"
)

// fakeBackend is a member with one map and no history. Each hook, when set,
// decides about the call before the map is asked.
type fakeBackend struct {
	AuthBackend // nil: users are shown on a member

	defrags atomic.Int64
	damaged atomic.Bool
	mu      sync.Mutex
	rev     int64
	keys    map[string]*mvccpb.KeyValue
	alarms  []*pb.AlarmMember
	learner bool
	hub     *kv.Hub

	snapshot member.Snapshot // nil: refused

	leader  atomic.Uint64
	stuck   atomic.Int64 // nanoseconds
	version atomic.Pointer[string]
	onRange atomic.Pointer[func(context.Context, *pb.RangeRequest) error]
	onPut   atomic.Pointer[func(context.Context, *pb.PutRequest) error]
}

func newFakeBackend() *fakeBackend {
	b := &fakeBackend{rev: 1, keys: make(map[string]*mvccpb.KeyValue), hub: kv.NewHub(&kv.View{})}
	b.leader.Store(7)
	v := version.Cluster
	b.version.Store(&v)
	return b
}

// AuthView is of a cluster without users.
func (b *fakeBackend) AuthView() *auth.View { return &auth.View{} }

// Confirm allows everything.
func (b *fakeBackend) Confirm(context.Context, string, any) error { return nil }

// Changed is never closed.
func (b *fakeBackend) Changed() <-chan struct{} { return nil }

// NewWatchStream is of a store of its own: watches are shown on a member.
func (b *fakeBackend) NewWatchStream() *kv.Stream { return b.hub.NewStream() }

// Header is complete, at a revision.
func (b *fakeBackend) Header(revision int64) *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: 1, MemberId: 7, Revision: revision, RaftTerm: 2}
}

func (b *fakeBackend) header() *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: 1, MemberId: 7, Revision: b.rev, RaftTerm: 2}
}

func (b *fakeBackend) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	if f := b.onRange.Load(); f != nil {
		if err := (*f)(ctx, r); err != nil {
			return nil, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.Revision > b.rev {
		return nil, kv.ErrFutureRevision
	}
	resp := &pb.RangeResponse{Header: b.header()}
	if e, ok := b.keys[string(r.Key)]; ok {
		resp.Kvs, resp.Count = []*mvccpb.KeyValue{e}, 1
	}
	return resp, nil
}

// RangeStream sends each key of the answer as a part of its own.
func (b *fakeBackend) RangeStream(ctx context.Context, r *pb.RangeRequest, send func(*pb.RangeResponse) error) error {
	resp, err := b.Range(ctx, r)
	if err != nil {
		return err
	}
	for _, kv := range resp.Kvs {
		if err := send(&pb.RangeResponse{Kvs: []*mvccpb.KeyValue{kv}}); err != nil {
			return err
		}
	}
	resp.Kvs = nil
	return send(resp)
}

func (b *fakeBackend) Put(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	if f := b.onPut.Load(); f != nil {
		if err := (*f)(ctx, r); err != nil {
			return nil, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rev++
	b.keys[string(r.Key)] = &mvccpb.KeyValue{Key: r.Key, Value: r.Value, CreateRevision: b.rev, ModRevision: b.rev, Version: 1}
	return &pb.PutResponse{Header: b.header()}, nil
}

func (b *fakeBackend) DeleteRange(_ context.Context, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	resp := &pb.DeleteRangeResponse{}
	if _, ok := b.keys[string(r.Key)]; ok {
		delete(b.keys, string(r.Key))
		b.rev++
		resp.Deleted = 1
	}
	resp.Header = b.header()
	return resp, nil
}

func (b *fakeBackend) Txn(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &pb.TxnResponse{Header: b.header(), Succeeded: true}, nil
}

func (b *fakeBackend) Compact(_ context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.Revision > b.rev {
		return nil, kv.ErrFutureRevision
	}
	return &pb.CompactionResponse{Header: b.header()}, nil
}

func (b *fakeBackend) Status(context.Context) (*pb.StatusResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &pb.StatusResponse{Header: b.header(), Version: version.EtcdServer, DbSize: 4096, Leader: b.leader.Load(), IsLearner: b.learner}, nil
}

func (b *fakeBackend) MemberList(context.Context, bool) (*pb.MemberListResponse, error) {
	return &pb.MemberListResponse{
		Header:  &pb.ResponseHeader{ClusterId: 1, MemberId: 7, RaftTerm: 2},
		Members: []*pb.Member{{ID: 7, Name: "m1", PeerURLs: []string{"http://127.0.0.1:2380"}}},
	}, nil
}

func (b *fakeBackend) Alarms(context.Context) (*pb.AlarmResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &pb.AlarmResponse{Header: b.header(), Alarms: append([]*pb.AlarmMember(nil), b.alarms...)}, nil
}

func (b *fakeBackend) Downgrade(context.Context, *pb.DowngradeRequest) (*pb.DowngradeResponse, error) {
	return nil, member.ErrDowngradeInProgress
}

// Alarm raises and takes back those of type NOSPACE and CORRUPT for anybody.
func (b *fakeBackend) Alarm(_ context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	resp := &pb.AlarmResponse{Header: b.header()}
	one := &pb.AlarmMember{MemberID: r.MemberID, Alarm: r.Alarm}
	switch r.Action {
	case pb.AlarmRequest_ACTIVATE:
		b.alarms, resp.Alarms = append(b.alarms, one), []*pb.AlarmMember{one}
	case pb.AlarmRequest_DEACTIVATE:
		b.alarms = slices.DeleteFunc(b.alarms, func(a *pb.AlarmMember) bool { return a.Alarm == r.Alarm })
	default:
		for _, a := range b.alarms {
			if r.Alarm == pb.AlarmType_NONE || a.Alarm == r.Alarm {
				resp.Alarms = append(resp.Alarms, a)
			}
		}
	}
	return resp, nil
}

func (b *fakeBackend) MemberAdd(_ context.Context, r *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	return &pb.MemberAddResponse{Member: &pb.Member{ID: 8, PeerURLs: r.PeerURLs, IsLearner: r.IsLearner}}, nil
}

func (b *fakeBackend) MemberRemove(context.Context, *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	return nil, member.ErrMemberNotFound
}

func (b *fakeBackend) MemberUpdate(_ context.Context, r *pb.MemberUpdateRequest) (*pb.MemberUpdateResponse, error) {
	return &pb.MemberUpdateResponse{Members: []*pb.Member{{ID: r.ID, PeerURLs: r.PeerURLs}}}, nil
}

func (b *fakeBackend) MemberPromote(context.Context, *pb.MemberPromoteRequest) (*pb.MemberPromoteResponse, error) {
	return nil, member.ErrLearnerNotReady
}

func (b *fakeBackend) MoveLeader(_ context.Context, to uint64) error {
	if to == 7 {
		return nil
	}
	return member.ErrBadTransferee
}

func (b *fakeBackend) Snapshot(context.Context) (member.Snapshot, error) {
	if b.snapshot == nil {
		return nil, member.ErrTooManySnapshots
	}
	return b.snapshot, nil
}

func (b *fakeBackend) Hash(context.Context) (*pb.HashResponse, error) {
	return &pb.HashResponse{Header: b.header(), Hash: 5}, nil
}

func (b *fakeBackend) HashKV(_ context.Context, revision int64) (*pb.HashKVResponse, error) {
	if revision > b.rev {
		return nil, kv.ErrFutureRevision
	}
	return &pb.HashKVResponse{Header: b.header(), Hash: 6, CompactRevision: -1, HashRevision: b.rev}, nil
}

func (b *fakeBackend) IsLearner() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.learner
}

func (b *fakeBackend) RaftReport() *conclavepb.RaftReport {
	return &conclavepb.RaftReport{MemberId: "7", Role: "leader"}
}

func (b *fakeBackend) Damaged() bool { return b.damaged.Load() }

func (b *fakeBackend) Corrupt() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.damaged.Load() || slices.ContainsFunc(b.alarms, func(a *pb.AlarmMember) bool { return a.Alarm == pb.AlarmType_CORRUPT })
}

func (b *fakeBackend) Defragment(context.Context) error {
	b.defrags.Add(1)
	return nil
}

func (b *fakeBackend) Stuck() time.Duration { return time.Duration(b.stuck.Load()) }

func (b *fakeBackend) Leader() uint64         { return b.leader.Load() }
func (b *fakeBackend) ClusterVersion() string { return *b.version.Load() }

// stall makes linearizable reads wait until their context is done.
func (b *fakeBackend) stall() {
	f := func(ctx context.Context, r *pb.RangeRequest) error {
		if r.Serializable {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}
	b.onRange.Store(&f)
}

// Anchors is of a member that anchored once.
func (b *fakeBackend) Anchors(_ context.Context, r *conclavepb.AnchorsRequest) (*conclavepb.AnchorsResponse, error) {
	return &conclavepb.AnchorsResponse{Anchors: []*conclavepb.Anchor{{Seq: r.GetMember(), Hash: make([]byte, 32)}}}, nil
}
