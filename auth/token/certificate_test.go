package token

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"testing"
)

// One name of the kind asked for is the user, and several are nobody: whoever is
// given a second one must not choose.
func TestCertificateUser(t *testing.T) {
	uri := func(text string) *url.URL {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	alice := pkix.Name{CommonName: "alice"}
	a, b := uri("spiffe://example.com/alice"), uri("spiffe://example.com/bob")
	for _, c := range []struct {
		by   string
		cert x509.Certificate
		want string
	}{
		{"cn", x509.Certificate{Subject: alice, URIs: []*url.URL{a}, DNSNames: []string{"a.example.com"}}, "alice"},
		{"cn", x509.Certificate{URIs: []*url.URL{a}, DNSNames: []string{"a.example.com"}}, ""},
		{"uri", x509.Certificate{Subject: alice, URIs: []*url.URL{a}}, "spiffe://example.com/alice"},
		{"uri", x509.Certificate{Subject: alice, URIs: []*url.URL{a, b}}, ""},
		{"uri", x509.Certificate{Subject: alice}, ""},
		{"dns", x509.Certificate{Subject: alice, DNSNames: []string{"A.example.com"}}, "a.example.com"},
		{"dns", x509.Certificate{Subject: alice, DNSNames: []string{"a.example.com", "b.example.com"}}, ""},
		{"dns", x509.Certificate{Subject: alice, URIs: []*url.URL{a}}, ""},
	} {
		if got := CertificateUser(c.by)(&c.cert); got != c.want {
			t.Errorf("by %s of %v, %v, %v: %q, want %q", c.by, c.cert.Subject, c.cert.URIs, c.cert.DNSNames, got, c.want)
		}
	}
	if CertificateUser("email") != nil {
		t.Error("an unknown word finds somebody")
	}
}
