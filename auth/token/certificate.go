package token

import (
	"crypto/x509"
	"strings"
)

// CertificateUser returns what finds the user in a client's verified certificate:
// by cn its common name, by uri or dns the only name of that kind among its
// alternative names (SAN). A certificate that has none of them, or several, names
// nobody (""). It returns nil for any other word.
func CertificateUser(by string) func(*x509.Certificate) string {
	switch by {
	case "cn":
		return func(c *x509.Certificate) string { return c.Subject.CommonName }
	case "uri":
		return func(c *x509.Certificate) string {
			if len(c.URIs) != 1 {
				return ""
			}
			return c.URIs[0].String()
		}
	case "dns":
		return func(c *x509.Certificate) string {
			if len(c.DNSNames) != 1 {
				return ""
			}
			return strings.ToLower(c.DNSNames[0])
		}
	}
	return nil
}
