package api

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"go.etcd.io/etcd/api/v3/etcdserverpb/gw"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/internal/lockpb"
)

// gatewayServices are the services with a JSON form: POST /v3/..., as etcd's
// published gateway code routes them. A service that is not registered with
// gRPC yet answers Unimplemented (501).
var gatewayServices = []func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error{
	gw.RegisterKVHandler,
	gw.RegisterLeaseHandler,
	gw.RegisterWatchHandler,
	gw.RegisterAuthHandler,
	gw.RegisterClusterHandler,
	gw.RegisterMaintenanceHandler,
	lockpb.RegisterLockHandler,
	lockpb.RegisterElectionHandler,
}

// gateway turns JSON requests into gRPC calls and their answers into JSON. The
// calls travel over one connection in memory (link) to the server's own gRPC
// server, so that whatever holds for a gRPC client (limits, interceptor,
// metrics, errors) holds for a JSON client because it is the same code; handlers
// called directly would pass by all of it. One connection for all of them also
// means that --max-concurrent-streams bounds them together, as in etcd.
type gateway struct {
	mux     *runtime.ServeMux
	conn    *grpc.ClientConn
	callers *callers
	limits  jsonLimits
	pings   time.Duration // between those to a WebSocket, and for the answer

	stopping, ctx context.Context // of WebSockets: until drain, until close
	stop, end     context.CancelFunc

	mu      sync.Mutex // orders running.Add before stop's Wait
	stopped bool
	running sync.WaitGroup // requests
}

// newGateway makes the gateway to what serves l. It connects with the first
// request.
func newGateway(l *links, o Options) (*gateway, error) {
	conn, err := grpc.NewClient("passthrough:///gateway",
		grpc.WithContextDialer(l.dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)),
		grpc.WithMaxHeaderListSize(maxHeaderList),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
	)
	if err != nil {
		return nil, err
	}
	g := &gateway{
		conn: conn, callers: l.callers, pings: o.IdleTimeout / 2,
		limits: jsonLimits{maxJSON(o.MaxRequestBytes), o.BodyTimeout, o.AnswerTimeout},
	}
	g.stopping, g.stop = context.WithCancel(context.Background())
	g.ctx, g.end = context.WithCancel(context.Background())
	g.mux = runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.HTTPBodyMarshaler{Marshaler: newMarshaler()}),
		runtime.WithIncomingHeaderMatcher(metadataOf),
		runtime.WithMetadata(func(ctx context.Context, _ *http.Request) metadata.MD { return ticketOf(ctx) }),
		runtime.WithErrorHandler(gatewayError),
		runtime.WithStreamErrorHandler(func(ctx context.Context, err error) *status.Status { return status.Convert(limit(ctx, err)) }),
	)
	for _, register := range gatewayServices {
		if err := register(context.Background(), g.mux, conn); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	return g, nil
}

// maxJSON bounds one JSON message, in bytes. Base64 makes four bytes of three;
// the rest is for names and escapes. What passes and is too large as a message
// gets gRPC's own answer.
func maxJSON(maxRequestBytes int) int64 {
	return 2 * int64(maxRequestBytes+grpcOverhead)
}

// metadataOf names the metadata that an HTTP header becomes, as etcd does it,
// except for the one that tells who the caller is.
func metadataOf(header string) (string, bool) {
	key, ok := runtime.DefaultHeaderMatcher(header)
	return key, ok && !strings.EqualFold(key, ticketKey)
}

// ServeHTTP answers one request below /v3/.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !g.begin() {
		http.Error(w, "the member stops", http.StatusServiceUnavailable)
		return
	}
	defer g.running.Done()
	if isWebSocket(r) {
		g.serveWebSocket(w, r)
		return
	}
	ticket, leave := g.callers.enter(r)
	defer leave()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	control := http.NewResponseController(w)
	b := newBody(r.Body, control, g.limits, cancel)
	r = r.WithContext(context.WithValue(ctx, inboundInContext{}, inbound{ticket, b}))
	r.Body = b
	if r.ContentLength != 0 {
		b.wait()
	}
	out := &pacedWriter{ResponseWriter: w, control: control, timeout: g.limits.answer}
	defer func() { b.end(out.duplex) }()
	g.mux.ServeHTTP(out, r)
}

func (g *gateway) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return false
	}
	g.running.Add(1)
	return true
}

// drain takes no further requests and waits for the running ones until ctx is
// done. Their calls end with the gRPC server's.
func (g *gateway) drain(ctx context.Context) {
	g.mu.Lock()
	g.stopped = true
	g.mu.Unlock()
	g.stop()
	ended := make(chan struct{})
	go func() {
		g.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

// close ends the connection. No request may be running any more, or it fails.
func (g *gateway) close() {
	g.end()
	_ = g.conn.Close()
}

// inbound is what is known of a request while its call is under way.
type inbound struct {
	ticket string
	body   *body // nil for a WebSocket
}

// inboundInContext is the key of what is known in its context.
type inboundInContext struct{}

// ticketOf is the metadata for the call of a request.
func ticketOf(ctx context.Context) metadata.MD {
	c, _ := ctx.Value(inboundInContext{}).(inbound)
	return metadata.Pairs(ticketKey, c.ticket)
}

// gatewayError answers as etcd does, but for what limit tells.
func gatewayError(ctx context.Context, mux *runtime.ServeMux, m runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	if passed := limit(ctx, err); status.Code(passed) == codes.DeadlineExceeded && !errors.Is(passed, err) {
		err = &runtime.HTTPStatusError{HTTPStatus: http.StatusRequestTimeout, Err: passed}
	} else {
		err = passed
	}
	runtime.DefaultHTTPErrorHandler(ctx, mux, m, w, r, err)
}

// limit is the limit that a request's body has passed, else err: a message too
// large gets the answer of gRPC, and one that does not come one of its own.
func limit(ctx context.Context, err error) error {
	c, ok := ctx.Value(inboundInContext{}).(inbound)
	if !ok || c.body == nil {
		return err
	}
	failed := c.body.failed.Load()
	switch {
	case failed == nil:
	case errors.Is(*failed, errBodyTooLarge):
		return status.Error(codes.ResourceExhausted, (*failed).Error())
	case errors.Is(*failed, errBodySlow):
		return status.Error(codes.DeadlineExceeded, (*failed).Error())
	}
	return err
}
