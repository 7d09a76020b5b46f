package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

// ErrRequest is wrapped when what was asked for cannot be issued; its text says
// what to change.
var ErrRequest = errors.New("certificate not issued")

// Request says what to issue. The names in it are all the certificate gets.
type Request struct {
	Profile Profile
	// CN is the user name of a client (required) and the common name of a
	// server or peer (for a member: may be empty).
	CN string
	// Member is the member a peer or server certificate names, 0 for none.
	Member uint64
	// Hosts are the DNS names and addresses of a peer or server.
	Hosts []string
	// CSR is a PKCS#10 request, DER or PEM, that proves possession of the key.
	CSR []byte
	// Lifetime counts from Now; 0 is the profile's default.
	Lifetime time.Duration
	Now      time.Time
	// Serial is drawn at random when nil.
	Serial *big.Int
}

// plan is a Request made exact: everything the certificate will say.
type plan struct {
	cn        string
	uri       string // "" for none
	hosts     []string
	csr       []byte // DER
	serial    *big.Int
	notBefore time.Time
	notAfter  time.Time
}

// plan decides the names and dates, and compares them with what the CSR asks.
func (a *Authority) plan(req Request) (plan, error) {
	p := plan{cn: req.CN, serial: req.Serial}
	var err error
	if p.hosts, err = cleanHosts(req.Hosts); err != nil {
		return p, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if err := a.planName(req, &p); err != nil {
		return p, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if p.csr, err = p.checkCSR(req.CSR); err != nil {
		return p, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if req.Lifetime == 0 {
		req.Lifetime = req.Profile.lifetime()
	}
	if err := CheckLifetime(req.Lifetime); err != nil {
		return p, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if p.notBefore, p.notAfter, err = a.window(req.Now, req.Lifetime); err != nil {
		return p, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if p.serial == nil {
		p.serial, err = newSerial()
	}
	return p, err
}

// planName fills in the common name and the URI.
func (a *Authority) planName(req Request, p *plan) error {
	n := Name{TrustDomain: a.trustDomain, Member: req.Member}
	switch req.Profile {
	case ProfileClient:
		if len(p.hosts) > 0 || req.Member != 0 {
			return errors.New("--hosts: a client certificate names a user and no hosts; use --profile server or peer")
		}
		n.User = req.CN
		if err := checkUser(req.CN); err != nil {
			return err
		}
	case ProfilePeer, ProfileServer:
		if len(p.hosts) == 0 {
			return fmt.Errorf("--hosts: a %s certificate needs the names and addresses it is reached by", req.Profile)
		}
		if p.cn == "" && req.Member != 0 {
			p.cn = fmt.Sprintf("member %016x", req.Member)
		}
		if err := checkUser(p.cn); err != nil {
			return err
		}
	default:
		return fmt.Errorf("--profile %q: use peer, server or client", req.Profile)
	}
	if a.trustDomain != "" && (n.Member != 0 || n.User != "") {
		p.uri = n.URI().String()
	}
	return nil
}

var (
	oidCommonName     = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// maxCSR bounds a certificate request, in bytes.
const maxCSR = 32 << 10

// checkCSR verifies a certificate request and refuses one that asks for more
// than the plan gives, so that nobody believes to hold what was dropped.
func (p *plan) checkCSR(b []byte) (der []byte, err error) {
	if block, _ := pem.Decode(b); block != nil {
		b = block.Bytes
	}
	if len(b) > maxCSR {
		return nil, fmt.Errorf("CSR: %d bytes are more than a PKCS#10 request needs, at most %d", len(b), maxCSR)
	}
	r, err := x509.ParseCertificateRequest(b)
	if err != nil {
		return nil, errors.New("CSR: not a PKCS#10 certificate request in DER or PEM form")
	}
	// The key first: a signature by an RSA key of 100,000 bits takes long
	// to verify.
	if err := checkPublicKey(r.PublicKey); err != nil {
		return nil, err
	}
	if err := r.CheckSignature(); err != nil {
		return nil, errors.New("CSR: its signature is not by its own key")
	}
	for _, attr := range r.Subject.Names {
		if !attr.Type.Equal(oidCommonName) || attr.Value != p.cn {
			return nil, fmt.Errorf("CSR asks for the subject %q: leave it out or make it CN=%s (--cn)", r.Subject, p.cn)
		}
	}
	for _, ext := range r.Extensions {
		if !ext.Id.Equal(oidSubjectAltName) {
			return nil, fmt.Errorf("CSR asks for the extension %v: leave it out, the profile decides uses and constraints", ext.Id)
		}
	}
	if len(r.EmailAddresses) > 0 {
		return nil, fmt.Errorf("CSR asks for the e-mail address %q: leave it out", r.EmailAddresses[0])
	}
	var asked []string
	for _, ip := range r.IPAddresses {
		asked = append(asked, ip.String())
	}
	asked = append(asked, r.DNSNames...)
	for _, u := range r.URIs {
		asked = append(asked, u.String())
	}
	for _, name := range asked {
		if name != p.uri && !slices.Contains(p.hosts, name) {
			return nil, fmt.Errorf("CSR asks for the name %q: leave it out or add it to --hosts", name)
		}
	}
	return r.Raw, nil
}

// checkPublicKey refuses keys that are too weak or that TLS does not use.
func checkPublicKey(pub any) error {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize >= 256 {
			return nil
		}
		return fmt.Errorf("CSR: ECDSA key on %s is too weak, use P-256", k.Curve.Params().Name)
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 8192 {
			return fmt.Errorf("CSR: RSA key of %d bits, use 2048 to 8192, or ECDSA P-256", n)
		}
		return nil
	}
	return fmt.Errorf("CSR: key of type %T, use ECDSA P-256", pub)
}

// verify compares a certificate with its plan.
func (p *plan) verify(cert *x509.Certificate) error {
	var dns, uris []string
	var ips []net.IP
	for _, h := range p.hosts {
		if ip := net.ParseIP(h); ip != nil {
			ips = append(ips, ip)
		} else {
			dns = append(dns, h)
		}
	}
	for _, u := range cert.URIs {
		uris = append(uris, u.String())
	}
	var want []string
	if p.uri != "" {
		want = []string{p.uri}
	}
	switch {
	case len(cert.Subject.Names) != 1 || cert.Subject.CommonName != p.cn:
		return fmt.Errorf("subject is %q", cert.Subject)
	case !slices.Equal(cert.DNSNames, dns), !slices.EqualFunc(cert.IPAddresses, ips, net.IP.Equal), !slices.Equal(uris, want),
		len(cert.EmailAddresses) > 0:
		return errors.New("its names are not those asked for")
	case cert.IsCA || !cert.BasicConstraintsValid:
		return errors.New("it could act as a CA")
	case !cert.NotBefore.Equal(p.notBefore) || !cert.NotAfter.Equal(p.notAfter):
		return errors.New("its dates are not those asked for")
	case !bytes.Equal(cert.SerialNumber.Bytes(), p.serial.Bytes()):
		return errors.New("its serial number is not the one drawn")
	}
	return nil
}
