package testcluster_test

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/conclave-kv/conclave/internal/testcluster"
)

// What was done with rights, with tokens that are signed.
func TestAdvisories_withSignedTokens(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("a secret of some length"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := newAttacked(t, "jwt,sign-method=HS256,priv-key="+key)
	if token := login(t, a.conn("nobody"), "alice"); strings.Count(token, ".") != 2 {
		t.Fatalf("%s is not signed", token)
	}
	for _, attack := range []func(*attacked){nestedTransaction, leaseInTransaction, leaseTimeToLive, callsWithoutAuthentication, openEndedWatch, prevKVInTransaction} {
		attack(a)
	}
}

// A page has its own name resolve to the member, which then is of the same origin.
func TestCVE20181099_dnsRebinding(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{})
	url := c.Members[0].ClientURL
	for _, headers := range []map[string]string{
		{"Origin": "http://evil.example", "Content-Type": "application/json", "Sec-Fetch-Site": "same-origin"},
		{"Origin": "http://evil.example", "Content-Type": "application/json"},
		{"User-Agent": "Mozilla/5.0", "Content-Type": "application/json"},
		{"Origin": "http://evil.example", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="},
	} {
		method := http.MethodPost
		if headers["Upgrade"] != "" {
			method = http.MethodGet
		}
		req, err := http.NewRequestWithContext(within(t), method, url+"/v3/kv/put", strings.NewReader(putA))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "evil.example"
		for name, value := range headers {
			req.Header.Set(name, value)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("%v: %s", headers, resp.Status)
		}
	}
	if r, err := client(t, url).Get(within(t), "a/1"); err != nil || len(r.Kvs) != 0 {
		t.Errorf("a page has written: %v, %v", r, err)
	}
}

// Ciphers without forward secrecy or authenticated encryption were on by default.
func TestGHSA5x4gq5rc36jp_weakCiphers(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{Secure: true})
	one := c.Members[0]
	with := func(suites ...uint16) *tls.Config {
		cfg := upTo(c.ClientTLS("root"), tls.VersionTLS12)
		cfg.CipherSuites = suites
		return cfg
	}
	if status, err := knock(t, one.ClientURL, with(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)); status != http.StatusOK {
		t.Errorf("a strong one: %d, %v", status, err)
	}
	weak := []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA}
	for _, s := range tls.InsecureCipherSuites() {
		weak = append(weak, s.ID)
	}
	for _, suite := range weak {
		if status, err := knock(t, one.ClientURL, with(suite)); err == nil {
			t.Errorf("%s: served with status %d", tls.CipherSuiteName(suite), status)
		}
	}
}
