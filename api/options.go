package api

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/audit"
	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// grpcOverhead is what a gRPC message may exceed MaxRequestBytes by, so that
// a request slightly too large gets etcd's answer instead of gRPC's.
const grpcOverhead = 512 << 10

// Options assemble a Server. Backend, Listeners and Registry are required, TLS
// as soon as a URL is https or unixs; zero values of the rest mean the default.
type Options struct {
	Backend   Backend
	Listeners *Listeners // owned by the Server after New has succeeded
	// TLS serves every https and unixs URL. GetConfigForClient may be set, to
	// change certificates without a restart; protocols (ALPN) are set here.
	TLS      *tls.Config
	Registry *prometheus.Registry
	Log      zerolog.Logger

	// Ready, when closed, lets clients in; until then only the metrics URLs
	// are served, and reports (conclave debug raft), and other clients wait for
	// an answer to their connecting. Nil: at once.
	Ready <-chan struct{}
	// CertificateUser finds the user in a client's verified certificate, where it
	// has no token (--client-cert-auth); nil: certificates name nobody.
	CertificateUser func(*x509.Certificate) string
	// Certificates issues certificates to clients that show one; nil: the
	// service is not there.
	Certificates conclavepb.PKIServer
	// Audit takes a record of what clients ask for; nil: there is no audit log. The
	// caller closes it after the Server. SignedTokens: tokens are JWT.
	Audit        *audit.Log
	SignedTokens bool
	// HandlingSeconds has the metrics tell how long calls take (--metrics extensive).
	HandlingSeconds bool
	// Profiling serves /debug/pprof/ (--enable-pprof).
	Profiling bool

	// NoGateway leaves out the JSON gateway (--enable-grpc-gateway=false).
	NoGateway bool
	// Origins are those whose pages may use the gateway besides its own
	// (--cors); "*" names none. Hosts, if any and not "*", are the only ones
	// that plaintext HTTP requests may be addressed to (--host-whitelist).
	// Names are the hosts of the URLs clients reach this member by.
	Origins, Hosts, Names []string

	MaxRequestBytes int    // default 1.5 MiB (--max-request-bytes)
	MaxTxnOps       int    // per list; default 128 (--max-txn-ops)
	MaxStreams      uint32 // per connection; default 2^32-1 (--max-concurrent-streams)
	MaxHandshakes   int    // connections per socket that have not shown what they speak; default 1024

	KeepaliveMinTime  time.Duration // least time between a client's pings; default 5 s
	KeepaliveInterval time.Duration // between the server's pings; default 2 h
	KeepaliveTimeout  time.Duration // for the answer to a ping; default 20 s
	HandshakeTimeout  time.Duration // from accept until it is known what the client speaks; default 10 s
	HeaderTimeout     time.Duration // for an HTTP request's header; default 10 s
	BodyTimeout       time.Duration // between two pieces of a JSON message, a sixth of the time for a whole one; default 10 s
	AnswerTimeout     time.Duration // for a JSON client to take the next 256 KiB of an answer; default 1 min
	IdleTimeout       time.Duration // of an HTTP connection between requests; default 2 min
	ElectionTimeout   time.Duration // default 1 s (--election-timeout)
	RequestTimeout    time.Duration // of a health check's read; default 5 s + 2 election timeouts
	StopTimeout       time.Duration // for calls to end by themselves at Close; default RequestTimeout
	// WatchProgressInterval is how often watches that ask for it are told how far
	// they are; default 10 min (--watch-progress-notify-interval).
	WatchProgressInterval time.Duration
	SlowRequest           time.Duration // longer unary calls are logged; default 300 ms, negative: none

	snapshotPace snapshotPace // default defaultPace; for tests
}

// withDefaults fills what is zero and refuses what cannot work.
func (o Options) withDefaults() (Options, error) {
	switch {
	case o.Backend == nil:
		return o, errors.New("api: no backend given")
	case o.Listeners == nil:
		return o, errors.New("api: no listeners given")
	case o.Registry == nil:
		return o, errors.New("api: no metrics registry given")
	}
	for _, s := range o.Listeners.sockets {
		if s.tls && o.TLS == nil {
			return o, errNoTLSSupport
		}
	}
	orDefault(&o.MaxRequestBytes, 3<<19)
	orDefault(&o.MaxTxnOps, 128)
	orDefault(&o.MaxStreams, math.MaxUint32)
	orDefault(&o.MaxHandshakes, 1024)
	orDefault(&o.KeepaliveMinTime, 5*time.Second)
	orDefault(&o.KeepaliveInterval, 2*time.Hour)
	orDefault(&o.KeepaliveTimeout, 20*time.Second)
	orDefault(&o.HandshakeTimeout, 10*time.Second)
	orDefault(&o.HeaderTimeout, 10*time.Second)
	orDefault(&o.BodyTimeout, 10*time.Second)
	orDefault(&o.AnswerTimeout, time.Minute)
	orDefault(&o.IdleTimeout, 2*time.Minute)
	orDefault(&o.ElectionTimeout, time.Second)
	orDefault(&o.RequestTimeout, 5*time.Second+2*o.ElectionTimeout)
	orDefault(&o.StopTimeout, o.RequestTimeout)
	orDefault(&o.WatchProgressInterval, 10*time.Minute)
	orDefault(&o.SlowRequest, 300*time.Millisecond)
	orDefault(&o.snapshotPace, defaultPace)
	return o, nil
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
