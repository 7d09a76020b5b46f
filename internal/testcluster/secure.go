package testcluster

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"github.com/conclave-kv/conclave/pki"
)

func newSecretFile(t testing.TB, path string) string {
	t.Helper()
	secret, err := pki.NewSecret(time.Now())
	if err == nil {
		err = secret.Write(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Authorities are the running CAs of a Secure cluster, as who has the secret
// and a member's data directory opens them. The cluster must have formed.
func (c *Cluster) Authorities() (peer, client *pki.Authority) {
	c.t.Helper()
	secret, err := pki.LoadSecret(c.SecretFile)
	if err != nil {
		c.t.Fatal(err)
	}
	if peer, err = pki.OpenPeerAuthority(c.Members[0].Dir, secret); err != nil {
		c.t.Fatal(err)
	}
	if client, err = pki.OpenClientAuthority(c.Members[0].Dir, secret); err != nil {
		c.t.Fatal(err)
	}
	return peer, client
}

// ClientTLS are the settings of a client with a fresh certificate of that user.
func (c *Cluster) ClientTLS(user string) *tls.Config {
	c.t.Helper()
	_, ca := c.Authorities()
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate())
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		RootCAs:      roots,
		Certificates: []tls.Certificate{Certify(c.t, ca, pki.Request{Profile: pki.ProfileClient, CN: user})},
	}
}

// Certify has ca sign a certificate for a new key.
func Certify(t testing.TB, ca *pki.Authority, req pki.Request) tls.Certificate {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if req.CSR, err = pki.NewRequest(key); err != nil {
		t.Fatal(err)
	}
	if req.Now.IsZero() {
		req.Now = time.Now()
	}
	cert, err := ca.Issue(req)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}
