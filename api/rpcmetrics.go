package api

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// maxAPIVersions bounds how many `client-api-version` values get a series of
// their own; the value is the client's to choose.
const maxAPIVersions = 64

// maxAPIVersion is how long such a value may be, in bytes: it stays for ever.
const maxAPIVersion = 64

// rpcMetrics counts calls under the names of etcd and of grpc-prometheus. All
// series of a method are resolved when its service is registered, so that a
// call costs one map lookup and four atomic additions.
type rpcMetrics struct {
	started, handled, msgReceived, msgSent *prometheus.CounterVec
	clientRequests                         *prometheus.CounterVec
	handling                               *prometheus.HistogramVec // nil unless asked for
	received, sent                         prometheus.Counter

	methods map[string]*methodMetrics // by full method name; fixed before serving

	mu       sync.Mutex // writers of versions
	versions atomic.Pointer[map[apiVersion]prometheus.Counter]
}

type apiVersion struct{ kind, version string }

// methodMetrics are the resolved series of one method.
type methodMetrics struct {
	started, msgReceived, msgSent prometheus.Counter
	handled                       [codes.Unauthenticated + 1]prometheus.Counter
	handling                      prometheus.Observer // nil unless asked for
}

func newRPCMetrics(reg prometheus.Registerer, handling bool) (*rpcMetrics, error) {
	method := []string{"grpc_type", "grpc_service", "grpc_method"}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &rpcMetrics{
		started:     vec("grpc_server_started_total", "Total number of RPCs started on the server.", method...),
		handled:     vec("grpc_server_handled_total", "Total number of RPCs completed on the server, regardless of success or failure.", append(method, "grpc_code")...),
		msgReceived: vec("grpc_server_msg_received_total", "Total number of RPC stream messages received on the server.", method...),
		msgSent:     vec("grpc_server_msg_sent_total", "Total number of gRPC stream messages sent by the server.", method...),
		clientRequests: vec("etcd_server_client_requests_total", "The total number of client requests per client version.",
			"type", "client_api_version"),
		received: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "etcd_network_client_grpc_received_bytes_total", Help: "The total number of bytes received from grpc clients."}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "etcd_network_client_grpc_sent_bytes_total", Help: "The total number of bytes sent to grpc clients."}),
		methods: make(map[string]*methodMetrics),
	}
	m.versions.Store(&map[apiVersion]prometheus.Counter{})
	if handling {
		m.handling = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "grpc_server_handling_seconds",
			Help: "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server."}, method)
		if err := reg.Register(m.handling); err != nil {
			return nil, err
		}
	}
	return m, registerAll(reg, m.started, m.handled, m.msgReceived, m.msgSent, m.clientRequests, m.received, m.sent)
}

// registerAll registers every collector, stopping at the first refusal.
func registerAll(reg prometheus.Registerer, cs ...prometheus.Collector) error {
	for _, c := range cs {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// resolve creates the series of every method the server has.
func (m *rpcMetrics) resolve(services map[string]grpc.ServiceInfo) {
	for service, info := range services {
		for _, method := range info.Methods {
			m.methods["/"+service+"/"+method.Name] = m.method(kindOf(method), service, method.Name)
		}
	}
}

func (m *rpcMetrics) method(kind, service, name string) *methodMetrics {
	mm := &methodMetrics{
		started:     m.started.WithLabelValues(kind, service, name),
		msgReceived: m.msgReceived.WithLabelValues(kind, service, name),
		msgSent:     m.msgSent.WithLabelValues(kind, service, name),
	}
	if m.handling != nil {
		mm.handling = m.handling.WithLabelValues(kind, service, name)
	}
	for c := range mm.handled {
		mm.handled[c] = m.handled.WithLabelValues(kind, service, name, codes.Code(c).String())
	}
	return mm
}

func kindOf(m grpc.MethodInfo) string {
	switch {
	case m.IsClientStream && m.IsServerStream:
		return "bidi_stream"
	case m.IsClientStream:
		return "client_stream"
	case m.IsServerStream:
		return "server_stream"
	}
	return "unary"
}

// done counts the end of a call that began at start; codes beyond the published ones
// as Unknown.
func (mm *methodMetrics) done(c codes.Code, start time.Time) {
	if mm.handling != nil {
		mm.handling.Observe(time.Since(start).Seconds())
	}
	if int(c) >= len(mm.handled) {
		c = codes.Unknown
	}
	mm.handled[c].Inc()
}

// request counts a call by the API version its client names. A long one, and once
// maxAPIVersions are known any further one, is counted as "unknown".
func (m *rpcMetrics) request(kind, version string) {
	if len(version) > maxAPIVersion {
		version = unknownAPIVersion
	}
	key := apiVersion{kind, version}
	if c, ok := (*m.versions.Load())[key]; ok {
		c.Inc()
		return
	}
	m.addVersion(key).Inc()
}

func (m *rpcMetrics) addVersion(key apiVersion) prometheus.Counter {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := *m.versions.Load()
	if c, ok := known[key]; ok {
		return c
	}
	if len(known) >= maxAPIVersions {
		return m.clientRequests.WithLabelValues(key.kind, unknownAPIVersion)
	}
	next := make(map[apiVersion]prometheus.Counter, len(known)+1)
	for k, c := range known {
		next[k] = c
	}
	c := m.clientRequests.WithLabelValues(key.kind, key.version)
	next[key] = c
	m.versions.Store(&next)
	return c
}
