package pki

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// start is the time of every test: whole seconds, as certificates have.
var start = time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)

func newSecret(t testing.TB) *Secret {
	t.Helper()
	s, err := NewSecret(start)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newCA(t testing.TB, o AuthorityOptions) *Authority {
	t.Helper()
	if o.CN == "" {
		o.CN = "test CA"
	}
	if o.Now.IsZero() {
		o.Now = start
	}
	a, err := NewAuthority(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newRequest(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	b, err := NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// mustIssue signs a certificate for a new key at start.
func mustIssue(t testing.TB, a *Authority, req Request) tls.Certificate {
	t.Helper()
	key := newKey(t)
	req.CSR = newRequest(t, key)
	if req.Now.IsZero() {
		req.Now = start
	}
	cert, err := a.Issue(req)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// writeFile writes into a fresh temporary directory, 0600.
func writeFile(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// openssl runs the real program and returns what it said.
func openssl(t testing.TB, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed; it is the independent judge of certificates here")
	}
	out, err := exec.Command("openssl", args...).CombinedOutput()
	return string(out), err
}

// strict has openssl verify a certificate up to a CA at the time start.
func strict(t testing.TB, purpose string, ca, leaf *x509.Certificate, between ...*x509.Certificate) {
	t.Helper()
	args := []string{
		"verify", "-x509_strict", "-check_ss_sig", "-purpose", purpose,
		"-attime", itoa(start.Add(time.Minute).Unix()), "-CAfile", writeFile(t, "ca.pem", EncodeCertificates(ca)),
	}
	if len(between) > 0 {
		args = append(args, "-untrusted", writeFile(t, "between.pem", EncodeCertificates(between...)))
	}
	out, err := openssl(t, append(args, writeFile(t, "leaf.pem", EncodeCertificates(leaf)))...)
	if err != nil {
		t.Fatalf("openssl verify -x509_strict -purpose %s: %v\n%s", purpose, err, out)
	}
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// handshake runs a TLS handshake over a loopback connection and returns both
// sides' results. After it, the client has read once, so that it has seen a
// refusal of its certificate.
type handshake struct {
	client, server       tls.ConnectionState
	clientErr, serverErr error
}

func shake(t testing.TB, client, server *tls.Config) handshake {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var h handshake
	done := make(chan struct{})
	go func() {
		defer close(done)
		raw, err := ln.Accept()
		if err != nil {
			h.serverErr = err
			return
		}
		defer raw.Close()
		_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
		c := tls.Server(raw, server)
		if h.serverErr = c.Handshake(); h.serverErr == nil {
			h.server = c.ConnectionState()
			_, _ = c.Write([]byte("x"))
		}
	}()
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
	c := tls.Client(raw, client)
	if h.clientErr = c.Handshake(); h.clientErr == nil {
		h.client = c.ConnectionState()
		_, h.clientErr = c.Read(make([]byte, 1))
	}
	raw.Close()
	<-done
	return h
}

// wantError checks the kind of an error and words of its text.
func wantError(t testing.TB, err, kind error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", words)
	}
	if kind != nil && !errors.Is(err, kind) {
		t.Fatalf("error %q is not %q", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Fatalf("error %q lacks %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Fatalf("error of several lines: %q", err)
	}
}
