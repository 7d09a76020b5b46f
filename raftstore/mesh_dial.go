package raftstore

import (
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

// dialLoop keeps a connection to a peer open until ctx ends. It leaves the last
// one to whoever ended it: a loop with other URLs takes it over.
func (r *remote) dialLoop(ctx context.Context, urls []string) {
	wait := r.mesh.limits.backoff
	for attempt := 0; ctx.Err() == nil; attempt++ {
		err := errors.New("it has no peer URLs")
		if len(urls) > 0 {
			var s *session
			target := urls[attempt%len(urls)]
			s, err = r.mesh.dial(ctx, r, target)
			r.dialled(err)
			if err == nil {
				wait = r.mesh.limits.backoff
				if s.hold(ctx) {
					attempt-- // where it is known to answer
					continue
				}
			} else {
				err = fmt.Errorf("dial %s: %w", target, err)
			}
		}
		if ctx.Err() != nil {
			return
		}
		pause := wait
		if err != nil { // a session that ended has noted why already
			r.note(err)
			if errors.Is(err, ErrRemoved) {
				pause = r.mesh.limits.removed
			}
		}
		sleepContext(ctx, pause/2+rand.N(pause/2+1))
		wait = min(2*wait, maxBackoff)
	}
}

// hold waits until a dialled session has ended or is no longer wanted. It
// returns true when it is time to dial the one that takes its place.
func (s *session) hold(ctx context.Context) bool {
	var due <-chan time.Time
	if !s.renewAt.IsZero() {
		timer := time.NewTimer(time.Until(s.renewAt))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-due:
		return true
	case <-s.ended:
	case <-ctx.Done():
	}
	return false
}

// dial opens a session with a peer at one of its URLs, and starts it.
func (m *Mesh) dial(ctx context.Context, r *remote, target string) (*session, error) {
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
		settings = m.cfg.ClientTLS(r.id)
	}
	raw, err := m.cfg.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	s, h, err := m.openSession(ctx, raw, settings, r, addr)
	if err == nil {
		s.target, s.renewAt = target, renewal(time.Now(), h, m.limits.renewal)
		err = m.join(s, h, false)
	}
	if err != nil {
		raw.Close()
		return nil, err
	}
	m.wg.Go(s.run)
	return s, nil
}

// renewal is when a connection has to be dialled anew, so that none is missing
// when the first of both certificates ends; zero for not at all. A certificate
// about to end is not waited for: a new one would be in use by now.
func renewal(now time.Time, h handshake, before time.Duration) time.Time {
	end := h.expires
	if end.IsZero() || !h.ends.IsZero() && h.ends.Before(end) {
		end = h.ends
	}
	left := end.Sub(now)
	if end.IsZero() || left < time.Second {
		return time.Time{}
	}
	return end.Add(-min(left/4, before))
}

// openSession brings a dialled connection to a session that may be attached.
func (m *Mesh) openSession(ctx context.Context, raw net.Conn, settings *tls.Config, r *remote, addr string) (*session, handshake, error) {
	noDelay(raw)
	raw = newDirectConn(raw)
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
				return nil, handshake{}, errors.New("closed by the peer in the TLS handshake: does its URL say http?")
			}
			return nil, handshake{}, err
		}
		now := secured.ConnectionState()
		if now.NegotiatedProtocol != ALPNPeer {
			return nil, handshake{}, errors.New("the other side does not speak " + ALPNPeer)
		}
		conn, state = secured, &now
	}
	s := newSession(m, raw, conn, nil)
	s.br = newFrameReader(s.conn)
	h, err := m.greet(s.conn, s.br, state, r.id, r.reaches())
	if err != nil {
		if settings == nil && errors.Is(err, io.EOF) {
			return nil, handshake{}, errors.New("closed by the peer before its hello: does its URL say https?")
		}
		return nil, handshake{}, err
	}
	if !stop() {
		return nil, handshake{}, ctx.Err()
	}
	raw.SetDeadline(time.Time{})
	return s, h, nil
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
