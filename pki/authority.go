package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/cloudflare/cfssl/config"
	"github.com/cloudflare/cfssl/csr"
	"github.com/cloudflare/cfssl/helpers"
	"github.com/cloudflare/cfssl/initca"
	"github.com/cloudflare/cfssl/signer"
	"github.com/cloudflare/cfssl/signer/local"
)

// ErrClock means that a certificate is not valid at the time the clock of this
// host shows.
var ErrClock = errors.New("clock or certificate out of date")

// Authority is one CA: a certificate and its private key. It is safe for
// concurrent use.
type Authority struct {
	cert        *x509.Certificate
	key         crypto.Signer
	trustDomain string // "" for a CA outside any cluster: no URIs
	engine      *local.Signer
}

// AuthorityOptions describe a new CA.
type AuthorityOptions struct {
	CN          string
	TrustDomain string        // "" for a CA that belongs to no cluster
	Lifetime    time.Duration // 0: CALifetime
	Now         time.Time
	// Crosses lets the CA sign the key of one more CA below it.
	Crosses bool
}

// NewAuthority makes a self-signed CA with a new P-256 key.
func NewAuthority(o AuthorityOptions) (*Authority, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	request, err := csr.Generate(key, &csr.CertificateRequest{CN: o.CN})
	if err != nil {
		return nil, fmt.Errorf("make the request of CA %q: %w", o.CN, err)
	}
	// initca.New would take the lifetime as text, count it from the backdated
	// beginning and read the host's own clock. Its policy and its engine, a
	// signer without a certificate, with both dates given:
	policy := initca.CAPolicy()
	policy.Default.CSRWhitelist = keyOnly()
	policy.Default.CAConstraint = config.CAConstraint{IsCA: true, MaxPathLenZero: !o.Crosses}
	if o.Crosses {
		policy.Default.CAConstraint.MaxPathLen = 1
	}
	engine, err := local.NewSigner(key, nil, signer.DefaultSigAlgo(key), policy)
	if err != nil {
		return nil, fmt.Errorf("make CA %q: %w", o.CN, err)
	}
	if o.Lifetime == 0 {
		o.Lifetime = CALifetime
	}
	certPEM, err := engine.Sign(signer.SignRequest{
		Request:   string(request),
		Hosts:     []string{}, // not nil: nil would copy those of the request
		Subject:   &signer.Subject{CN: o.CN},
		NotBefore: o.Now.Add(-Backdate).Truncate(time.Second),
		NotAfter:  o.Now.Add(o.Lifetime).Truncate(time.Second),
	})
	if err != nil {
		return nil, fmt.Errorf("sign CA %q: %w", o.CN, err)
	}
	cert, err := parseOne(certPEM)
	if err != nil {
		return nil, fmt.Errorf("sign CA %q: %w", o.CN, err)
	}
	return newAuthority(cert, key, o.TrustDomain)
}

// newAuthority joins a CA certificate and its key.
func newAuthority(cert *x509.Certificate, key crypto.Signer, trustDomain string) (*Authority, error) {
	installBridge()
	switch {
	case !cert.IsCA || !cert.BasicConstraintsValid || cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, fmt.Errorf("certificate %q is not that of a CA", cert.Subject.CommonName)
	case !matches(cert, key):
		return nil, fmt.Errorf("private key does not belong to CA certificate %q", cert.Subject.CommonName)
	}
	engine, err := local.NewSigner(key, cert, signer.DefaultSigAlgo(key), signing())
	if err != nil {
		return nil, fmt.Errorf("set up CA %q: %w", cert.Subject.CommonName, err)
	}
	return &Authority{cert: cert, key: key, trustDomain: trustDomain, engine: engine}, nil
}

// loadAuthority reads what a Generation holds of a CA: certificate and private
// key, both DER.
func loadAuthority(certDER, keyDER []byte, trustDomain string) (*Authority, error) {
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return nil, fmt.Errorf("read a CA certificate: %w", err)
	}
	key, err := parseKeyDER(keyDER)
	if err != nil {
		return nil, fmt.Errorf("read the key of CA %q: %w", cert.Subject.CommonName, err)
	}
	return newAuthority(cert, key, trustDomain)
}

// Certificate returns the CA's certificate, which nobody may modify.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// TrustDomain returns the trust domain the CA signs for, "" for none.
func (a *Authority) TrustDomain() string { return a.trustDomain }

// keyDER returns the private key as PKCS#8, to be sealed.
func (a *Authority) keyDER() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, fmt.Errorf("encode the key of CA %q: %w", a.cert.Subject.CommonName, err)
	}
	return der, nil
}

// Issue signs a certificate for the key in req.CSR with exactly the names of
// req. It ends at the CA's end at the latest. It refuses a request that asks for
// more than req says, and a clock outside the CA's own validity.
func (a *Authority) Issue(req Request) (*x509.Certificate, error) {
	plan, err := a.plan(req)
	if err != nil {
		return nil, err
	}
	cert, err := a.sign(plan, string(req.Profile))
	if err != nil {
		return nil, err
	}
	// cfssl turns strings into names by looking at them. What it made of
	// ours is compared before anybody gets it.
	if err := plan.verify(cert); err != nil {
		return nil, fmt.Errorf("certificate for %q came out wrong: %w", plan.cn, err)
	}
	return cert, nil
}

// cross signs the name and key of another CA, which may then be recognized by
// who knows only this one. It lives as long as both.
func (a *Authority) cross(other *Authority, now time.Time) (*x509.Certificate, error) {
	request, err := NewRequest(other.key)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	first, last, err := a.window(now, other.cert.NotAfter.Sub(now))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(request)
	return a.sign(plan{
		cn: other.cert.Subject.CommonName, csr: block.Bytes, serial: serial, notBefore: first, notAfter: last,
	}, string(profileCross))
}

// window is the validity of something issued now, within the CA's own.
func (a *Authority) window(now time.Time, lifetime time.Duration) (first, last time.Time, err error) {
	if lifetime <= 0 {
		return first, last, fmt.Errorf("lifetime %v: use a positive duration such as 720h", lifetime)
	}
	if now.Before(a.cert.NotBefore) || !now.Before(a.cert.NotAfter) {
		return first, last, clockError(a.cert, fmt.Sprintf("CA %q", a.cert.Subject.CommonName), now)
	}
	first, last = now.Add(-Backdate).Truncate(time.Second), now.Add(lifetime).Truncate(time.Second)
	if first.Before(a.cert.NotBefore) {
		first = a.cert.NotBefore
	}
	if last.After(a.cert.NotAfter) {
		last = a.cert.NotAfter
	}
	return first.UTC(), last.UTC(), nil
}

// sign hands a plan to cfssl.
func (a *Authority) sign(p plan, profile string) (*x509.Certificate, error) {
	hosts := append([]string{}, p.hosts...) // never nil: nil would copy those of the request
	if p.uri != "" {
		hosts = append(hosts, p.uri)
	}
	certPEM, err := a.engine.Sign(signer.SignRequest{
		Request:   string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: p.csr})),
		Hosts:     hosts,
		Subject:   &signer.Subject{CN: p.cn},
		Profile:   profile,
		Serial:    new(big.Int).Set(p.serial),
		NotBefore: p.notBefore,
		NotAfter:  p.notAfter,
	})
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for %q: %w", p.cn, err)
	}
	cert, err := parseOne(certPEM)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for %q: %w", p.cn, err)
	}
	if err := cert.CheckSignatureFrom(a.cert); err != nil {
		return nil, fmt.Errorf("sign a certificate for %q: %w", p.cn, err)
	}
	return cert, nil
}

// parseOne reads exactly one certificate in PEM form.
func parseOne(b []byte) (*x509.Certificate, error) {
	cert, err := helpers.ParseCertificatePEM(bytes.TrimSpace(b))
	if err != nil {
		return nil, errors.New("not one certificate in PEM form")
	}
	return cert, nil
}
