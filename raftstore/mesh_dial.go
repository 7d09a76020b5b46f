package raftstore

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"time"
)

// dialLoop keeps the connection to a peer open until ctx ends.
func (r *remote) dialLoop(ctx context.Context, urls []string) {
	wait := r.mesh.limits.backoff
	for attempt := 0; ctx.Err() == nil; attempt++ {
		err := errors.New("it has no peer URLs")
		if len(urls) > 0 {
			var s *session
			target := urls[attempt%len(urls)]
			if s, err = r.mesh.dial(ctx, r.id, target); err == nil {
				wait = r.mesh.limits.backoff
				err = r.serveDialled(ctx, s)
			} else {
				err = fmt.Errorf("dial %s: %w", target, err)
			}
		}
		if ctx.Err() != nil {
			return
		}
		// A session that ended has noted why already; a dial has not.
		if !errors.Is(err, errSessionEnded) {
			r.note(err)
		}
		sleepContext(ctx, wait/2+rand.N(wait/2+1))
		wait = min(2*wait, maxBackoff)
	}
}

var errSessionEnded = errors.New("session ended")

// serveDialled runs s until it ends or is no longer wanted.
func (r *remote) serveDialled(ctx context.Context, s *session) error {
	stop := context.AfterFunc(ctx, func() {
		if r.mesh.ctx.Err() == nil { // else the writer says farewell first
			s.close(errAddressChanged)
		}
	})
	defer stop()
	return fmt.Errorf("%w: %w", errSessionEnded, s.run())
}

// dial opens a session with peer at one of its URLs.
func (m *Mesh) dial(ctx context.Context, peer uint64, target string) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, m.limits.handshake)
	defer cancel()
	network, addr, secure, err := dialTarget(target)
	if err != nil {
		return nil, err
	}
	var settings *tls.Config
	if secure {
		if m.cfg.ClientTLS == nil {
			return nil, errors.New("no peer certificate is configured for an https URL")
		}
		settings = m.cfg.ClientTLS(peer)
	}
	raw, err := m.cfg.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	s, err := m.openSession(ctx, raw, settings, peer, addr)
	if err != nil {
		raw.Close()
		return nil, err
	}
	return s, nil
}

// openSession brings a dialled connection to an attached session.
func (m *Mesh) openSession(ctx context.Context, raw net.Conn, settings *tls.Config, peer uint64, addr string) (*session, error) {
	noDelay(raw)
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	deadline, _ := ctx.Deadline()
	raw.SetDeadline(deadline)
	conn := raw
	var state *tls.ConnectionState
	if settings != nil {
		secured := tls.Client(raw, clientSettings(settings, addr))
		if err := secured.HandshakeContext(ctx); err != nil {
			if errors.Is(err, io.EOF) {
				return nil, errors.New("closed by the peer in the TLS handshake: does its URL say http?")
			}
			return nil, err
		}
		now := secured.ConnectionState()
		if now.NegotiatedProtocol != ALPNPeer {
			return nil, errors.New("the other side does not speak " + ALPNPeer)
		}
		conn, state = secured, &now
	}
	s := newSession(m, raw, conn, nil)
	s.br = bufio.NewReaderSize(s.conn, 64<<10)
	h, err := m.greet(s.conn, s.br, state, peer)
	if err != nil {
		if settings == nil && errors.Is(err, io.EOF) {
			return nil, errors.New("closed by the peer before its hello: does its URL say https?")
		}
		return nil, err
	}
	if !stop() {
		return nil, ctx.Err()
	}
	raw.SetDeadline(time.Time{})
	return s, m.join(s, h, false)
}

func clientSettings(settings *tls.Config, addr string) *tls.Config {
	settings = settings.Clone()
	settings.NextProtos = []string{ALPNPeer}
	if settings.ServerName == "" {
		settings.ServerName = addr
		if host, _, err := net.SplitHostPort(addr); err == nil {
			settings.ServerName = host
		}
	}
	return settings
}

// dialTarget reads a peer URL.
func dialTarget(target string) (network, addr string, secure bool, err error) {
	u, err := url.Parse(target)
	if err != nil {
		return "", "", false, fmt.Errorf("peer URL: %w", err)
	}
	switch u.Scheme {
	case "http", "https":
		if u.Port() == "" {
			return "", "", false, fmt.Errorf("peer URL %q has no port", target)
		}
		return "tcp", u.Host, u.Scheme == "https", nil
	case "unix", "unixs":
		return "unix", u.Host + u.Path, u.Scheme == "unixs", nil
	default:
		return "", "", false, fmt.Errorf("peer URL %q: the scheme must be http or https", target)
	}
}
