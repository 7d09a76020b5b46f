package api

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// testPKI is one CA with a server and a client certificate.
type testPKI struct {
	dir    string // ca.pem, cert.pem, key.pem (the client's)
	server *tls.Config
	client *tls.Config
	issue  func(t testing.TB, cn string, notAfter time.Time) tls.Certificate
}

func newTestPKI(t testing.TB) *testPKI {
	t.Helper()
	caKey := newKey(t)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test ca"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pemOf("CERTIFICATE", caDER))
	serial := int64(1)
	p := &testPKI{dir: t.TempDir()}
	p.issue = func(t testing.TB, cn string, notAfter time.Time) tls.Certificate {
		t.Helper()
		serial++
		key := newKey(t)
		tmpl := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: notAfter,
			KeyUsage:    x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, ca, key.Public(), caKey)
		must(t, err)
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
	hour := time.Now().Add(time.Hour)
	p.server = &tls.Config{Certificates: []tls.Certificate{p.issue(t, "server", hour)}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	own := p.issue(t, "alice", hour)
	p.client = &tls.Config{Certificates: []tls.Certificate{own}, RootCAs: pool}
	keyDER, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	must(t, err)
	for name, data := range map[string][]byte{
		"ca.pem": pemOf("CERTIFICATE", caDER), "cert.pem": pemOf("CERTIFICATE", own.Certificate[0]), "key.pem": pemOf("PRIVATE KEY", keyDER),
	} {
		must(t, os.WriteFile(filepath.Join(p.dir, name), data, 0o600))
	}
	return p
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return k
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fixture is a running server on ports of its own.
type fixture struct {
	*Server
	backend *fakeBackend
	pki     *testPKI // nil without https
	log     *lockedBuffer
	urls    []url.URL // client URLs as bound
	metrics []url.URL
}

// start runs a server with one client socket for the schemes (all on one
// port) and one metrics socket; it is closed and checked for leaked
// goroutines at the end of the test.
func start(t testing.TB, schemes string, change func(*Options)) *fixture {
	t.Helper()
	before := runtime.NumGoroutine()
	f := &fixture{backend: newFakeBackend(), log: &lockedBuffer{}}
	cfg := ListenConfig{MetricsURLs: parseURLs(t, "http://127.0.0.1:0")}
	for _, s := range strings.Fields(schemes) {
		cfg.ClientURLs = append(cfg.ClientURLs, parseURLs(t, s+"://127.0.0.1:0")...)
	}
	ls, err := Listen(cfg)
	must(t, err)
	o := Options{
		Backend: f.backend, Listeners: ls, Registry: prometheus.NewRegistry(),
		Log: zerolog.New(f.log).Level(zerolog.DebugLevel), StopTimeout: 2 * time.Second,
	}
	if strings.Contains(schemes, "https") {
		f.pki = newTestPKI(t)
		o.TLS = f.pki.server
	}
	if change != nil {
		change(&o)
	}
	f.Server, err = New(o)
	must(t, err)
	f.urls, f.metrics = ls.ClientURLs(), ls.MetricsURLs()
	served := make(chan error, 1)
	go func() { served <- f.Serve() }()
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		waitForGoroutines(t, before)
	})
	return f
}

// parseURLs parses what is known to be right.
func parseURLs(t testing.TB, raw ...string) []url.URL {
	t.Helper()
	var out []url.URL
	for _, r := range raw {
		u, err := url.Parse(r)
		must(t, err)
		out = append(out, *u)
	}
	return out
}

// addr is the host:port of the client socket.
func (f *fixture) addr() string { return f.urls[0].Host }

// etcd is etcd's own client, closed at the end of the test.
func (f *fixture) etcd(t testing.TB, u url.URL) *clientv3.Client {
	t.Helper()
	cfg := clientv3.Config{Endpoints: []string{u.String()}, Logger: zap.NewNop(), DialTimeout: 5 * time.Second}
	if u.Scheme == "https" {
		cfg.TLS = f.pki.client.Clone()
	}
	c, err := clientv3.New(cfg)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// waitFor waits until cond holds, at most ten seconds.
func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 10 s for %s", what)
		}
	}
}

func waitForGoroutines(t testing.TB, want int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); runtime.NumGoroutine() > want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), want, buf[:runtime.Stack(buf, true)])
		}
	}
}
