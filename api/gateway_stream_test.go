package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb/gw"
	"google.golang.org/grpc"
)

// echo answers each request for a watch with its id, until the stream ends.
// With flood set it answers the first without end.
type echo struct {
	pb.UnimplementedWatchServer
	flood bool
	later time.Duration // a last answer so long after the last request
	ended chan error
}

// over waits until the stream has ended.
func (e *echo) over(t *testing.T) {
	t.Helper()
	select {
	case <-e.ended:
	case <-time.After(30 * time.Second):
		t.Error("the stream goes on without its client")
	}
}

// Watch implements the service.
func (e *echo) Watch(s pb.Watch_WatchServer) (err error) {
	defer func() { e.ended <- err }()
	for {
		r, err := s.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				if e.later > 0 {
					time.Sleep(e.later) // the fault: a server that takes its time
					_ = s.Send(&pb.WatchResponse{WatchId: 99, Created: true})
				}
				<-s.Context().Done() // a watch goes on when no more is asked
				return s.Context().Err()
			}
			return err
		}
		resp := &pb.WatchResponse{WatchId: r.GetCreateRequest().GetWatchId(), Created: true}
		if e.flood {
			resp.CancelReason = strings.Repeat("x", 1<<20)
		}
		for first := true; first || e.flood; first = false {
			if err := s.Send(resp); err != nil {
				return err
			}
		}
	}
}

// startEcho runs a gateway with streams of both ways behind an HTTP server.
// It returns a client and the URL of /v3/watch.
func startEcho(t *testing.T, e *echo, h2 bool, o Options) (*http.Client, string) {
	t.Helper()
	before := runtime.NumGoroutine()
	e.ended = make(chan error, 1)
	metrics, err := newRPCMetrics(prometheus.NewRegistry(), false)
	must(t, err)
	to := newHandover()
	g, err := newGateway(&links{to: to, metrics: metrics, callers: newCallers()}, o)
	must(t, err)
	must(t, gw.RegisterWatchHandler(t.Context(), g.mux, g.conn))
	server := grpc.NewServer(grpc.Creds(newHandshaken()))
	pb.RegisterWatchServer(server, e)
	served := make(chan error, 1)
	go func() { served <- server.Serve(to) }()
	web := httptest.NewUnstartedServer(g)
	web.EnableHTTP2 = h2
	said := &lockedBuffer{}
	web.Config.ErrorLog = log.New(said, "", 0)
	if h2 {
		web.StartTLS()
	} else {
		web.Start()
	}
	c := web.Client()
	t.Cleanup(func() {
		c.CloseIdleConnections()
		web.CloseClientConnections()
		web.Close()
		g.close()
		server.Stop()
		<-served
		waitForGoroutines(t, before)
		if said.has("panic") {
			t.Error("net/http panicked over a connection")
		}
	})
	return c, web.URL + "/v3/watch"
}

// eachHTTP runs f over HTTP/1.1 and over HTTP/2.
func eachHTTP(t *testing.T, f func(t *testing.T, h2 bool)) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP/2 %v", h2), func(t *testing.T) { f(t, h2) })
	}
}

// A stream lasts, whatever the limits for a message and a piece of an answer
// are, and both sides may pause, over HTTP/1.1 as well; it ends when its client goes.
func TestGateway_streamLasts(t *testing.T) {
	const pause = 250 * time.Millisecond // longer than the limits: this is what is tested
	limits := Options{MaxRequestBytes: 1, BodyTimeout: 30 * time.Millisecond, AnswerTimeout: 30 * time.Millisecond}
	eachHTTP(t, func(t *testing.T, h2 bool) {
		e := &echo{later: pause}
		c, url := startEcho(t, e, h2, limits)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ask, body := io.Pipe()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, ask)
		must(t, err)
		wrote := make(chan error, 1)
		go func() {
			for id := 1; id < 4; id++ {
				if _, err := fmt.Fprintf(body, `{"create_request":`+"\n"+`{"watch_id":"%d"}}`, id); err != nil {
					wrote <- err
					return
				}
				time.Sleep(pause) // the client's pace
			}
			wrote <- body.Close()
		}()
		resp, err := c.Do(req)
		must(t, err)
		defer func() { _ = resp.Body.Close() }()
		lines := bufio.NewReader(resp.Body)
		for _, id := range []int{1, 2, 3, 99} {
			line, err := lines.ReadString('\n')
			if want := fmt.Sprintf(`{"result":{"watch_id":"%d","created":true}}`, id) + "\n"; err != nil || line != want {
				t.Fatalf("got %q, %v, want %q", line, err, want)
			}
		}
		must(t, <-wrote)
		cancel()
		e.over(t)
	})
}

// The messages of a stream have limits of their own, each.
func TestGateway_streamMessageTooLarge(t *testing.T) {
	eachHTTP(t, func(t *testing.T, h2 bool) {
		e := &echo{}
		c, url := startEcho(t, e, h2, Options{MaxRequestBytes: 1, BodyTimeout: time.Minute, AnswerTimeout: time.Minute})
		blank := strings.Repeat(" ", int(maxJSON(1))/2)
		ok := `{"create_request":` + blank + `{"watch_id":1}}`
		tooLarge := `{"create_request":` + blank + blank + blank + `{"watch_id":2}}`
		ask, body := io.Pipe()
		defer func() { _ = body.Close() }()
		wrote := make(chan error, 1)
		write := func(s string) {
			go func() {
				_, err := io.WriteString(body, s)
				wrote <- err
			}()
		}
		write(ok + ok + ok)
		resp, err := c.Post(url, "", ask)
		must(t, err)
		defer func() { _ = resp.Body.Close() }()
		lines := bufio.NewScanner(resp.Body)
		for range 3 {
			if !lines.Scan() || lines.Text() != `{"result":{"watch_id":"1","created":true}}` {
				t.Fatalf("%q, %v", lines.Text(), lines.Err())
			}
		}
		must(t, <-wrote)
		write(tooLarge) // only now: it ends the call, and with it answers that are not sent yet
		<-wrote
		must(t, body.Close())
		e.over(t)
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), `{"error":{"code":8,"message":"received message larger than max`) {
			t.Errorf("%q, %v", lines.Text(), lines.Err())
		}
	})
}

// A client that begins a message and does not go on, byte by byte or not at
// all, is answered and let go.
func TestGateway_slowBodies(t *testing.T) {
	f := start(t, "http", func(o *Options) { o.BodyTimeout = 100 * time.Millisecond })
	for name, drip := range map[string]time.Duration{"nothing": time.Hour, "byte by byte": 20 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", f.addr())
			must(t, err)
			defer func() { _ = c.Close() }()
			_, err = io.WriteString(c, "POST /v3/kv/put HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{\"key\":\"Zm9v")
			must(t, err)
			stop := make(chan struct{})
			var dripping bool
			if drip < time.Hour {
				dripping = true
				go func() {
					defer close(stop)
					for {
						if _, err := c.Write([]byte("A")); err != nil {
							return
						}
						time.Sleep(drip) // the fault: a byte at a time
					}
				}()
			}
			must(t, c.SetReadDeadline(time.Now().Add(30*time.Second)))
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			must(t, err)
			out, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != http.StatusRequestTimeout || !strings.Contains(string(out), `{"code":4,"message":"the body of the request did not come in time"}`) {
				t.Errorf("%s %s", resp.Status, out)
			}
			if _, err := io.Copy(io.Discard, c); err != nil && errors.Is(err, context.DeadlineExceeded) {
				t.Error("the connection is kept")
			}
			_ = c.Close()
			if dripping {
				<-stop
			}
		})
	}
	if f.backend.revision() != 1 {
		t.Error("half a request has written")
	}
}

// A client that does not take its answer is let go, and so is the call behind it.
func TestGateway_stalledReaders(t *testing.T) {
	eachHTTP(t, func(t *testing.T, h2 bool) {
		e := &echo{flood: true}
		c, url := startEcho(t, e, h2, Options{MaxRequestBytes: 1, BodyTimeout: time.Minute, AnswerTimeout: 200 * time.Millisecond})
		resp, err := c.Post(url, "", strings.NewReader(`{"create_request":{}}`))
		must(t, err)
		defer func() { _ = resp.Body.Close() }()
		e.over(t)
	})
}

// A reader that is slow, but reads, gets all of it.
func TestPacedWriter_slowReader(t *testing.T) {
	const size = 8 << 20
	done := make(chan error, 1)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p := &pacedWriter{ResponseWriter: w, control: http.NewResponseController(w), timeout: 400 * time.Millisecond}
		n, err := p.Write(bytes.Repeat([]byte{'x'}, size))
		if n != size && err == nil {
			err = io.ErrShortWrite
		}
		done <- err
	}))
	defer web.Close()
	resp, err := http.Get(web.URL)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	got, piece := 0, make([]byte, 512<<10)
	for begin := time.Now(); err == nil; {
		var n int
		n, err = io.ReadFull(resp.Body, piece)
		got += n
		if time.Since(begin) < time.Second { // much longer than for one piece
			time.Sleep(100 * time.Millisecond) // the fault: a slow reader
		}
	}
	if got != size {
		t.Errorf("read %d bytes: %v", got, err)
	}
	must(t, <-done)
}

// A client that breaks off in the middle of HTTP/2 or of a pipeline of garbage
// leaves nothing behind; the fixture counts the goroutines.
func TestGateway_pipelinedGarbage(t *testing.T) {
	f := start(t, "http https", nil)
	good := "POST /v3/kv/put HTTP/1.1\r\nHost: localhost\r\nContent-Length: 14\r\n\r\n{\"key\":\"Zm9v\"}"
	garbage := []string{
		strings.Repeat(good, 50),
		strings.Repeat(good, 5) + "GARBAGE\r\n\r\n" + good,
		good[:len(good)-5],
		"POST /v3/kv/put HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
		"POST /v3/kv/put HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
		"POST /v3/kv/put HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n" + good,
		"POST /v3/kv/put HTTP/1.1\r\n\r\n",
		"POST /v3/kv/put HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 14\r\n\r\n",
		"POST /v3/kv/put HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}",
		"POST /v3/kv/put HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X: "+strings.Repeat("y", 8000)+"\r\n", 20) + "\r\n",
		"GET /v3/kv/put HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		strings.Repeat("\r\n", 10000),
		strings.Repeat("\x00", 10000),
	}
	secure := f.pki.client.Clone()
	secure.ServerName = "localhost"
	for i, say := range garbage {
		for _, withTLS := range []bool{false, true} {
			raw, err := net.Dial("tcp", f.addr())
			must(t, err)
			c := raw
			if withTLS {
				c = tls.Client(raw, secure)
			}
			_, _ = io.WriteString(c, say)
			must(t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
			_, _ = io.Copy(io.Discard, io.LimitReader(c, int64(i)*100))
			_ = raw.Close()
		}
	}
	if code, out := f.post(t, f.httpClient(t, true), "/v3/kv/range", `{"key":"Zm9v"}`); code != http.StatusOK {
		t.Errorf("afterwards: %d %s", code, out)
	}
}
