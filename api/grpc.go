package api

import (
	"math"

	"github.com/rs/zerolog"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/internal/lockpb"
)

// maxHeaderList bounds a call's metadata, in bytes before compression.
const maxHeaderList = 1 << 20

// streamWorkers is how many goroutines wait for calls to answer. A new one for
// each call has to grow its stack several times, which is an eighth of what a
// get costs; what comes when all of them are busy gets one of its own.
const streamWorkers = 512

// What a client may send before it is read, in bytes: on a stream any one
// request, and a few on a connection. Windows that gRPC sizes by itself would
// cost a ping and its answer for nearly every request, which is as much traffic
// as the request.
const (
	streamWindow     = 2 << 20
	connectionWindow = 2 * streamWindow
)

// newGRPC makes the gRPC server with every service on it.
func (s *Server) newGRPC() {
	o := s.opts
	who := identifier{backend: o.Backend, certificateUser: o.CertificateUser}
	s.audit = newAuditor(o, who)
	i := &interceptor{
		who:     who,
		audit:   s.audit,
		metrics: s.metrics,
		backend: o.Backend,
		streams: s.streams,
		ready:   o.Ready,
		log:     o.Log,
		slow:    o.SlowRequest,
		debug:   o.Log.GetLevel() <= zerolog.DebugLevel,
	}
	sent := newSending(codec{encoding.GetCodecV2(proto.Name)})
	s.grpc = grpc.NewServer(
		grpc.ForceServerCodecV2(sent),
		grpc.Creds(newHandshaken()),
		grpc.UnaryInterceptor(i.unary),
		grpc.StreamInterceptor(i.stream),
		grpc.MaxRecvMsgSize(o.MaxRequestBytes+grpcOverhead),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.MaxConcurrentStreams(o.MaxStreams),
		grpc.MaxHeaderListSize(maxHeaderList),
		grpc.ConnectionTimeout(o.HandshakeTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: o.KeepaliveMinTime}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: o.KeepaliveInterval, Timeout: o.KeepaliveTimeout}),
		grpc.WaitForHandlers(true),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connectionWindow),
	)
	validate := validator{maxTxnOps: o.MaxTxnOps, maxRequestBytes: o.MaxRequestBytes}
	pb.RegisterKVServer(s.grpc, &kvService{backend: o.Backend, validate: validate, sending: sent})
	waiting := &queue{kv: &kvService{backend: o.Backend, validate: validate}, streams: s.streams, cleanup: o.RequestTimeout, renewal: ownLeaseRenewal}
	lockpb.RegisterLockServer(s.grpc, &lockService{queue: waiting})
	lockpb.RegisterElectionServer(s.grpc, &electionService{queue: waiting})
	pb.RegisterLeaseServer(s.grpc, &leaseService{backend: o.Backend, who: who, audit: s.audit, receive: &s.wg})
	pb.RegisterWatchServer(s.grpc, &watchService{
		backend: o.Backend, who: who, audit: s.audit, fragment: o.MaxRequestBytes + grpcOverhead, notify: o.WatchProgressInterval, receive: &s.wg,
	})
	pb.RegisterAuthServer(s.grpc, authService{AuthBackend: o.Backend})
	pb.RegisterClusterServer(s.grpc, &clusterService{backend: o.Backend})
	pb.RegisterMaintenanceServer(s.grpc, &maintenanceService{backend: o.Backend, pace: o.snapshotPace, sending: &s.wg})
	conclavepb.RegisterDebugServer(s.grpc, &debugService{backend: o.Backend, ready: o.Ready})
	conclavepb.RegisterAuditServer(s.grpc, &auditService{backend: o.Backend})
	hs := health.NewServer() // SERVING for "" from the start
	grpc_health_v1.RegisterHealthServer(s.grpc, hs)
	s.health = hs
	if o.Certificates != nil {
		conclavepb.RegisterPKIServer(s.grpc, &certificates{issuer: o.Certificates, backend: o.Backend})
	}
	s.metrics.resolve(s.grpc.GetServiceInfo())
}
