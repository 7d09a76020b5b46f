package api

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// page is a client of a WebSocket.
type page struct {
	t    *testing.T
	conn *websocket.Conn
}

// open opens a WebSocket on a route, or returns the answer that refused it.
func (f *fixture) open(t *testing.T, path string, o *websocket.DialOptions) (*page, *http.Response) {
	t.Helper()
	if o == nil {
		o = &websocket.DialOptions{}
	}
	o.HTTPClient = f.httpClient(t, false)
	conn, resp, err := websocket.Dial(t.Context(), f.urls[0].String()+path, o)
	if err != nil {
		if resp == nil {
			t.Fatal(err)
		}
		return nil, resp
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &page{t: t, conn: conn}, nil
}

func (p *page) say(messages ...string) {
	p.t.Helper()
	for _, m := range messages {
		must(p.t, p.conn.Write(p.t.Context(), websocket.MessageText, []byte(m)))
	}
}

// hear is the next message, or how the connection was closed.
func (p *page) hear() (string, websocket.StatusCode) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	kind, message, err := p.conn.Read(ctx)
	if ctx.Err() != nil || err == nil && kind != websocket.MessageText {
		p.t.Fatalf("%v, kind %v", err, kind)
	}
	return string(message), websocket.CloseStatus(err)
}

// hears fails unless the next message has the parts.
func (p *page) hears(parts ...string) {
	p.t.Helper()
	m, _ := p.hear()
	for _, part := range parts {
		if !strings.Contains(m, part) {
			p.t.Errorf("no %s in %q", part, m)
		}
	}
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// Calls of all kinds over WebSockets: a stream of both ways, one answered with a
// stream, one with an answer.
func TestWebSocket_calls(t *testing.T) {
	l := startLine(t, nil)
	l.lease(t, 1)
	watch, _ := l.open(t, "/v3/watch", nil)
	watch.say(`{"create_request":{"key":"YS8x"}}`)
	watch.hears(`"created":true}}`)
	observe, _ := l.open(t, "/v3/election/observe", nil)
	observe.say(`{"name":"YQ=="}`)
	campaign, _ := l.open(t, "/v3/election/campaign", nil)
	campaign.say(`{"name":"YQ==","lease":1,"value":"Zmlyc3Q="}`)
	campaign.hears(`"leader":{"name":"YQ=="`)
	if m, status := campaign.hear(); m != "" || status != websocket.StatusNormalClosure {
		t.Errorf("after the answer: %q, %v", m, status)
	}
	observe.hears(`{"result":{"header":{`, b64("first"))
	watch.hears(`"events":[{"kv":{"key":"YS8x"`)
	watch.say(`{"create_request":{"key":"YQ==","watch_id":7}}`)
	watch.hears(`"watch_id":"7","created":true}}`)
	watch.say(`{"cancel_request":{"watch_id":7}}`)
	watch.hears(`"watch_id":"7","canceled":true}}`)
	must(t, watch.conn.Close(websocket.StatusNormalClosure, ""))

	alive, _ := l.open(t, "/v3/lease/keepalive", nil)
	for range 3 {
		alive.say(`{"ID":5}`)
		alive.hears(`{"result":{"header":{`, `"ID":"5","TTL":"60"}}`)
	}
	none, _ := l.open(t, "/v3/none", nil)
	none.say(`{}`)
	none.hears(`"message":"Not Found"`)
	wrong, _ := l.open(t, "/v3/kv/range", nil)
	wrong.say(`{"key":`)
	wrong.hears(`"code":3`)
}

// Who closes the WebSocket of a call that waits leaves nothing behind.
func TestWebSocket_closedWhileWaiting(t *testing.T) {
	l := startLine(t, nil)
	must(t, soon(t, "the first", l.lock(t.Context(), t, l.lease(t, 1))))
	l.lease(t, 2)
	p, _ := l.open(t, "/v3/lock/lock", nil)
	p.say(`{"name":"YQ==","lease":2}`)
	waitFor(t, "its key", func() bool { return len(l.keys.keys(t, "a/")) == 2 })
	must(t, p.conn.Close(websocket.StatusNormalClosure, ""))
	waitFor(t, "its key to go", func() bool { return slices.Equal(l.keys.keys(t, "a/"), []string{"a/1"}) })
}

// The caller is who has opened the connection, and a page's token is in the
// subprotocols.
func TestWebSocket_carriesTheIdentity(t *testing.T) {
	f := start(t, "https", nil)
	who := f.observe()
	p, _ := f.open(t, "/v3/kv/put", &websocket.DialOptions{Subprotocols: []string{"Bearer", "sesame.1"}})
	if got := p.conn.Subprotocol(); got != "Bearer" {
		t.Errorf("subprotocol %q", got)
	}
	p.say(`{"key":"Zm9v"}`)
	got := <-who
	if got.name != "alice" || !slices.Equal(got.md.Get("authorization"), []string{"Bearer sesame.1"}) {
		t.Errorf("seen as %q with %q", got.name, got.md.Get("authorization"))
	}
	p.hears(`"revision":"2"`)
}

// Pages of other origins get no WebSocket, over http and https.
func TestWebSocket_foreignOrigin(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		f := start(t, scheme, func(o *Options) { o.Origins = []string{"https://console.example.com"} })
		for origin, let := range map[string]bool{
			"https://evil.example.com": false, "null": false, "https://console.example.com.evil.com": false,
			"https://console.example.com": true, scheme + "://" + f.addr(): true, "": true,
		} {
			header := http.Header{}
			if origin != "" {
				header.Set("Origin", origin)
			}
			p, refused := f.open(t, "/v3/watch", &websocket.DialOptions{HTTPHeader: header})
			switch {
			case let && p == nil:
				t.Errorf("%s, origin %q: %d", scheme, origin, refused.StatusCode)
			case !let && (p != nil || refused.StatusCode != http.StatusForbidden):
				t.Errorf("%s, origin %q is let in", scheme, origin)
			}
		}
	}
}

// Messages are limited in size.
func TestWebSocket_largeMessage(t *testing.T) {
	f := start(t, "http", func(o *Options) { o.MaxRequestBytes = 1 << 10 })
	p, _ := f.open(t, "/v3/kv/put", nil)
	large := `{"key":"` + strings.Repeat("A", int(maxJSON(1<<10))) + `"}`
	// The server may be done with it before all of it is sent.
	_ = p.conn.Write(t.Context(), websocket.MessageText, []byte(large))
	if m, status := p.hear(); m != "" || status != websocket.StatusMessageTooBig && status != -1 {
		t.Errorf("a large message: %q, %v", m, status)
	}
}

// Messages are limited in time, and clients that are gone are noticed.
func TestWebSocket_limits(t *testing.T) {
	f := start(t, "http", func(o *Options) {
		o.BodyTimeout = 100 * time.Millisecond
		o.IdleTimeout = 200 * time.Millisecond
	})
	silent, _ := f.open(t, "/v3/kv/put", nil)
	began := time.Now()
	if _, status := silent.hear(); status == websocket.StatusNormalClosure || time.Since(began) < 100*time.Millisecond {
		t.Errorf("without a message: %v after %v", status, time.Since(began))
	}
	// A watch that nothing happens to lasts, unless its client is gone.
	watch, _ := f.open(t, "/v3/watch", nil)
	watch.say(`{"create_request":{"key":"YQ=="}}`)
	watch.hears(`"created":true`)
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	if _, _, err := watch.conn.Read(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an idle watch: %v", err)
	}
	gone, _ := f.open(t, "/v3/watch", &websocket.DialOptions{
		OnPingReceived: func(context.Context, []byte) bool { return false },
	})
	gone.say(`{"create_request":{"key":"YQ=="}}`)
	gone.hears(`"created":true`)
	if _, status := gone.hear(); status == websocket.StatusNormalClosure {
		t.Errorf("a client that answers no ping: %v", status)
	}
}

// A server that stops ends WebSockets, those that have not said anything at once.
func TestWebSocket_endsAtClose(t *testing.T) {
	l := startLine(t, func(o *Options) { o.StopTimeout = time.Minute })
	must(t, soon(t, "the first", l.lock(t.Context(), t, l.lease(t, 1))))
	l.lease(t, 2)
	waiting, _ := l.open(t, "/v3/lock/lock", nil)
	waiting.say(`{"name":"YQ==","lease":2}`)
	waitFor(t, "its key", func() bool { return len(l.keys.keys(t, "a/")) == 2 })
	silent, _ := l.open(t, "/v3/watch", nil)
	watch, _ := l.open(t, "/v3/watch", nil)
	watch.say(`{"create_request":{"key":"YQ=="}}`)
	watch.hears(`"created":true`)
	heard := make(chan string, 3)
	for _, p := range []*page{waiting, silent, watch} {
		go func() { // a client reads, or it could not answer that the connection is to end
			all := ""
			for m, status := p.hear(); status == -1 && m != ""; m, status = p.hear() {
				all += m
			}
			heard <- all
		}()
	}
	began := time.Now()
	must(t, l.Close())
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %v to stop", took)
	}
	told := 0
	for range 3 {
		if strings.Contains(<-heard, "etcdserver: server stopped") {
			told++
		}
	}
	if told < 2 { // the silent one may be told too
		t.Errorf("%d of two calls were told that the server has stopped", told)
	}
}

// The first line of a watch ends with what clients look for (`created` last).
func TestGateway_watchCreatedIsLast(t *testing.T) {
	l := startLine(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.urls[0].String()+"/v3/watch", strings.NewReader(`{"create_request":{"key":"YQ=="}}`))
	must(t, err)
	resp, err := l.httpClient(t, false).Do(req)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	first := make([]byte, 1<<10)
	n, err := resp.Body.Read(first)
	must(t, err)
	line, _, ended := strings.Cut(string(first[:n]), "\n")
	if !ended || !strings.HasPrefix(line, `{"result":{"header":{`) || !strings.HasSuffix(line, `"created":true}}`) {
		t.Errorf("the first line is %q", first[:n])
	}
}
