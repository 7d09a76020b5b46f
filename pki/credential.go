package pki

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/conclave-kv/conclave/internal/durable"
)

// credential is a certificate with its key, ready for TLS. It never changes.
type credential struct {
	tls     tls.Certificate // Leaf is set
	renewAt time.Time
}

// newCredential joins a chain, leaf first, and the leaf's key.
func newCredential(key crypto.Signer, chain ...*x509.Certificate) *credential {
	c := &credential{tls: tls.Certificate{PrivateKey: key, Leaf: chain[0]}, renewAt: renewAt(chain[0])}
	for _, cert := range chain {
		c.tls.Certificate = append(c.tls.Certificate, cert.Raw)
	}
	return c
}

func (c *credential) leaf() *x509.Certificate { return c.tls.Leaf }

// renewAt is two thirds into the certificate's life, up to a twentieth of it
// earlier or later, so that members started together do not renew together. The
// serial number is the source of chance: a restart comes to the same time.
func renewAt(cert *x509.Certificate) time.Time {
	life := cert.NotAfter.Sub(cert.NotBefore)
	serial := cert.SerialNumber.Bytes()
	var chance int64
	for _, b := range serial[max(0, len(serial)-2):] {
		chance = chance<<8 | int64(b)
	}
	jitter := time.Duration(float64(life) / 10 * (float64(chance)/(1<<16) - 0.5))
	return cert.NotBefore.Add(life/3*2 + jitter)
}

// usable tells whether the credential is valid now.
func (c *credential) usable(now time.Time) bool {
	return c != nil && !now.Before(c.leaf().NotBefore) && now.Before(c.leaf().NotAfter)
}

// due tells whether it is time to replace the credential, also because it is not
// valid yet: it was issued while the clock was ahead.
func (c *credential) due(now time.Time) bool {
	return c == nil || now.Before(c.leaf().NotBefore) || !now.Before(c.renewAt)
}

// names tells whether the certificate holds exactly these hosts.
func (c *credential) names(hosts []string) bool {
	have := append([]string{}, c.leaf().DNSNames...)
	for _, ip := range c.leaf().IPAddresses {
		have = append(have, ip.String())
	}
	want := slices.Clone(hosts)
	slices.Sort(have)
	slices.Sort(want)
	return slices.Equal(have, want)
}

// save writes chain and key to one file, 0600.
func (c *credential) save(path string) error {
	key, ok := c.tls.PrivateKey.(crypto.Signer)
	if !ok {
		return fmt.Errorf("key of type %T cannot be stored", c.tls.PrivateKey)
	}
	keyPEM, err := EncodeKey(key)
	if err != nil {
		return err
	}
	var text []byte
	for _, der := range c.tls.Certificate {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der})...)
	}
	return durable.WriteFile(path, append(text, keyPEM...), 0o600)
}

// loadCredential reads what save wrote.
func loadCredential(path string) (*credential, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	var key crypto.Signer
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		switch block.Type {
		case pemCertificate:
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			chain = append(chain, cert)
		case pemKey:
			if key, err = parseKeyDER(block.Bytes); err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
		}
	}
	if len(chain) == 0 || key == nil || !matches(chain[0], key) {
		return nil, fmt.Errorf("%s: no certificate with its key", path)
	}
	return newCredential(key, chain...), nil
}
