package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"
)

// What a verification can end with. Texts built on them say what to do.
var (
	// ErrForeign: the certificate is of another trust domain, or of none.
	ErrForeign = errors.New("certificate of another trust domain")
	// ErrNotMember: the certificate is good, and its holder is not a member.
	ErrNotMember = errors.New("not a member of this cluster")
	// ErrCertified: an admission certificate of a member that holds one of the
	// running CA already; its data directory was lost.
	ErrCertified = errors.New("member is already certified")
	// ErrWrongHolder: the certificate is good for something else.
	ErrWrongHolder = errors.New("certificate of another holder")
	// ErrNoCertificate: the other side showed none.
	ErrNoCertificate = errors.New("no certificate shown")
)

// clockError says that cert, called what in the text, is not valid now.
func clockError(cert *x509.Certificate, what string, now time.Time) error {
	stamp := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	if now.Before(cert.NotBefore) {
		return refuse(ErrClock, "%s is valid from %s and it is %s here: the clock of this host or of the peer is off by about %s",
			what, stamp(cert.NotBefore), stamp(now), off(cert.NotBefore.Add(Backdate).Sub(now)))
	}
	return refuse(ErrClock, "%s expired at %s and it is %s here: it was not renewed, or the clock of this host or of the peer is off by about %s",
		what, stamp(cert.NotAfter), stamp(now), off(now.Sub(cert.NotAfter)))
}

// off rounds a difference of clocks to what a reader wants to know.
func off(d time.Duration) time.Duration {
	if d > time.Hour {
		return d.Round(time.Minute)
	}
	return d.Round(time.Second)
}

// Explain turns an error of a TLS handshake into one that says what is wrong in
// the terms of conclave: trust domains, clocks, and flags. trustDomain is the
// caller's own, "" where it has none; now is its clock. An error it knows
// nothing about is returned as it is.
func Explain(err error, trustDomain string, now time.Time) error {
	var (
		verification *tls.CertificateVerificationError
		invalid      x509.CertificateInvalidError
		unknown      x509.UnknownAuthorityError
		host         x509.HostnameError
		alert        *net.OpError
	)
	var shown *x509.Certificate
	if errors.As(err, &verification) && len(verification.UnverifiedCertificates) > 0 {
		shown = verification.UnverifiedCertificates[0]
	}
	switch {
	case err == nil || isExplained(err):
		return err
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return clockError(invalid.Cert, "certificate of "+holder(invalid.Cert), now)
	case errors.As(err, &unknown) && (shown != nil || unknown.Cert != nil):
		if shown == nil {
			shown = unknown.Cert
		}
		return foreignError(shown, trustDomain)
	case errors.As(err, &host) && host.Certificate != nil:
		return refuse(ErrWrongHolder, "certificate of %s is not valid for %s: use a name or address it holds (%s)",
			holder(host.Certificate), host.Host, sans(host.Certificate))
	case errors.As(err, &alert) && alert.Op == "remote error":
		return fmt.Errorf("the other side refused the connection (%w): its log says why", err)
	}
	return err
}

func isExplained(err error) bool {
	for _, known := range []error{ErrForeign, ErrNotMember, ErrCertified, ErrWrongHolder, ErrNoCertificate, ErrClock} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// foreignError says that cert is not from a CA of trustDomain.
func foreignError(cert *x509.Certificate, trustDomain string) error {
	n, err := NameOf(cert)
	switch {
	case err != nil && trustDomain == "":
		return refuse(ErrForeign, "certificate of %s is from a CA that is not trusted here (issuer %q): --trusted-ca-file, --cacert",
			holder(cert), cert.Issuer.CommonName)
	case err != nil:
		return refuse(ErrForeign, "certificate of %s is of no trust domain (issuer %q), this cluster is %s: --cluster-secret-file must be the same file on every member",
			holder(cert), cert.Issuer.CommonName, trustDomain)
	case trustDomain == "":
		return refuse(ErrForeign, "certificate of trust domain %s (%s) is from a CA that is not trusted here: --trusted-ca-file, --cacert",
			n.TrustDomain, n)
	case n.TrustDomain == trustDomain:
		return refuse(ErrForeign, "certificate of %s is from another CA of trust domain %s: its data directory belongs to another cluster made with the same --cluster-secret-file",
			n, trustDomain)
	}
	return refuse(ErrForeign, "certificate of trust domain %s (%s), this cluster is %s: --cluster-secret-file must be the same file on every member",
		n.TrustDomain, n, trustDomain)
}

// holder names whom a certificate is for, as far as it says.
func holder(cert *x509.Certificate) string {
	if n, err := NameOf(cert); err == nil {
		return n.String()
	}
	return fmt.Sprintf("%q", cert.Subject.CommonName)
}

// sans lists the names and addresses of a certificate.
func sans(cert *x509.Certificate) string {
	list := append([]string{}, cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		list = append(list, ip.String())
	}
	return joinUpTo(list, 8)
}

// joinUpTo joins at most n of list, and says how many more there are.
func joinUpTo(list []string, n int) string {
	more := ""
	if len(list) > n {
		more = fmt.Sprintf(" and %d more", len(list)-n)
		list = list[:n]
	}
	out := ""
	for i, s := range list {
		if i > 0 {
			out += ", "
		}
		out += s
	}
	return out + more
}

// refusal is an error of a kind whose text stands for itself.
type refusal struct {
	kind error
	text string
}

func refuse(kind error, format string, args ...any) error {
	return &refusal{kind: kind, text: fmt.Sprintf(format, args...)}
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.kind }
