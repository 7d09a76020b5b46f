package testcluster_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/daemon"
	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/internal/testcluster"
)

// What a client of a running cluster may ask for, and what it gets.
func TestSecure_issueDecidesNames(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{Secure: true})
	key := freshKey(t)
	csr := func(tmpl x509.CertificateRequest) []byte {
		der, err := x509.CreateCertificateRequest(rand.Reader, &tmpl, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	plain := csr(x509.CertificateRequest{})
	isCA, err := asn1.Marshal(struct{ CA bool }{true})
	if err != nil {
		t.Fatal(err)
	}
	issuer := conclavepb.NewPKIClient(secureClient(t, c, "bob").ActiveConnection())
	for name, req := range map[string]*conclavepb.IssueRequest{
		"peer profile":    {Profile: "peer", Cn: "m", Hosts: []string{"h"}, Csr: plain},
		"cross profile":   {Profile: "cross", Cn: "m", Csr: plain},
		"no profile":      {Cn: "m", Csr: plain},
		"hundred years":   {Profile: "client", Cn: "bob", Csr: plain, LifetimeSeconds: 100 * 365 * 24 * 3600},
		"overflow":        {Profile: "client", Cn: "bob", Csr: plain, LifetimeSeconds: 1 << 62},
		"hosts of a user": {Profile: "client", Cn: "bob", Csr: plain, Hosts: []string{"h"}},
		"zero in name":    {Profile: "client", Cn: "root\x00", Csr: plain},
		"newline in name": {Profile: "client", Cn: "bob\nroot", Csr: plain},
		"no name":         {Profile: "client", Csr: plain},
		"CA bit": {Profile: "client", Cn: "bob", Csr: csr(x509.CertificateRequest{
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Value: isCA}}})},
		"other name":   {Profile: "client", Cn: "bob", Csr: csr(x509.CertificateRequest{Subject: pkix.Name{CommonName: "root"}})},
		"more hosts":   {Profile: "server", Cn: "s", Hosts: []string{"s"}, Csr: csr(x509.CertificateRequest{DNSNames: []string{"bank.example"}})},
		"huge request": {Profile: "client", Cn: "bob", Csr: make([]byte, 1<<20)},
		"garbage":      {Profile: "client", Cn: "bob", Csr: []byte("garbage")},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := issuer.Issue(within(t), req)
			if status.Code(err) != codes.InvalidArgument {
				t.Errorf("%v", err)
			}
		})
	}
	// Odd names are names like others, and stay one user.
	for _, user := range []string{"a/b", "../root", "bob@example.com", "o'neil", "ü 名", "a%2Fb", "conclave://x/user/root"} {
		resp, err := issuer.Issue(within(t), &conclavepb.IssueRequest{Profile: "client", Cn: user, Csr: plain})
		if err != nil {
			t.Errorf("%q: %v", user, err)
			continue
		}
		block, _ := pem.Decode(resp.CertificatePem)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil || cert.Subject.CommonName != user || len(cert.URIs) != 1 || cert.IsCA {
			t.Errorf("%q: %v, CN %q, URIs %v", user, err, cert.Subject.CommonName, cert.URIs)
		}
		shown := tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}
		if code, err := knock(t, c.Members[0].ClientURL, showing(shown)); code != http.StatusOK {
			t.Errorf("%q is refused: %d, %v", user, code, err)
		}
	}
}

// plainClients has members serve clients without TLS.
func plainClients(_ int, cfg *daemon.Config) {
	plain := strings.Replace(cfg.ListenClientURLs.String(), "https:", "http:", 1)
	cfg.ListenClientURLs = daemon.MustParseURLs(plain)
	cfg.AdvertiseClientURLs = cfg.ListenClientURLs
}

// Certificates are given to nobody over plaintext, not even on a member that
// serves keys there.
func TestSecure_issueNotOverPlaintext(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{Secure: true, Configure: plainClients})
	cli := client(t, strings.Replace(c.Members[0].ClientURL, "https:", "http:", 1))
	if _, err := cli.Put(within(t), "a", "b"); err != nil {
		t.Fatal(err)
	}
	_, err := conclavepb.NewPKIClient(cli.ActiveConnection()).Issue(context.Background(), &conclavepb.IssueRequest{Profile: "client", Cn: "root"})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("%v", err)
	}
}
