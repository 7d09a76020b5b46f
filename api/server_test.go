package api

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

func TestListen_takenPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = taken.Close() }()
	addr := taken.Addr().String()
	free := parseURLs(t, "http://127.0.0.1:0")
	for flag, cfg := range map[string]ListenConfig{
		"--listen-client-urls":      {ClientURLs: parseURLs(t, "https://"+addr)},
		"--listen-client-http-urls": {ClientURLs: free, HTTPURLs: parseURLs(t, "http://"+addr)},
		"--listen-metrics-urls":     {ClientURLs: free, MetricsURLs: parseURLs(t, "http://"+addr)},
	} {
		_, err := Listen(cfg)
		if err == nil || !strings.HasPrefix(err.Error(), flag+": ") || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "already in use") {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

func TestListen_samePortTwice(t *testing.T) {
	probe, err := Listen(ListenConfig{ClientURLs: parseURLs(t, "http://127.0.0.1:0")})
	must(t, err)
	u := probe.ClientURLs()
	must(t, probe.Close())
	_, err = Listen(ListenConfig{ClientURLs: u, MetricsURLs: u})
	if err == nil || !strings.Contains(err.Error(), "--listen-metrics-urls: ") || !strings.Contains(err.Error(), "already in use by --listen-client-urls") {
		t.Error(err)
	}
}

func TestListen_refusals(t *testing.T) {
	for raw, word := range map[string]string{
		"http://127.0.0.1": "no port", "ftp://127.0.0.1:1": "scheme", "http://192.0.2.1:2379": "not an address of this host",
	} {
		if _, err := Listen(ListenConfig{ClientURLs: parseURLs(t, raw)}); err == nil || !strings.Contains(err.Error(), word) || !strings.Contains(err.Error(), "--listen-client-urls") {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

func TestNew_httpsNeedsCertificate(t *testing.T) {
	ls, err := Listen(ListenConfig{ClientURLs: parseURLs(t, "https://127.0.0.1:0")})
	must(t, err)
	defer func() { must(t, ls.Close()) }()
	if _, err := New(Options{Backend: newFakeBackend(), Listeners: ls, Registry: prometheus.NewRegistry()}); err == nil {
		t.Error("an https URL without TLS settings is accepted")
	}
}

func TestServer_clientsWaitUntilReady(t *testing.T) {
	ready := make(chan struct{})
	f := start(t, "http", func(o *Options) { o.Ready = ready })
	if code, _, _ := get(t, http.MethodGet, f.metrics[0].Host, "/livez"); code != http.StatusOK {
		t.Errorf("/livez before ready: %d", code)
	}
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	cc := f.dialPlain(t)
	_, err := pb.NewKVClient(cc).Put(short, &pb.PutRequest{Key: []byte("k")}, grpc.WaitForReady(true))
	want(t, "put before ready", err, codes.DeadlineExceeded, "")
	if f.log.has("ready to serve client requests") {
		t.Error("said to be ready before it is")
	}
	close(ready)
	_, err = pb.NewKVClient(cc).Put(call(t), &pb.PutRequest{Key: []byte("k")}, grpc.WaitForReady(true))
	must(t, err)
	waitFor(t, "it to say so", func() bool {
		return f.log.has("ready to serve client requests", f.addr()) && f.log.has("serving client traffic insecurely", f.addr())
	})
}

func TestServer_closeWithoutServe(t *testing.T) {
	ls, err := Listen(ListenConfig{ClientURLs: parseURLs(t, "http://127.0.0.1:0")})
	must(t, err)
	s, err := New(Options{Backend: newFakeBackend(), Listeners: ls, Registry: prometheus.NewRegistry()})
	must(t, err)
	must(t, s.Close())
	must(t, s.Close())
	must(t, s.Serve()) // returns at once
	again, err := Listen(ListenConfig{ClientURLs: ls.ClientURLs()})
	if err != nil {
		t.Fatalf("Close keeps the address: %v", err)
	}
	must(t, again.Close())
}

// blockPuts makes puts wait for release or, if obedient, their context.
func (b *fakeBackend) blockPuts(release <-chan struct{}) (started chan struct{}) {
	started = make(chan struct{}, 1)
	f := func(ctx context.Context, _ *pb.PutRequest) error {
		started <- struct{}{}
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	b.onPut.Store(&f)
	return started
}

func TestClose_letsRunningCallsEnd(t *testing.T) {
	f := start(t, "http", func(o *Options) { o.StopTimeout = time.Minute })
	release := make(chan struct{})
	started := f.backend.blockPuts(release)
	cc := f.dialPlain(t)
	result := make(chan error, 1)
	go func() {
		_, err := pb.NewKVClient(cc).Put(t.Context(), &pb.PutRequest{Key: []byte("k")})
		result <- err
	}()
	<-started
	closed := make(chan error, 1)
	go func() { closed <- f.Close() }()
	waitFor(t, "the address to be given back", func() bool {
		ln, err := net.Listen("tcp", f.addr())
		if err == nil {
			_ = ln.Close()
		}
		return err == nil
	})
	close(release)
	must(t, <-result)
	must(t, <-closed)
}

func TestClose_cutsOffAfterStopTimeout(t *testing.T) {
	f := start(t, "http", func(o *Options) { o.StopTimeout = 50 * time.Millisecond })
	started := f.backend.blockPuts(nil)
	cc := f.dialPlain(t)
	result := make(chan error, 1)
	go func() {
		_, err := pb.NewKVClient(cc).Put(t.Context(), &pb.PutRequest{Key: []byte("k")})
		result <- err
	}()
	<-started
	must(t, f.Close())
	if err := <-result; err == nil {
		t.Error("a put that never ended succeeded")
	}
}

func TestClose_withConnectionsInEveryState(t *testing.T) {
	f := start(t, "http https", func(o *Options) { o.HandshakeTimeout = time.Minute })
	dial := func(say string) net.Conn {
		c, err := net.Dial("tcp", f.addr())
		must(t, err)
		t.Cleanup(func() { _ = c.Close() })
		_, err = c.Write([]byte(say))
		must(t, err)
		return c
	}
	dial("")
	dial(preface[:5])
	dial("\x16\x03\x01")
	dial("GET /ver")
	keepAlive := dial("GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
	_, err := http.ReadResponse(bufio.NewReader(keepAlive), nil)
	must(t, err)
	f.putAndGet(t, f.urls[0])
	f.putAndGet(t, f.urls[1])
	begin := time.Now()
	must(t, f.Close())
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("Close took %s", took)
	}
}

// fakeIssuer answers every request for a certificate.
type fakeIssuer struct {
	conclavepb.UnimplementedPKIServer
}

func (fakeIssuer) Issue(context.Context, *conclavepb.IssueRequest) (*conclavepb.IssueResponse, error) {
	return &conclavepb.IssueResponse{}, nil
}

func TestServer_certificatesNotOverPlaintext(t *testing.T) {
	f := start(t, "http", func(o *Options) { o.Certificates = fakeIssuer{} })
	_, err := conclavepb.NewPKIClient(f.dialPlain(t)).Issue(call(t), &conclavepb.IssueRequest{})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("a certificate over plaintext: %v", err)
	}
}
