package raftstore

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// testCA signs member certificates.
type testCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newTestCA(t *testing.T) *testCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	shape := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "peer CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, shape, shape, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &testCA{cert, key, pool}
}

// member is a certificate for that id, ending after life.
func (ca *testCA) member(t *testing.T, id uint64, life time.Duration) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(int64(id) + 1),
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		URIs:        []*url.URL{{Scheme: "conclave", Host: "test", Path: "/member/" + memberText(id)}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, ca.cert, key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func memberOf(state tls.ConnectionState) (uint64, error) {
	if len(state.PeerCertificates) == 0 || len(state.PeerCertificates[0].URIs) != 1 {
		return 0, errors.New("no member certificate was shown")
	}
	var id uint64
	_, err := fmt.Sscanf(state.PeerCertificates[0].URIs[0].Path, "/member/%x", &id)
	return id, err
}

// secured gives a mesh the certificate of member id.
func (ca *testCA) secured(t *testing.T, id uint64, life time.Duration) func(*MeshConfig) {
	cert := ca.member(t, id, life)
	return func(c *MeshConfig) {
		c.ServerTLS = func() *tls.Config {
			return &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: ca.pool, ClientAuth: tls.RequireAndVerifyClientCert}
		}
		c.ClientTLS = func(uint64) *tls.Config {
			return &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: ca.pool}
		}
		c.PeerID = memberOf
		c.HTTP = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, r.URL.Path, " over TLS: ", r.TLS != nil)
		})
	}
}

func https(url string) string { return strings.Replace(url, "http://", "https://", 1) }

func TestMesh_overTLS(t *testing.T) {
	ca := newTestCA(t)
	a, urlA := tcpMesh(t, 1, ca.secured(t, 1, time.Hour))
	b, urlB := tcpMesh(t, 2, ca.secured(t, 2, time.Hour))
	a.SetPeers(map[uint64][]string{2: {https(urlB)}})
	b.SetPeers(map[uint64][]string{1: {https(urlA)}})
	awaitBoth(t, a, 2)
	awaitBoth(t, b, 1)
	for _, size := range []int{10, 5 << 20} {
		if err := call(t, a, 2, strings.Repeat("s", size), patience); err != nil {
			t.Fatal(err)
		}
	}
	cert := ca.member(t, 7, time.Hour)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		Certificates: []tls.Certificate{cert}, RootCAs: ca.pool,
	}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get(https(urlA) + "/version")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "/version over TLS: true" {
		t.Errorf("HTTP says %q", body)
	}
}

func TestMesh_tlsRefusals(t *testing.T) {
	ca, other := newTestCA(t), newTestCA(t)
	_, urlB := tcpMesh(t, 2, ca.secured(t, 2, time.Hour))
	_, plain := tcpMesh(t, 2, nil)
	for name, c := range map[string]struct {
		settings func(*MeshConfig)
		url      string
		want     string
	}{
		"another member's certificate": {ca.secured(t, 9, time.Hour), https(urlB), "the certificate is member 9's, not 1's"},
		"another authority":            {other.secured(t, 1, time.Hour), https(urlB), "unknown authority"},
		"expired":                      {ca.secured(t, 1, -time.Minute), https(urlB), "certificate"},
		"plaintext to TLS":             {nil, urlB, "does its URL say https?"},
		"TLS to plaintext":             {ca.secured(t, 1, time.Hour), https(plain), "does its URL say http?"},
		"no certificate configured":    {nil, https(urlB), "no peer certificate is configured"},
		"no port":                      {nil, "http://example.com", "has no port"},
		"odd scheme":                   {nil, "ftp://example.com:1", "the scheme must be http or https"},
	} {
		t.Run(name, func(t *testing.T) {
			a, _ := tcpMesh(t, 1, c.settings)
			a.SetPeers(map[uint64][]string{2: {c.url}})
			eventually(t, "refused", func() bool { return statusOf(a, 2).LastError != nil })
			if err := statusOf(a, 2).LastError; !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

// Where TLS lets a foreign certificate in, Refusal says why it may not speak.
func TestMesh_refusalNamesTheReason(t *testing.T) {
	ca := newTestCA(t)
	_, url := tcpMesh(t, 2, func(c *MeshConfig) {
		ca.secured(t, 2, time.Hour)(c)
		c.Refusal = func(tls.ConnectionState) error { return errors.New("trust domain aaa is not bbb") }
	})
	a, _ := tcpMesh(t, 1, ca.secured(t, 1, time.Hour))
	a.SetPeers(map[uint64][]string{2: {https(url)}})
	eventually(t, "the reason arrives", func() bool {
		err := statusOf(a, 2).LastError
		return err != nil && strings.HasSuffix(err.Error(), "refused by the peer: trust domain aaa is not bbb")
	})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: a.cfg.ClientTLS(2)}}
	defer client.CloseIdleConnections()
	resp, err := client.Get(https(url) + "/version")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("HTTP: %s", resp.Status)
	}
}

// A client that negotiates something else must not get to speak as a member.
func TestMesh_sessionNeedsItsProtocol(t *testing.T) {
	ca := newTestCA(t)
	a, url := tcpMesh(t, 1, ca.secured(t, 1, time.Hour))
	conn, err := tls.Dial("tcp", url[len("http://"):], &tls.Config{
		Certificates: []tls.Certificate{ca.member(t, 2, time.Hour)}, RootCAs: ca.pool, NextProtos: []string{"http/1.1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	hello := &conclavepb.PeerHello{Protocol: peerProtocol, ClusterId: 0xc1, From: 2, To: 1}
	if err := writeHello(conn, hello); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := conn.Read(make([]byte, 1)); n > 0 || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("read %d, %v", n, err)
	}
	if len(a.Peers()) > 0 {
		t.Error("it became a peer")
	}
}
