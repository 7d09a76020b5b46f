package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// httpClient speaks to the fixture as a program does, each test by connections
// of its own. With h2 it offers HTTP/2.
func (f *fixture) httpClient(t *testing.T, h2 bool) *http.Client {
	t.Helper()
	tr := &http.Transport{ForceAttemptHTTP2: h2}
	if f.pki != nil {
		tr.TLSClientConfig = f.pki.client.Clone()
		tr.TLSClientConfig.ServerName = "localhost"
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

// post sends body as curl -d does, with further header lines, and returns the
// status and the answer.
func (f *fixture) post(t *testing.T, c *http.Client, path, body string, header ...string) (int, string) {
	t.Helper()
	resp := f.do(t, c, path, strings.NewReader(body), header...)
	defer func() { _ = resp.Body.Close() }()
	out, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(out)
}

func (f *fixture) do(t *testing.T, c *http.Client, path string, body io.Reader, header ...string) *http.Response {
	t.Helper()
	u := f.urls[len(f.urls)-1]
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, u.String()+path, body)
	must(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		if name == "Host" {
			req.Host = value
			continue
		}
		req.Header.Set(name, value)
	}
	resp, err := c.Do(req)
	must(t, err)
	return resp
}

func TestGateway_putAndRange(t *testing.T) {
	for _, schemes := range []string{"http", "https"} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, HTTP/2 %v", schemes, h2), func(t *testing.T) {
				f := start(t, schemes, nil)
				c := f.httpClient(t, h2)
				if code, out := f.post(t, c, "/v3/kv/put", `{"key":"Zm9v","value":"YmFy"}`); code != http.StatusOK || out != `{"header":{"cluster_id":"1","member_id":"7","revision":"2","raft_term":"2"}}` {
					t.Errorf("put: %d %s", code, out)
				}
				if code, out := f.post(t, c, "/v3beta/kv/range", `{"key":"Zm9v"}`); code != http.StatusOK || !strings.Contains(out, `"kvs":[{"key":"Zm9v","create_revision":"2","mod_revision":"2","version":"1","value":"YmFy"}],"count":"1"}`) {
					t.Errorf("range: %d %s", code, out)
				}
				waitFor(t, "it to be counted as gRPC calls", func() bool {
					_, out, _ := get(t, http.MethodGet, f.metrics[0].Host, "/metrics")
					return strings.Contains(out, `grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1`) &&
						strings.Contains(out, `etcd_server_client_requests_total{client_api_version="unknown",type="unary"} 2`)
				})
			})
		}
	}
}

func TestGateway_off(t *testing.T) {
	f := start(t, "http", func(o *Options) { o.NoGateway = true })
	if code, out := f.post(t, f.httpClient(t, false), "/v3/kv/range", `{"key":"Zm9v"}`); code != http.StatusNotFound {
		t.Errorf("%d %s", code, out)
	}
}

func TestGateway_notOnMetricsURL(t *testing.T) {
	f := start(t, "http", nil)
	f.urls = f.metrics
	if code, out := f.post(t, f.httpClient(t, false), "/v3/kv/range", `{"key":"Zm9v"}`); code != http.StatusNotFound {
		t.Errorf("%d %s", code, out)
	}
}

// seen is what the backend is told about who makes a call.
type seen struct {
	name, addr string
	md         metadata.MD
}

// observe has puts tell who made them.
func (f *fixture) observe() <-chan seen {
	out := make(chan seen, 1)
	hook := func(ctx context.Context, _ *pb.PutRequest) error {
		var s seen
		p, _ := peer.FromContext(ctx)
		s.addr = p.Addr.String()
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
			s.name = info.State.VerifiedChains[0][0].Subject.CommonName
		}
		s.md, _ = metadata.FromIncomingContext(ctx)
		out <- s
		return nil
	}
	f.backend.onPut.Store(&hook)
	return out
}

// The identity of a JSON call is that of the client's own connection: its
// certificate and its address, whatever headers say.
func TestGateway_carriesTheIdentity(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		f := start(t, "https", nil)
		who := f.observe()
		for _, name := range []string{"alice", "bob"} {
			c := f.httpClient(t, h2)
			tr := c.Transport.(*http.Transport)
			tr.TLSClientConfig.Certificates = []tls.Certificate{f.pki.issue(t, name, time.Now().Add(time.Hour))}
			var local string
			tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
				if err == nil {
					local = conn.LocalAddr().String()
				}
				return conn, err
			}
			code, out := f.post(t, c, "/v3/kv/put", `{"key":"Zm9v"}`,
				"Grpc-Metadata-Conclave-Caller: 1", "Conclave-Caller: 1", "X-Forwarded-For: 10.1.1.1",
				"Authorization: Bearer token", "Accept: application/json")
			got := <-who
			if code != http.StatusOK || got.name != name || got.addr != local {
				t.Errorf("%s at %s is seen as %s at %s: %d %s", name, local, got.name, got.addr, code, out)
			}
			if n := len(got.md.Get(ticketKey)); n != 1 {
				t.Errorf("%d tickets reach the call", n)
			}
			if got.md.Get("authorization")[0] != "Bearer token" || got.md.Get("grpcgateway-accept")[0] != "application/json" {
				t.Errorf("metadata %v", got.md)
			}
		}
	}
}

// A gRPC client that names a caller is nobody else for it.
func TestGateway_ticketsAreOfNoUseElsewhere(t *testing.T) {
	f := start(t, "http https", nil)
	who := f.observe()
	leave := make(chan struct{})
	hook := *f.backend.onPut.Load()
	inside := make(chan struct{})
	block := func(ctx context.Context, r *pb.PutRequest) error {
		if string(r.GetKey()) == "slow" {
			close(inside)
			<-leave
			return nil
		}
		return hook(ctx, r)
	}
	f.backend.onPut.Store(&block)
	ended := make(chan int, 1)
	go func() {
		code, _ := f.post(t, f.httpClient(t, false), "/v3/kv/put", `{"key":"c2xvdw=="}`)
		ended <- code
	}()
	<-inside // ticket 1 is good now, and it is alice's
	ctx := metadata.AppendToOutgoingContext(call(t), ticketKey, "1")
	_, err := pb.NewKVClient(f.dialPlain(t)).Put(ctx, &pb.PutRequest{Key: []byte("k")})
	must(t, err)
	if got := <-who; got.name != "" || got.addr == "" {
		t.Errorf("a client without a certificate is seen as %q at %s", got.name, got.addr)
	}
	close(leave)
	if code := <-ended; code != http.StatusOK {
		t.Error(code)
	}
}

func TestIdentify_withoutTicket(t *testing.T) {
	c := newCallers()
	link := &peer.Peer{AuthInfo: linkInfo{callers: c}}
	ticket, leave := c.enter(&http.Request{RemoteAddr: "10.0.0.1:1"})
	ok := metadata.Pairs(ticketKey, ticket)
	for name, md := range map[string]metadata.MD{
		"none": nil, "unknown": metadata.Pairs(ticketKey, "99"), "two": metadata.Join(ok, metadata.Pairs(ticketKey, "99")),
	} {
		_, err := identify(metadata.NewIncomingContext(peer.NewContext(t.Context(), link), md))
		want(t, name, err, codes.Internal, "")
	}
	ctx, err := identify(metadata.NewIncomingContext(peer.NewContext(t.Context(), link), ok))
	must(t, err)
	if p, _ := peer.FromContext(ctx); p.Addr.String() != "10.0.0.1:1" {
		t.Errorf("the caller is %v", p)
	}
	leave()
	if _, err := identify(metadata.NewIncomingContext(peer.NewContext(t.Context(), link), ok)); err == nil {
		t.Error("a ticket is good after the request has ended")
	}
}

func TestGateway_learnerAndLeader(t *testing.T) {
	f := start(t, "http", nil)
	c := f.httpClient(t, false)
	f.backend.leader.Store(0)
	if code, out := f.post(t, c, "/v3/kv/range", `{"key":"Zm9v"}`, "Grpc-Metadata-Hasleader: true"); code != http.StatusServiceUnavailable || out != `{"code":14,"message":"etcdserver: no leader"}` {
		t.Errorf("%d %s", code, out)
	}
	f.backend.mu.Lock()
	f.backend.learner = true
	f.backend.mu.Unlock()
	if code, out := f.post(t, c, "/v3/kv/range", `{"key":"Zm9v"}`); code != http.StatusBadRequest || out != `{"code":9,"message":"etcdserver: rpc not supported for learner"}` {
		t.Errorf("%d %s", code, out)
	}
	if code, out := f.post(t, c, "/v3/kv/range", `{"key":"Zm9v","serializable":true}`); code != http.StatusOK {
		t.Errorf("%d %s", code, out)
	}
}

// One limit of streams holds for all JSON clients together, as in etcd.
func TestGateway_sharesMaxStreams(t *testing.T) {
	const limit = 3
	f := start(t, "http", func(o *Options) { o.MaxStreams = limit })
	release := make(chan struct{})
	f.backend.blockPuts(release)
	inside := make(chan struct{}, limit)
	block := func(ctx context.Context, _ *pb.PutRequest) error {
		inside <- struct{}{}
		select {
		case <-release:
		case <-ctx.Done():
		}
		return nil
	}
	f.backend.onPut.Store(&block)
	ended := make(chan int, limit)
	for range limit {
		go func() {
			code, _ := f.post(t, f.httpClient(t, false), "/v3/kv/put", `{"key":"Zm9v"}`)
			ended <- code
		}()
	}
	for range limit {
		<-inside
	}
	impatient := f.httpClient(t, false)
	impatient.Timeout = 300 * time.Millisecond
	if resp, err := impatient.Post(f.urls[0].String()+"/v3/kv/range", "application/json", strings.NewReader(`{"key":"Zm9v"}`)); err == nil {
		_ = resp.Body.Close()
		t.Errorf("served beyond the limit: %s", resp.Status)
	}
	close(release)
	for range limit {
		if code := <-ended; code != http.StatusOK {
			t.Error(code)
		}
	}
	if code, _ := f.post(t, f.httpClient(t, false), "/v3/kv/range", `{"key":"Zm9v"}`); code != http.StatusOK {
		t.Error(code)
	}
}

func TestGateway_sizes(t *testing.T) {
	const max = 4096
	f := start(t, "http", func(o *Options) { o.MaxRequestBytes = max })
	c := f.httpClient(t, false)
	value := func(n int) string {
		out, err := json.Marshal(map[string][]byte{"key": []byte("k"), "value": bytes.Repeat([]byte{'x'}, n)})
		must(t, err)
		return string(out)
	}
	limit := int(maxJSON(max))
	for _, s := range []struct {
		name, body string
		code       int
		text       string
	}{
		{"fits", value(max - 100), http.StatusOK, `"revision"`},
		{"etcd's limit", value(max + 100), http.StatusBadRequest, `{"code":3,"message":"etcdserver: request is too large"}`},
		{"gRPC's limit", value(max + grpcOverhead), http.StatusTooManyRequests, `{"code":8,"message":"grpc: received message larger than max`},
		{"ours", value(limit*3/4 + 1000), http.StatusTooManyRequests, `{"code":8,"message":"received message larger than max: JSON of 1056768 bytes`},
		{"just ours", `{"key":"aw=="` + strings.Repeat(" ", limit-14) + `}`, http.StatusOK, `"revision"`},
		{"one more", `{"key":"aw=="` + strings.Repeat(" ", limit-13) + `}`, http.StatusTooManyRequests, `larger than max`},
		{"behind it", `{"key":"aw=="}` + strings.Repeat(" ", limit/2), http.StatusOK, `"revision"`},
	} {
		t.Run(s.name, func(t *testing.T) {
			before := f.backend.revision()
			code, out := f.post(t, c, "/v3/kv/put", s.body)
			if code != s.code || !strings.Contains(out, s.text) {
				t.Errorf("%d bytes: %d %.300s", len(s.body), code, out)
			}
			if changed := f.backend.revision() != before; changed != (code == http.StatusOK) {
				t.Errorf("answered %d, and the store has changed: %v", code, changed)
			}
		})
	}
}

func (b *fakeBackend) revision() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rev
}

// A call ends when the HTTP client that made it has gone.
func TestGateway_clientGoes(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		f := start(t, "https", nil)
		started := f.backend.blockPuts(nil)
		hook := *f.backend.onPut.Load()
		left := make(chan error, 1)
		watched := func(ctx context.Context, r *pb.PutRequest) error {
			err := hook(ctx, r)
			left <- err
			return err
		}
		f.backend.onPut.Store(&watched)
		c := f.httpClient(t, h2)
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.urls[0].String()+"/v3/kv/put", strings.NewReader(`{"key":"Zm9v"}`))
		must(t, err)
		go func() { <-started; cancel() }()
		if resp, err := c.Do(req); err == nil { // that the call was cancelled may come back in time
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				t.Error("answered")
			}
		}
		select {
		case <-left:
		case <-time.After(30 * time.Second):
			t.Error("the call goes on without its client")
		}
	}
}

// Close lets JSON calls end, as it does others.
func TestClose_letsJSONCallsEnd(t *testing.T) {
	f := start(t, "http", func(o *Options) { o.StopTimeout = time.Minute })
	release := make(chan struct{})
	started := f.backend.blockPuts(release)
	code := make(chan int, 1)
	go func() {
		c, _ := f.post(t, f.httpClient(t, false), "/v3/kv/put", `{"key":"Zm9v"}`)
		code <- c
	}()
	<-started
	closed := make(chan error, 1)
	go func() { closed <- f.Close() }()
	<-f.ctx.Done()
	time.AfterFunc(2*httpStopTimeout, func() { close(release) }) // longer than probes may take
	if c := <-code; c != http.StatusOK {
		t.Errorf("answered %d", c)
	}
	must(t, <-closed)
}
