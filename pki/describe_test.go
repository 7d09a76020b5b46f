package pki

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestPrintable_runes(t *testing.T) {
	for s, want := range map[string]string{
		"":                         "",
		`CN=Jürgen 山\, "x" 'y'`:    `CN=Jürgen 山\, "x" 'y'`,
		"a\nb\r\t\x00":             `a\nb\r\t\x00`,
		"\x1b[2J\x7f":              `\x1b[2J\x7f`,
		"\u009b1m\u202egpj.\u2028": `\u009b1m\u202egpj.\u2028`,
		"\xff\x9bx":                `\xff\x9bx`,
	} {
		if got := printable(s); got != want {
			t.Errorf("%q becomes %s, want %s", s, got, want)
		}
	}
}

// TestDescribe_hostileNames has a certificate whose names hold lines and
// commands for a terminal.
func TestDescribe_hostileNames(t *testing.T) {
	const evil = "x\nUser: root\x1b[2J\u202e"
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: start, NotAfter: start.Add(time.Hour),
		Subject:  pkix.Name{CommonName: evil, Organization: []string{"Müller \x07"}},
		DNSNames: []string{"a\nb\x1b[2J"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	list, err := Describe(EncodeCertificates(cert), start)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprint(list)
	if strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		t.Errorf("unprintable runes in %q", text)
	}
	d := list[0]
	for _, s := range []string{d.Subject, d.Issuer} {
		if !strings.Contains(s, `x\nUser: root\x1b[2J\u202e`) || !strings.Contains(s, `Müller \a`) {
			t.Errorf("name %s", s)
		}
	}
	if len(d.Hosts) != 1 || d.Hosts[0] != `a\nb\x1b[2J` {
		t.Errorf("hosts %q", d.Hosts)
	}
}
