package api

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// curl runs the real thing and returns the protocol it ended up with, the
// status and the body.
func (f *fixture) curl(t *testing.T, args ...string) (proto, code, body string, err error) {
	t.Helper()
	bin, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	if f.pki != nil {
		d := f.pki.dir
		args = append(args, "--cacert", filepath.Join(d, "ca.pem"), "--cert", filepath.Join(d, "cert.pem"), "--key", filepath.Join(d, "key.pem"))
	}
	out, err := exec.Command(bin, append([]string{"-sS", "--max-time", "10", "-w", "\n%{http_version} %{http_code}"}, args...)...).CombinedOutput()
	text := string(out)
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		body = text[:i]
		proto, code, _ = strings.Cut(text[i+1:], " ")
	}
	return proto, code, body, err
}

func TestDoor_matrix(t *testing.T) {
	for _, schemes := range []string{"http", "https", "http https"} {
		t.Run(schemes, func(t *testing.T) {
			f := start(t, schemes, nil)
			for _, u := range f.urls {
				t.Run("etcd client over "+u.Scheme, func(t *testing.T) { f.putAndGet(t, u) })
				for _, c := range []struct{ flag, proto string }{
					{"--http1.1", "1.1"}, {"--http2", map[string]string{"http": "1.1", "https": "2"}[u.Scheme]}, {"", map[string]string{"http": "1.1", "https": "2"}[u.Scheme]},
				} {
					t.Run(fmt.Sprintf("curl %s over %s", c.flag, u.Scheme), func(t *testing.T) {
						f.getEverything(t, u, c.flag, c.proto)
					})
				}
			}
		})
	}
}

func (f *fixture) putAndGet(t *testing.T, u url.URL) {
	c := f.etcd(t, u)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := c.Put(ctx, "k", u.Scheme)
	must(t, err)
	resp, err := c.Get(ctx, "k")
	must(t, err)
	if len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != u.Scheme || resp.Header.MemberId != 7 {
		t.Fatalf("read back %v", resp)
	}
}

func (f *fixture) getEverything(t *testing.T, u url.URL, flag, proto string) {
	for path, want := range map[string]string{
		"/version": `"etcdcluster":"3.7.0"`, "/health": `"health":"true"`, "/metrics": "grpc_server_handled_total", "/debug/vars": "file_descriptor_limit",
	} {
		args := []string{u.String() + path}
		if flag != "" {
			args = append(args, flag)
		}
		gotProto, code, body, err := f.curl(t, args...)
		if err != nil || gotProto != proto || code != "200" || !strings.Contains(body, want) {
			t.Errorf("%s: HTTP/%s %s, %v, want HTTP/%s and %q in\n%.300s", path, gotProto, code, err, proto, want, body)
		}
	}
}

func TestDoor_wrongProtocolOnlyFails(t *testing.T) {
	plain := start(t, "http", nil)
	if _, _, out, err := plain.curl(t, "-k", "https://"+plain.addr()+"/version"); err == nil {
		t.Errorf("a TLS client got an answer from a plaintext port: %s", out)
	}
	waitFor(t, "the warning", func() bool {
		return plain.log.has(`"level":"warn"`, "rejected connection on client endpoint", "remote-addr", "its URL is http")
	})
	secure := start(t, "https", nil)
	if _, code, out, err := secure.curl(t, "http://"+secure.addr()+"/version"); err == nil {
		t.Errorf("a plaintext client got %s from a TLS port: %s", code, out)
	}
	waitFor(t, "the warning", func() bool {
		return secure.log.has(`"level":"warn"`, "rejected connection on client endpoint", "does not look like a TLS handshake")
	})
}

func TestDoor_clientWithoutCertificate(t *testing.T) {
	f := start(t, "https", nil)
	cfg := f.pki.client.Clone()
	cfg.Certificates, cfg.ServerName = nil, "localhost"
	c, err := tls.Dial("tcp", f.addr(), cfg)
	if err == nil { // TLS 1.3: the refusal comes with the first read
		_, err = c.Read(make([]byte, 1))
		_ = c.Close()
	}
	if err == nil {
		t.Error("a client without a certificate was let in")
	}
	waitFor(t, "the warning", func() bool {
		return f.log.has("rejected connection on client endpoint", `"server-name":"localhost"`, "certificate")
	})
}

func TestDoor_refusesOldTLS(t *testing.T) {
	f := start(t, "https", func(o *Options) {
		inner := o.TLS.Clone()
		inner.MinVersion = tls.VersionTLS10 // what the settings say by mistake
		o.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return inner, nil }}
	})
	for version, ok := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		cfg := f.pki.client.Clone()
		cfg.ServerName, cfg.MinVersion, cfg.MaxVersion = "localhost", tls.VersionTLS10, version
		c, err := tls.Dial("tcp", f.addr(), cfg)
		if (err == nil) != ok {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err == nil {
			_ = c.Close()
		}
	}
}

func TestDoor_certificatesChangeWithoutRestart(t *testing.T) {
	var current atomic.Pointer[tls.Config]
	f := start(t, "https", func(o *Options) {
		current.Store(o.TLS)
		o.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return current.Load(), nil }}
	})
	served := func() string {
		cfg := f.pki.client.Clone()
		cfg.ServerName, cfg.NextProtos = "localhost", []string{"h2"}
		c, err := tls.Dial("tcp", f.addr(), cfg)
		must(t, err)
		defer func() { _ = c.Close() }()
		if s := c.ConnectionState(); s.NegotiatedProtocol != "h2" {
			t.Errorf("negotiated %q", s.NegotiatedProtocol)
		}
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	for _, name := range []string{"server", "renewed"} {
		if name != "server" {
			next := f.pki.server.Clone()
			next.Certificates = []tls.Certificate{f.pki.issue(t, name, time.Now().Add(time.Hour))}
			current.Store(next)
		}
		if cn := served(); cn != name {
			t.Errorf("served %q, want %q", cn, name)
		}
	}
}

// dialGRPC connects with TLS settings of the test's choosing.
func (f *fixture) dialGRPC(t *testing.T, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+f.addr(), grpc.WithTransportCredentials(creds))
	must(t, err)
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

// bothProtocols offers HTTP/1.1 as well, which gRPC libraries do not, so that
// the door takes the client for a browser.
type bothProtocols struct{ *tls.Config }

func (b bothProtocols) ClientHandshake(ctx context.Context, _ string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	cfg := b.Config.Clone()
	cfg.NextProtos, cfg.ServerName = []string{"h2", "http/1.1"}, "localhost"
	c := tls.Client(raw, cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, nil, err
	}
	return c, credentials.TLSInfo{State: c.ConnectionState(), CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
}

func (b bothProtocols) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	panic("a client")
}
func (b bothProtocols) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}
func (b bothProtocols) Clone() credentials.TransportCredentials { return b }
func (b bothProtocols) OverrideServerName(string) error         { return nil }

func TestDoor_identityReachesGRPC(t *testing.T) {
	for name, wrap := range map[string]func(*tls.Config) credentials.TransportCredentials{
		"grpc's own server": credentials.NewTLS,
		"HTTP fallback":     func(c *tls.Config) credentials.TransportCredentials { return bothProtocols{c} },
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, "https", nil)
			who := make(chan string, 1)
			hook := func(ctx context.Context, _ *pb.PutRequest) error {
				p, _ := peer.FromContext(ctx)
				info, _ := p.AuthInfo.(credentials.TLSInfo)
				who <- info.State.VerifiedChains[0][0].Subject.CommonName
				return nil
			}
			f.backend.onPut.Store(&hook)
			cc := f.dialGRPC(t, wrap(f.pki.client.Clone()))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := pb.NewKVClient(cc).Put(ctx, &pb.PutRequest{Key: []byte("k")})
			must(t, err)
			if cn := <-who; cn != "alice" {
				t.Errorf("the backend sees %q", cn)
			}
		})
	}
}

func TestGHSA6vchq96h7gc3_noHandshake(t *testing.T) {
	f := start(t, "http https", func(o *Options) {
		o.HandshakeTimeout, o.HeaderTimeout = 300*time.Millisecond, 300*time.Millisecond
	})
	for name, bytes := range map[string]string{
		"nothing":                "",
		"half a preface":         preface[:10],
		"half a TLS hello":       "\x16\x03\x01\x02\x00\x01",
		"TLS header and garbage": "\x16\x03\x01\x00\x05hello",
		"garbage":                "\x00\xff\x00\xffgarbage\r\n\r\n",
		"slow HTTP header":       "GET /version HTTP/1.1\r\nHost:",
		"preface and garbage":    preface + "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
		"preface and silence":    preface,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", f.addr())
			must(t, err)
			defer func() { _ = c.Close() }()
			_, err = io.WriteString(c, bytes)
			must(t, err)
			must(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
			if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
				t.Error("the server keeps the connection")
			}
		})
	}
	t.Run("others are served meanwhile", func(t *testing.T) {
		t.Parallel()
		f.putAndGet(t, f.urls[1])
	})
}

func TestDoor_slotsBoundTheUndecided(t *testing.T) {
	f := start(t, "http", func(o *Options) { o.MaxHandshakes, o.HandshakeTimeout = 2, time.Minute })
	var silent []net.Conn
	for range 2 {
		c, err := net.Dial("tcp", f.addr())
		must(t, err)
		silent = append(silent, c)
	}
	d := f.doors[0]
	waitFor(t, "both slots to be taken", func() bool { return len(d.slots) == 2 })
	client := http.Client{Timeout: 200 * time.Millisecond}
	if _, err := client.Get("http://" + f.addr() + "/version"); err == nil {
		t.Error("served beyond the bound")
	}
	for _, c := range silent {
		_ = c.Close()
	}
	client.Timeout = time.Minute
	waitFor(t, "the queue to move on", func() bool {
		resp, err := client.Get("http://" + f.addr() + "/version")
		if err == nil {
			_ = resp.Body.Close()
		}
		return err == nil
	})
	client.CloseIdleConnections()
}

// Silent connections, more than there are slots for, keep nobody out.
func TestPR22143_noHeaders(t *testing.T) {
	f := start(t, "http", func(o *Options) { o.MaxHandshakes, o.HandshakeTimeout = 2, time.Minute })
	for range 3 {
		c, err := net.Dial("tcp", f.addr())
		must(t, err)
		t.Cleanup(func() { _ = c.Close() })
	}
	waitFor(t, "the slots to be taken", func() bool { return len(f.doors[0].slots) == 2 })
	client := http.Client{Timeout: 40 * time.Second}
	resp, err := client.Get("http://" + f.addr() + "/version")
	must(t, err)
	_ = resp.Body.Close()
	client.CloseIdleConnections()
}

func TestDoor_connectionEndsWithItsCertificate(t *testing.T) {
	f := start(t, "https", nil)
	cfg := f.pki.client.Clone()
	cfg.NextProtos, cfg.ServerName = []string{"h2"}, "localhost"
	var c *tls.Conn
	waitFor(t, "a connection before the certificate ends", func() (ok bool) {
		cfg.Certificates = []tls.Certificate{f.pki.issue(t, "short", time.Now().Add(3*time.Second))}
		var err error
		c, err = tls.Dial("tcp", f.addr(), cfg)
		return err == nil
	})
	defer func() { _ = c.Close() }()
	// And empty SETTINGS; too late if the connection has ended already.
	_, _ = io.WriteString(c, preface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	must(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err := io.Copy(io.Discard, c)
	if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		t.Error("the connection outlived the certificate")
	}
}

func TestDoor_grpcOnlyAndHTTPOnlySockets(t *testing.T) {
	ls, err := Listen(ListenConfig{ClientURLs: parseURLs(t, "http://127.0.0.1:0"), HTTPURLs: parseURLs(t, "http://127.0.0.1:0")})
	must(t, err)
	defer func() { must(t, ls.Close()) }()
	f := start(t, "http", func(o *Options) {
		must(t, o.Listeners.Close())
		o.Listeners = ls
	})
	f.putAndGet(t, ls.ClientURLs()[0])
	if _, _, _, err := f.curl(t, "http://"+ls.ClientURLs()[0].Host+"/version"); err == nil {
		t.Error("HTTP is answered where only gRPC is served")
	}
	if _, code, _, err := f.curl(t, "http://"+ls.HTTPURLs()[0].Host+"/version"); err != nil || code != "200" {
		t.Errorf("HTTP socket: %s, %v", code, err)
	}
	cc, err := grpc.NewClient("passthrough:///"+ls.HTTPURLs()[0].Host, grpc.WithTransportCredentials(newHandshaken()))
	must(t, err)
	defer func() { _ = cc.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := pb.NewKVClient(cc).Put(ctx, &pb.PutRequest{Key: []byte("k")}); status.Code(err) != codes.Unavailable {
		t.Errorf("gRPC on the HTTP socket: %v", err)
	}
}

func TestDoor_unixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	u := parseURLs(t, "unix://"+path)
	// A socket file left behind by a process that was killed.
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	stale.SetUnlinkOnClose(false)
	must(t, stale.Close())
	ls, err := Listen(ListenConfig{ClientURLs: u})
	must(t, err)
	f := start(t, "http", func(o *Options) {
		must(t, o.Listeners.Close())
		o.Listeners = ls
	})
	f.putAndGet(t, u[0])
	c, err := net.Dial("unix", path)
	must(t, err)
	defer func() { _ = c.Close() }()
	_, err = io.WriteString(c, "GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	must(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	if resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
}
