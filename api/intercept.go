package api

import (
	"context"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/rs/zerolog"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/auth"
	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/internal/lockpb"
)

// unknownAPIVersion stands for a client that names no API version.
const unknownAPIVersion = "unknown"

// interceptor is the one interceptor of unary calls and of streams: it counts,
// obeys the metadata, translates errors and logs slow calls. One instead of a
// chain, because a chain costs allocations on every put.
type interceptor struct {
	who     identifier
	audit   *auditor // nil: nothing is recorded
	metrics *rpcMetrics
	backend Backend
	streams *streams
	ready   <-chan struct{} // nil: at once
	log     zerolog.Logger
	slow    time.Duration // 0: slow calls are not logged
	debug   bool          // every call is logged
}

func (i *interceptor) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	start := time.Now()
	mm := i.metrics.methods[info.FullMethod]
	mm.started.Inc()
	mm.msgReceived.Inc()

	var resp any
	record := i.audit.begin(info.FullMethod, req, start)
	ctx, unknown := identify(ctx)
	wantsLeader, err := i.metadata(ctx, "unary")
	switch {
	case unknown != nil:
		err = unknown
	case err != nil:
	case !isReady(i.ready) && info.FullMethod != conclavepb.Debug_Raft_FullMethodName:
		err = errNotReady
	case i.backend.IsLearner() && !servedByLearners(req):
		err = rpctypes.ErrGRPCNotSupportedForLearner
	case i.backend.Damaged() && aboutKeys(info.FullMethod):
		err = rpctypes.ErrGRPCCorrupt
	case wantsLeader && i.backend.Leader() == 0:
		err = rpctypes.ErrGRPCNoLeader
	default:
		if ctx, err = i.who.admit(ctx, info.FullMethod, req); err == nil {
			if err = record.admit(ctx); err == nil {
				resp, err = handler(ctx, req)
			}
		}
	}
	why := err
	if err != nil {
		resp, err = nil, toGRPC(err)
	} else {
		mm.msgSent.Inc()
	}
	record.end(ctx, resp, why, err)
	mm.done(status.Code(err), start)
	if took := time.Since(start); i.debug || (i.slow > 0 && took > i.slow && !waits(info.FullMethod)) {
		i.logUnary(ctx, info.FullMethod, start, took, req, resp, err)
	}
	return resp, err
}

func (i *interceptor) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	mm := i.metrics.methods[info.FullMethod]
	start := time.Now()
	mm.started.Inc()
	err := toGRPC(i.runStream(srv, ss, mm, info, handler))
	mm.done(status.Code(err), start)
	return err
}

func (i *interceptor) runStream(srv any, ss grpc.ServerStream, mm *methodMetrics, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	caller, err := identify(ss.Context())
	if err != nil {
		return err
	}
	wantsLeader, err := i.metadata(caller, "stream")
	if err != nil {
		return err
	}
	if !isReady(i.ready) {
		return errNotReady
	}
	if i.backend.IsLearner() && info.FullMethod != pb.Maintenance_Snapshot_FullMethodName {
		return rpctypes.ErrGRPCNotSupportedForLearner
	}
	if i.backend.Damaged() && aboutKeys(info.FullMethod) {
		return rpctypes.ErrGRPCCorrupt
	}
	if wantsLeader && i.backend.Leader() == 0 {
		return rpctypes.ErrGRPCNoLeader
	}
	// These two carry many requests of a client, each of which is decided by itself.
	decided := info.FullMethod == pb.Watch_Watch_FullMethodName || info.FullMethod == pb.Lease_LeaseKeepAlive_FullMethodName
	stream := &serverStream{ServerStream: ss, metrics: mm}
	if !decided {
		record := i.audit.begin(info.FullMethod, nil, time.Now())
		stream.record = record
		defer func() { record.endStream(caller, nil, stream.served.Load(), err, toGRPC(err)) }()
		if caller, err = i.who.admitStream(caller, info.FullMethod); err != nil {
			return err
		}
	}
	ctx, done := i.streams.add(caller, wantsLeader)
	defer done()
	stream.ctx = ctx
	if !decided && !auth.OnState(info.FullMethod) {
		stream.admit = func(req any) error { return i.who.decide(ctx, info.FullMethod, req) }
	}
	err = handler(srv, stream)
	// A handler ended from this side only knows that its context is done; the
	// cause is what the client must hear.
	if cause := context.Cause(ctx); cause != nil && ss.Context().Err() == nil {
		return cause
	}
	return err
}

// aboutKeys tells the calls that a member with damaged data does not answer. How
// it is, who the members are, and what rebuilds it, it still does.
func aboutKeys(method string) bool {
	for _, service := range []string{
		"/etcdserverpb.KV/", "/etcdserverpb.Watch/", "/etcdserverpb.Lease/", "/v3lockpb.Lock/", "/v3electionpb.Election/",
		pb.Maintenance_Snapshot_FullMethodName,
	} {
		if strings.HasPrefix(method, service) {
			return true
		}
	}
	return false
}

// waits tells the calls that take as long as others let them wait.
func waits(method string) bool {
	return method == lockpb.Lock_Lock_FullMethodName || method == lockpb.Election_Campaign_FullMethodName
}

// servedByLearners says what a member without a vote answers: how it is, and
// reads of its own state.
func servedByLearners(req any) bool {
	switch r := req.(type) {
	case *pb.StatusRequest, *conclavepb.RaftReportRequest:
		return true
	case *pb.RangeRequest:
		return r.GetSerializable()
	}
	return false
}

// metadata obeys what every call may carry, and counts the client's version.
func (i *interceptor) metadata(ctx context.Context, kind string) (wantsLeader bool, err error) {
	version := unknownAPIVersion
	if v := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataClientAPIVersionKey); len(v) > 0 {
		if version = v[0]; !utf8.ValidString(version) {
			return false, errClientAPIVersion
		}
	}
	i.metrics.request(kind, version)
	return requiresLeader(ctx), nil
}

// requiresLeader tells whether a call is only good while there is a leader.
func requiresLeader(ctx context.Context) bool {
	v := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataRequireLeaderKey)
	return len(v) > 0 && v[0] == rpctypes.MetadataHasLeader
}

// logUnary writes etcd's "request stats": at debug level for every call, at
// warn for slow ones. Of the request only its size is told, never its content.
func (i *interceptor) logUnary(ctx context.Context, method string, start time.Time, took time.Duration, req, resp any, err error) {
	level := zerolog.DebugLevel
	if i.slow > 0 && took > i.slow {
		level = zerolog.WarnLevel
	}
	e := i.log.WithLevel(level).
		Time("start time", start).
		Str("time spent", took.String()).
		Str("response type", method).
		Int("request size", sizeOf(req)).
		Int("response size", sizeOf(resp))
	if p, ok := peer.FromContext(ctx); ok {
		e = e.Str("remote", p.Addr.String())
	}
	if err != nil {
		e = e.Str("error", status.Convert(err).Message())
	}
	e.Msg("request stats")
}

func sizeOf(m any) int {
	if p, ok := m.(proto.Message); ok && p != nil {
		return proto.Size(p)
	}
	return 0
}

// serverStream counts messages and carries the context of streams.add.
type serverStream struct {
	grpc.ServerStream
	ctx     context.Context
	metrics *methodMetrics
	admit   func(req any) error // nil: what is received is decided elsewhere
	record  *audited            // of the whole stream; not to be used once the call has ended
	served  atomic.Bool         // something was sent, perhaps by a goroutine that outlives the call
}

func (s *serverStream) Context() context.Context { return s.ctx }

func (s *serverStream) SendMsg(m any) error {
	err := s.ServerStream.SendMsg(m)
	if err == nil {
		s.metrics.msgSent.Inc()
		s.served.Store(true)
	}
	return err
}

func (s *serverStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil {
		s.metrics.msgReceived.Inc()
		s.record.about(m)
		if s.admit != nil {
			err = s.admit(m)
		}
		if err == nil {
			err = s.record.admit(s.ctx)
		}
	}
	return err
}
