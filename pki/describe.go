package pki

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Description is a certificate in words, without runes that cannot be printed:
// whoever made it may have put lines or commands for a terminal into its names.
type Description struct {
	Subject, Issuer string
	// TrustDomain, Member (0 for none) and User are those of the certificate's
	// conclave name, empty where it has none.
	TrustDomain         string
	Member              uint64
	User                string
	Hosts               []string // DNS names, then addresses
	URIs                []string
	CA                  bool
	Usage               []string
	Key                 string // "ECDSA P-256"
	Serial              string // lower-case hex
	NotBefore, NotAfter time.Time
	// DaysLeft is rounded down; negative after the end.
	DaysLeft    int
	Fingerprint string // SHA-256 of the certificate, hex with colons
}

// Describe reads the certificates of a PEM file, in order. Keys in the file are
// passed over.
func Describe(text []byte, now time.Time) ([]Description, error) {
	var out []Description
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != pemCertificate {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d in the file is damaged: %w", len(out)+1, err)
		}
		out = append(out, describe(cert, now))
	}
	if len(out) == 0 {
		return nil, errors.New("no certificate in PEM form in the file")
	}
	return out, nil
}

func describe(cert *x509.Certificate, now time.Time) Description {
	d := Description{
		Subject: printable(cert.Subject.String()), Issuer: printable(cert.Issuer.String()),
		Hosts: []string{}, CA: cert.IsCA, Usage: usages(cert), Key: keyKind(cert),
		Serial: cert.SerialNumber.Text(16), NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC(),
		DaysLeft:    int((cert.NotAfter.Sub(now) - dayRound(cert.NotAfter.Sub(now))) / (24 * time.Hour)),
		Fingerprint: fingerprint(cert.Raw),
	}
	for _, host := range cert.DNSNames {
		d.Hosts = append(d.Hosts, printable(host))
	}
	for _, ip := range cert.IPAddresses {
		d.Hosts = append(d.Hosts, ip.String())
	}
	for _, u := range cert.URIs {
		d.URIs = append(d.URIs, printable(u.String()))
	}
	if n, err := NameOf(cert); err == nil {
		d.TrustDomain, d.Member, d.User = n.TrustDomain, n.Member, n.User
	}
	return d
}

// printable escapes what cannot be printed as a Go string does. All else stays,
// backslashes too: a distinguished name has its own.
func printable(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case !strconv.IsPrint(r):
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		default:
			b.WriteRune(r)
		}
		s = s[n:]
	}
	return b.String()
}

// dayRound makes the division by a day round down below zero too.
func dayRound(d time.Duration) time.Duration {
	if d < 0 {
		return 24*time.Hour - time.Nanosecond
	}
	return 0
}

func usages(cert *x509.Certificate) []string {
	var out []string
	for _, u := range []struct {
		bit  x509.KeyUsage
		name string
	}{
		{x509.KeyUsageDigitalSignature, "digital signature"}, {x509.KeyUsageKeyEncipherment, "key encipherment"},
		{x509.KeyUsageCertSign, "certificate signing"}, {x509.KeyUsageCRLSign, "CRL signing"},
	} {
		if cert.KeyUsage&u.bit != 0 {
			out = append(out, u.name)
		}
	}
	for _, u := range cert.ExtKeyUsage {
		switch u {
		case x509.ExtKeyUsageServerAuth:
			out = append(out, "server authentication")
		case x509.ExtKeyUsageClientAuth:
			out = append(out, "client authentication")
		default:
			out = append(out, u.String())
		}
	}
	return out
}

func keyKind(cert *x509.Certificate) string {
	switch k := cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	}
	return cert.PublicKeyAlgorithm.String()
}

func fingerprint(der []byte) string {
	var b strings.Builder
	for i, c := range sha256.Sum256(der) {
		if i > 0 {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%02X", c)
	}
	return b.String()
}
