package api

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// ticketKey is the metadata by which a call on a link names its caller. It means
// nothing on any other connection, and HTTP clients cannot set it (metadataOf).
const ticketKey = "conclave-caller"

// errUnknownCaller cannot happen while the gateway is the only user of a link.
var errUnknownCaller = status.Error(codes.Internal, "api: a call through the gateway without its caller")

// links makes the gateway's connections to the gRPC server of this process.
type links struct {
	to      *handover
	metrics *rpcMetrics
	callers *callers
}

// link is the server's end of one. Its type is what tells it from a client's
// connection.
type link struct {
	*conn
	callers *callers
}

// dial hands the gRPC server one end of a pipe and returns the other.
func (l *links) dial(ctx context.Context, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	server := &link{conn: &conn{Conn: theirs, received: l.metrics.received, sent: l.metrics.sent}, callers: l.callers}
	select {
	case l.to.conns <- server:
		return ours, nil
	case <-l.to.done:
		_ = theirs.Close()
		return nil, net.ErrClosed
	case <-ctx.Done():
		_ = theirs.Close()
		return nil, ctx.Err()
	}
}

// linkInfo is what gRPC knows of who is at the other end of a link.
type linkInfo struct {
	credentials.CommonAuthInfo
	callers *callers
}

// AuthType is required by gRPC.
func (linkInfo) AuthType() string { return "gateway" }

// callers knows who made each HTTP request that is under way. What is looked
// up is the very state of the client's own connection, so that there is
// nothing to forge.
type callers struct {
	mu   sync.Mutex
	last uint64
	open map[string]*caller // by ticket
}

// caller is who made one of them.
type caller struct {
	*peer.Peer
	mu   sync.Mutex
	left bool
	kept []func()
}

// callerInContext is the key of a JSON call's caller in its context.
type callerInContext struct{}

// callerOf returns the caller of a JSON call, nil for a gRPC one.
func callerOf(ctx context.Context) *caller {
	c, _ := ctx.Value(callerInContext{}).(*caller)
	return c
}

// atEnd has fn called when the HTTP request has its answer, or has gone.
func (c *caller) atEnd(fn func()) {
	c.mu.Lock()
	left := c.left
	if !left {
		c.kept = append(c.kept, fn)
	}
	c.mu.Unlock()
	if left {
		fn()
	}
}

// leave calls what waits for the end.
func (c *caller) leave() {
	c.mu.Lock()
	c.left = true
	c.mu.Unlock()
	for _, fn := range c.kept {
		fn()
	}
}

func newCallers() *callers { return &callers{open: make(map[string]*caller)} }

// enter gives the caller of r a ticket, which is good until leave.
func (c *callers) enter(r *http.Request) (ticket string, leave func()) {
	p := &caller{Peer: &peer.Peer{Addr: addrText(r.RemoteAddr)}}
	if r.TLS != nil {
		p.AuthInfo = credentials.TLSInfo{
			State:          *r.TLS,
			CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	ticket = strconv.FormatUint(c.last, 10)
	c.open[ticket] = p
	return ticket, func() {
		c.mu.Lock()
		delete(c.open, ticket)
		c.mu.Unlock()
		p.leave()
	}
}

// identify returns ctx with the peer whose call this is: on a link the HTTP
// client, elsewhere who is connected.
func identify(ctx context.Context) (context.Context, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ctx, nil
	}
	info, ok := p.AuthInfo.(linkInfo)
	if !ok {
		return ctx, nil
	}
	tickets := metadata.ValueFromIncomingContext(ctx, ticketKey)
	if len(tickets) != 1 {
		return ctx, errUnknownCaller
	}
	caller := info.callers.find(tickets[0])
	if caller == nil {
		return ctx, errUnknownCaller
	}
	return context.WithValue(peer.NewContext(ctx, caller.Peer), callerInContext{}, caller), nil
}

func (c *callers) find(ticket string) *caller {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open[ticket]
}

// addrText is an address as net/http gives it.
type addrText string

// Network is required by net.Addr.
func (addrText) Network() string { return "tcp" }

// String is the address.
func (a addrText) String() string { return string(a) }
