package api

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// preface opens every HTTP/2 connection without TLS (RFC 9113, section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// tlsHandshakeRecord is the first byte of every TLS connection.
const tlsHandshakeRecord = 0x16

var (
	errTLSToPlain   = errors.New("client speaks TLS, this listener does not (its URL is http)")
	errNotHTTP2     = errors.New("client speaks HTTP/1, this listener serves gRPC only")
	errNoTLSSupport = errors.New("listener has an https URL, but no certificate is configured")
)

// door takes the connections of one socket, ends TLS, and gives each to the
// server for what it speaks. A connection has one handshake timeout to show
// that; until then it holds one of a bounded number of slots. While none is
// free further clients wait in the kernel's queue, and a connection that has
// had its time to say something (patience) is closed for the next one, so
// that silent connections keep nobody out.
type door struct {
	socket  *socket
	tls     *tls.Config // nil when the socket has no https URL
	grpc    *handover   // nil when the socket does not serve gRPC
	http    *handover   // nil when the socket serves gRPC only
	timeout time.Duration
	slots   chan struct{}
	log     zerolog.Logger

	// ready is closed when clients are let in, nil: at once. ended is closed
	// when they no longer are.
	ready, ended <-chan struct{}

	received, sent prometheus.Counter // bytes of gRPC connections

	mu      sync.Mutex
	pending map[*conn]time.Time // not yet handed over, with when it came; nil after close
	wg      sync.WaitGroup      // one per pending connection
}

// run accepts until the socket is closed, then waits for pending connections,
// which close has ended.
func (d *door) run(ctx context.Context) {
	defer d.wg.Wait()
	for backoff := time.Duration(0); ; {
		raw, err := d.socket.Accept()
		if err == nil {
			backoff = 0
			if !d.reserve(ctx) {
				_ = raw.Close()
				return
			}
			d.take(&conn{Conn: raw})
			continue
		}
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			return
		}
		// Out of file descriptors, or the client was gone already: the socket
		// is still good, so wait a little and go on.
		backoff = min(max(2*backoff, 5*time.Millisecond), time.Second)
		d.log.Warn().Err(err).Str("address", d.socket.Addr().String()).Msg("cannot accept a client connection, trying again")
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
			return
		}
	}
}

// patience is how long a connection may be silent while others wait. It is
// more than a handshake takes even when hundreds of clients come at once.
const patience = time.Second

// reserve takes a slot; false when ctx ended before one was free.
func (d *door) reserve(ctx context.Context) bool {
	for {
		select {
		case d.slots <- struct{}{}:
			return true
		default:
		}
		select {
		case d.slots <- struct{}{}:
			return true
		case <-time.After(d.dropOldest()):
		case <-ctx.Done():
			return false
		}
	}
}

// dropOldest closes the pending connection that has waited longest, if that is
// longer than patience, which frees its slot. It returns when to ask again.
func (d *door) dropOldest() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	var oldest *conn
	for c, since := range d.pending {
		if oldest == nil || since.Before(d.pending[oldest]) {
			oldest = c
		}
	}
	if oldest == nil {
		return patience // all slots are about to be free
	}
	if left := patience - time.Since(d.pending[oldest]); left > 0 {
		return left
	}
	_ = oldest.Conn.Close()
	delete(d.pending, oldest)
	return patience
}

// take looks at c on a goroutine of its own.
func (d *door) take(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pending == nil {
		_ = c.Close()
		<-d.slots
		return
	}
	d.pending[c] = time.Now()
	d.wg.Go(func() {
		to, ready, err := d.greet(c)
		d.mu.Lock()
		delete(d.pending, c)
		d.mu.Unlock()
		<-d.slots
		if err != nil {
			_ = c.Close()
			d.reject(c, err)
			return
		}
		to.give(ready)
	})
}

// close ends the socket and all pending connections.
func (d *door) close() {
	_ = d.socket.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.pending {
		_ = c.Conn.Close()
	}
	d.pending = nil
}

// greet finds out what c speaks: the server to give it to, and the connection
// to give, with TLS done.
func (d *door) greet(c *conn) (*handover, net.Conn, error) {
	if err := c.SetDeadline(time.Now().Add(d.timeout)); err != nil {
		return nil, nil, err
	}
	to, ready, err := d.route(c)
	if err != nil {
		return nil, nil, err
	}
	if to == d.grpc {
		c.received, c.sent = d.received, d.sent
	}
	return to, ready, c.SetDeadline(time.Time{})
}

func (d *door) route(c *conn) (*handover, net.Conn, error) {
	if !d.socket.plain {
		return d.secure(c)
	}
	first, err := c.peek(len(preface), noPreface)
	if err != nil {
		return nil, nil, err
	}
	if string(first) == debugPreface && d.grpc != nil {
		c.prefix = nil
		return d.grpc, c, nil
	}
	if first[0] != tlsHandshakeRecord { // with TLS it is known later
		if err := d.admit(c, nil); err != nil {
			return nil, nil, err
		}
	}
	switch {
	case first[0] == tlsHandshakeRecord && d.socket.tls:
		return d.secure(c)
	case first[0] == tlsHandshakeRecord:
		return nil, nil, errTLSToPlain
	case d.grpc != nil && string(first) == preface:
		return d.grpc, c, nil
	case d.http == nil:
		return nil, nil, errNotHTTP2
	}
	return d.http, c, nil
}

// noPreface tells that the bytes cannot become one of the prefaces any more.
func noPreface(seen []byte) bool {
	return string(seen) != preface[:len(seen)] && string(seen) != debugPreface[:len(seen)]
}

// secure does the TLS handshake. Who offers only h2 is a gRPC library and goes
// to grpc's own server; any other client goes to the HTTP server, which passes
// a gRPC request on (slower) should one come.
func (d *door) secure(c *conn) (*handover, net.Conn, error) {
	if d.tls == nil {
		return nil, nil, errNoTLSSupport
	}
	c.admit = d.admit
	t := tls.Server(c, d.tls)
	if err := t.Handshake(); err != nil {
		return nil, nil, err
	}
	state := t.ConnectionState()
	if len(state.PeerCertificates) > 0 {
		c.endAt(state.PeerCertificates[0].NotAfter)
	}
	if d.http == nil || (d.grpc != nil && speaksGRPC(c.protocols)) {
		return d.grpc, t, nil
	}
	return d.http, t, nil
}

// reject tells about a connection turned away. Those that said nothing (port
// checks, idle clients) are not worth a warning.
func (d *door) reject(c *conn, err error) {
	level := zerolog.WarnLevel
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		level = zerolog.DebugLevel
	}
	d.log.WithLevel(level).
		Str("remote-addr", c.RemoteAddr().String()).
		Str("server-name", c.serverName).
		Err(err).
		Msg("rejected connection on client endpoint")
}
