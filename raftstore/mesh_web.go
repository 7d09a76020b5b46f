package raftstore

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// webDoor serves what speaks HTTP/1 on the peer port.
type webDoor struct {
	mesh   *Mesh
	server *http.Server
	ln     *webListener
	open   sync.WaitGroup // connections
	count  atomic.Int32
}

// maxWebConns bounds the HTTP connections on the peer port.
const maxWebConns = 256

type webStateKey struct{}

func newWebDoor(m *Mesh) *webDoor {
	if m.cfg.HTTP == nil {
		return &webDoor{mesh: m}
	}
	w := &webDoor{mesh: m, ln: &webListener{conns: make(chan net.Conn), done: make(chan struct{})}}
	w.server = &http.Server{
		Handler:           http.HandlerFunc(w.answer),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          log.New(warnings{m.cfg.Log}, "", 0),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, webStateKey{}, conn.(*webConn).state)
		},
		ConnState: w.track,
	}
	m.wg.Go(func() { _ = w.server.Serve(w.ln) })
	return w
}

// takes says whether a connection that begins with first is for HTTP. A
// connection negotiated for sessions is not.
func (w *webDoor) takes(first byte, state *tls.ConnectionState) bool {
	if w.server == nil || first < 'A' || first > 'Z' {
		return false
	}
	return state == nil || state.NegotiatedProtocol != ALPNPeer
}

func (w *webDoor) serve(conn net.Conn) {
	if w.count.Load() >= maxWebConns {
		conn.Close()
		return
	}
	select {
	case w.ln.conns <- conn:
	case <-w.ln.done:
		conn.Close()
	}
}

func (w *webDoor) answer(rw http.ResponseWriter, req *http.Request) {
	if state, _ := req.Context().Value(webStateKey{}).(*tls.ConnectionState); state != nil {
		req.TLS = state
		if w.mesh.cfg.Refusal != nil {
			// Whom the member table does not have yet may ask who does: that is
			// how it joins.
			if err := w.mesh.cfg.Refusal(*state); err != nil && !errors.Is(err, ErrNotMember) {
				http.Error(rw, err.Error(), http.StatusForbidden)
				return
			}
		}
	}
	w.mesh.cfg.HTTP.ServeHTTP(rw, req)
}

func (w *webDoor) track(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		w.open.Add(1)
		w.count.Add(1)
	case http.StateClosed, http.StateHijacked:
		w.count.Add(-1)
		w.open.Done()
	}
}

// close ends all connections and waits for those who served them.
func (w *webDoor) close() {
	if w.server == nil {
		return
	}
	_ = w.ln.Close()
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if w.server.Shutdown(ctx) != nil {
		_ = w.server.Close()
	}
	w.open.Wait()
}

// warnings is where net/http's own complaints go.
type warnings struct{ log zerolog.Logger }

func (w warnings) Write(p []byte) (int, error) {
	w.log.Warn().Msg(strings.TrimSpace(string(p)))
	return len(p), nil
}

// webListener hands accepted connections to the HTTP server.
type webListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *webListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *webListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *webListener) Addr() net.Addr { return &net.TCPAddr{} }

// webConn reads on where the first byte was looked at.
type webConn struct {
	net.Conn
	r     *bufio.Reader
	state *tls.ConnectionState
}

func (c *webConn) Read(p []byte) (int, error) { return c.r.Read(p) }
