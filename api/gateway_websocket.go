package api

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// bearer is the subprotocol by which a page names its token, since pages cannot
// set headers of a WebSocket: new WebSocket(url, ["Bearer", token]).
const bearer = "Bearer"

// isWebSocket tells whether a request wants to become one.
func isWebSocket(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// twoWay tells the routes whose calls take one message after the other.
func twoWay(path string) bool { return path == "/v3/watch" || path == "/v3/lease/keepalive" }

// A webSocket carries one call: each message of the client is one of JSON, each
// line of the answer a message back. It is the body of the request to the
// gateway's routes, and takes the answer.
type webSocket struct {
	conn   *websocket.Conn
	limits jsonLimits
	life   context.Context // of the gateway
	ctx    context.Context // of the call
	cancel func()
	one    bool        // the call takes one message
	begun  atomic.Bool // the first has come
	rest   bytes.Reader

	header http.Header
	answer bytes.Buffer // what is not sent yet: less than a line
}

// serveWebSocket answers a call. The guard has looked where it comes from; sizes
// and times are limited as for other requests.
func (g *gateway) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, // of the origin, about which --cors decides
		Subprotocols:       []string{bearer}, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return // and has been told
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(g.limits.size)
	ticket, leave := g.callers.enter(r)
	defer leave()
	ctx, cancel := context.WithCancel(g.ctx)
	defer cancel()
	s := &webSocket{conn: conn, limits: g.limits, life: g.ctx, ctx: ctx, cancel: cancel, one: !twoWay(r.URL.Path), header: http.Header{}}
	defer context.AfterFunc(g.stopping, s.endIdle)()
	g.running.Go(func() { s.ping(g.pings) })

	call := r.Clone(context.WithValue(ctx, inboundInContext{}, inbound{ticket: ticket}))
	call.Method, call.Body, call.ContentLength = http.MethodPost, s, -1
	call.Header.Set("Content-Type", "application/json")
	if token := tokenOf(r); token != "" {
		call.Header.Set("Authorization", bearer+" "+token)
	}
	g.mux.ServeHTTP(s, call)
	s.send(s.answer.Bytes())
	_ = conn.Close(websocket.StatusNormalClosure, "")
}

// tokenOf is what follows bearer in the subprotocols.
func tokenOf(r *http.Request) string {
	name, token, _ := strings.Cut(r.Header.Get("Sec-Websocket-Protocol"), ",")
	if strings.TrimSpace(name) != bearer {
		return ""
	}
	return strings.TrimSpace(token)
}

// endIdle ends a call of which nothing is known yet.
func (s *webSocket) endIdle() {
	if !s.begun.Load() {
		s.cancel()
	}
}

// ping finds out whether the client is still there. It ends with the call.
func (s *webSocket) ping(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(s.ctx, every)
		err := s.conn.Ping(ctx)
		cancel()
		if err != nil {
			s.cancel()
			return
		}
	}
}

// Read reads the client's messages. When it goes, so does the call; it is not the
// end of a body for which the gateway would have to complain.
func (s *webSocket) Read(p []byte) (int, error) {
	for s.rest.Len() == 0 {
		if s.one && s.begun.Load() {
			return 0, io.EOF
		}
		if err := s.receive(); err != nil {
			s.cancel()
			return 0, io.EOF
		}
	}
	return s.rest.Read(p)
}

// receive waits for a message: for the first, and for the rest of each that has
// begun, as long as messages may take, for others without limit.
func (s *webSocket) receive() error {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	slow := time.AfterFunc(messagePauses*s.limits.pause, cancel)
	defer slow.Stop()
	if s.begun.Load() {
		slow.Stop()
	}
	_, r, err := s.conn.Reader(ctx)
	if err != nil {
		return err
	}
	slow.Reset(messagePauses * s.limits.pause)
	message, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.begun.Store(true)
	s.rest.Reset(append(message, '\n'))
	if s.one { // from here on only the client's going is of interest
		context.AfterFunc(s.conn.CloseRead(s.ctx), s.cancel)
	}
	return nil
}

// Close is required of a body.
func (s *webSocket) Close() error { return nil }

// Header and WriteHeader are required of an http.ResponseWriter; a WebSocket has
// no place for either.
func (s *webSocket) Header() http.Header { return s.header }

// WriteHeader does nothing.
func (s *webSocket) WriteHeader(int) {}

// Write sends each line when it is complete. It does not fail: what is not taken
// ends the call.
func (s *webSocket) Write(p []byte) (int, error) {
	n := len(p)
	for {
		line, rest, ended := bytes.Cut(p, []byte{'\n'})
		s.answer.Write(line)
		if !ended {
			return n, nil
		}
		s.send(s.answer.Bytes())
		s.answer.Reset()
		p = rest
	}
}

// Flush is required of a writer of streams.
func (s *webSocket) Flush() {}

// send sends a message, in the time that clients have for its size.
func (s *webSocket) send(message []byte) {
	if len(message) == 0 {
		return
	}
	allowed := s.limits.answer
	for size := len(message); size >= answerPiece; size -= answerPiece {
		allowed += s.limits.answer
	}
	ctx, cancel := context.WithTimeout(s.life, allowed)
	defer cancel()
	if err := s.conn.Write(ctx, websocket.MessageText, message); err != nil {
		s.cancel()
	}
}
