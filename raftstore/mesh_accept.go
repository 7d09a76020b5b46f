package raftstore

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// acceptLoop owns ln. A failing accept (no file descriptors) is tried again.
func (m *Mesh) acceptLoop(ln net.Listener) {
	stop := context.AfterFunc(m.ctx, func() { ln.Close() })
	defer stop()
	defer ln.Close()
	wait := time.Duration(0)
	for {
		raw, err := ln.Accept()
		switch {
		case err == nil:
			wait = 0
		case m.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		default:
			wait = min(max(2*wait, 5*time.Millisecond), maxBackoff)
			m.complain("accept", "accept: "+sameTrouble(err), ln.Addr().String(), err)
			sleepContext(m.ctx, wait)
			continue
		}
		place, dropped := m.vestibule.enter(raw)
		if dropped {
			m.complain("too many connections on the peer port say no hello: closing the oldest", "no hello", raw.RemoteAddr().String(), nil)
		}
		m.wg.Go(func() { m.accept(raw, place) })
	}
}

// accept serves one accepted connection until it ends.
func (m *Mesh) accept(raw net.Conn, place *list.Element) {
	s, err := m.receive(raw)
	if !m.vestibule.leave(place) && err != nil {
		err = errNotOurs // closed to make room, which was said then
	}
	if errors.Is(err, errHandedOver) {
		return
	}
	if err != nil {
		raw.Close()
		if !errors.Is(err, errNotOurs) && m.ctx.Err() == nil {
			m.complain("rejected connection on peer endpoint", hostOf(raw)+": "+sameTrouble(err), raw.RemoteAddr().String(), err)
		}
		return
	}
	s.run()
}

var (
	// errNotOurs: the connection said nothing, or its end is noted already.
	errNotOurs = errors.New("not a session")
	// errHandedOver: the connection now belongs to the HTTP server.
	errHandedOver = errors.New("not a session but HTTP")
)

// receive brings an accepted connection to an attached session.
func (m *Mesh) receive(raw net.Conn) (*session, error) {
	noDelay(raw)
	raw = newDirectConn(raw)
	stop := context.AfterFunc(m.ctx, func() { raw.Close() })
	defer stop()
	raw.SetDeadline(time.Now().Add(m.limits.handshake))
	conn, state, err := m.serverTLS(raw)
	if err != nil {
		return nil, err
	}
	timed := newSession(m, raw, conn, nil)
	timed.br = newFrameReader(timed.conn)
	first, err := timed.br.Peek(1)
	if errors.Is(err, io.EOF) {
		return nil, errNotOurs // a port check
	}
	if err != nil {
		return nil, err
	}
	if m.web.takes(first[0], state) {
		raw.SetDeadline(time.Time{})
		m.web.serve(&webConn{Conn: conn, r: timed.br, state: state})
		return nil, errHandedOver
	}
	if state != nil && state.NegotiatedProtocol != ALPNPeer {
		return nil, fmt.Errorf("%q was negotiated, not %s", state.NegotiatedProtocol, ALPNPeer)
	}
	return timed, m.welcome(timed, state)
}

// welcome answers the hello of an accepted connection.
func (m *Mesh) welcome(s *session, state *tls.ConnectionState) error {
	h, err := m.receiveHello(s.br, state)
	var refused *RefusedError
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	if err == nil {
		err = m.join(s, h, true)
		errors.As(err, &refused)
	}
	if err != nil {
		_ = m.reply(s.conn, h, refused)
		if r := m.known(h.from); r != nil && !r.hears() {
			r.note(err)
		}
		return err
	}
	// The session is attached and may be given frames, but its writer starts
	// only after this.
	if err := m.reply(s.conn, h, nil); err != nil {
		s.close(err)
		s.peer.detach(s, err)
		return errNotOurs
	}
	s.raw.SetDeadline(time.Time{})
	return nil
}

// serverTLS wraps raw if the settings say so; state is nil for plaintext.
func (m *Mesh) serverTLS(raw net.Conn) (net.Conn, *tls.ConnectionState, error) {
	if m.cfg.ServerTLS == nil {
		return raw, nil, nil
	}
	cfg := withProtocols(m.cfg.ServerTLS())
	if inner := cfg.GetConfigForClient; inner != nil {
		cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := inner(hello)
			if chosen != nil {
				chosen = withProtocols(chosen)
			}
			return chosen, err
		}
	}
	conn := tls.Server(raw, cfg)
	ctx, cancel := context.WithTimeout(m.ctx, m.limits.handshake)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil, errNotOurs // a port check
		}
		return nil, nil, err
	}
	state := conn.ConnectionState()
	return conn, &state, nil
}

// withProtocols adds what the peer port speaks.
func withProtocols(cfg *tls.Config) *tls.Config {
	cfg = cfg.Clone()
	cfg.NextProtos = slices.Clone(cfg.NextProtos)
	for _, name := range []string{ALPNPeer, "http/1.1"} {
		if !slices.Contains(cfg.NextProtos, name) {
			cfg.NextProtos = append(cfg.NextProtos, name)
		}
	}
	return cfg
}

// noDelay: frames are written whole, so there is nothing to wait for.
func noDelay(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetNoDelay(true)
		tcp.SetKeepAlive(true)
		tcp.SetKeepAlivePeriod(15 * time.Second)
	}
}

func hostOf(conn net.Conn) string {
	host, _, err := net.SplitHostPort(conn.RemoteAddr().String())
	if err != nil {
		return conn.RemoteAddr().String()
	}
	return host
}

// sleepContext waits for d, or less if ctx ends.
func sleepContext(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// vestibule holds the accepted connections that have not said hello, in the
// order they came. Whoever opens connections and says nothing must not keep
// memory, nor keep members out: where there are too many, the one that has had
// the most time is closed for the newest.
type vestibule struct {
	mu    sync.Mutex
	order list.List // of net.Conn
}

// enter notes raw, and reports whether another one was closed for it.
func (v *vestibule) enter(raw net.Conn) (place *list.Element, dropped bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.order.Len() >= maxHandshakes {
		oldest, _ := v.order.Remove(v.order.Front()).(net.Conn)
		oldest.Close()
		dropped = true
	}
	return v.order.PushBack(raw), dropped
}

// leave forgets a connection; false if it was closed for another one.
func (v *vestibule) leave(place *list.Element) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	before := v.order.Len()
	v.order.Remove(place)
	return v.order.Len() < before
}

// complaints says which warnings about strangers were logged lately.
type complaints struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// Strangers retry; one warning a minute for each host and reason is enough.
const (
	complaintEvery = time.Minute
	maxComplaints  = 256
)

func (c *complaints) due(key string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if last, ok := c.last[key]; ok && now.Sub(last) < complaintEvery {
		return false
	}
	if c.last == nil || len(c.last) >= maxComplaints {
		c.last = map[string]time.Time{}
	}
	c.last[key] = now
	return true
}

func (m *Mesh) complain(msg, key, addr string, err error) {
	if m.complaints.due(key, time.Now()) {
		m.cfg.Log.Warn().Str("remote-addr", addr).Err(err).Msg(msg)
	}
}
