package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"slices"
	"testing"
	"time"
)

func TestAuthority_profilesUnderOpenSSL(t *testing.T) {
	a := newCA(t, AuthorityOptions{TrustDomain: "td"})
	strict(t, "any", a.cert, a.cert)
	for _, c := range []struct {
		req      Request
		uses     []x509.ExtKeyUsage
		purposes []string
		uri      string
	}{
		{Request{Profile: ProfilePeer, Member: 0xabc, Hosts: []string{"n1.example.com", "10.0.0.1"}},
			[]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, []string{"sslserver", "sslclient"}, "conclave://td/member/0000000000000abc"},
		{Request{Profile: ProfileServer, Member: 1, Hosts: []string{"n1.example.com", "::1"}},
			[]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []string{"sslserver"}, "conclave://td/member/0000000000000001"},
		{Request{Profile: ProfileClient, CN: "admin"},
			[]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, []string{"sslclient"}, "conclave://td/user/admin"},
	} {
		cert := mustIssue(t, a, c.req).Leaf
		if !slices.Equal(cert.ExtKeyUsage, c.uses) || cert.KeyUsage != x509.KeyUsageDigitalSignature {
			t.Errorf("%s: uses %v, %v", c.req.Profile, cert.ExtKeyUsage, cert.KeyUsage)
		}
		if len(cert.URIs) != 1 || cert.URIs[0].String() != c.uri {
			t.Errorf("%s: URIs %v", c.req.Profile, cert.URIs)
		}
		for _, p := range c.purposes {
			strict(t, p, a.cert, cert)
		}
		if bits := cert.SerialNumber.BitLen(); bits < 128 || bits > 159 {
			t.Errorf("%s: serial number of %d bits", c.req.Profile, bits)
		}
		if len(cert.SubjectKeyId) == 0 || string(cert.AuthorityKeyId) != string(a.cert.SubjectKeyId) {
			t.Errorf("%s: key ids %x, %x", c.req.Profile, cert.SubjectKeyId, cert.AuthorityKeyId)
		}
	}
}

func TestAuthority_wrongPurposeUnderOpenSSL(t *testing.T) {
	a := newCA(t, AuthorityOptions{TrustDomain: "td"})
	client := mustIssue(t, a, Request{Profile: ProfileClient, CN: "admin"}).Leaf
	out, err := openssl(t, "verify", "-purpose", "sslserver", "-attime", itoa(start.Unix()),
		"-CAfile", writeFile(t, "ca.pem", EncodeCertificates(a.cert)), writeFile(t, "c.pem", EncodeCertificates(client)))
	if err == nil {
		t.Fatalf("openssl accepts a client certificate as a server's: %s", out)
	}
}

func TestAuthority_dates(t *testing.T) {
	a := newCA(t, AuthorityOptions{Lifetime: 40 * 24 * time.Hour})
	if !a.cert.NotAfter.Equal(start.Add(40*24*time.Hour)) || !a.cert.NotBefore.Equal(start.Add(-Backdate)) {
		t.Fatalf("CA from %v to %v", a.cert.NotBefore, a.cert.NotAfter)
	}
	for _, c := range []struct {
		profile        Profile
		life           time.Duration
		at, begin, end time.Time
	}{
		{ProfileServer, 0, start, start.Add(-Backdate), start.Add(MemberLifetime)},
		{ProfileServer, time.Second, start.Add(time.Hour), start.Add(time.Hour - Backdate), start.Add(time.Hour + time.Second)},
		{ProfileClient, 0, start, start.Add(-Backdate), a.cert.NotAfter}, // 90 days, clamped
		{ProfileServer, time.Hour, start.Add(-2 * time.Minute), a.cert.NotBefore, start.Add(58 * time.Minute)},
	} {
		req := Request{Profile: c.profile, CN: "x", Lifetime: c.life, Now: c.at}
		if c.profile == ProfileServer {
			req.Hosts = []string{"x"}
		}
		cert := mustIssue(t, a, req).Leaf
		if !cert.NotBefore.Equal(c.begin) || !cert.NotAfter.Equal(c.end) {
			t.Errorf("%s for %v: from %v to %v", c.profile, c.life, cert.NotBefore, cert.NotAfter)
		}
	}
	issue := func(req Request) error {
		req.Profile, req.CN, req.CSR = ProfileClient, "x", newRequest(t, newKey(t))
		_, err := a.Issue(req)
		return err
	}
	wantError(t, issue(Request{Now: start.Add(-time.Hour)}), ErrClock, "clock", "off by about 1h0m")
	wantError(t, issue(Request{Now: start.Add(41 * 24 * time.Hour)}), ErrClock, "expired")
	for _, life := range []time.Duration{-time.Hour, -time.Millisecond, time.Millisecond, time.Second - 1} {
		wantError(t, issue(Request{Now: start, Lifetime: life}), ErrRequest, "--lifetime "+life.String(), "positive duration")
	}
	if err := issue(Request{Now: start, Lifetime: time.Second}); err != nil {
		t.Error(err)
	}
}

func TestAuthority_refusesRequests(t *testing.T) {
	a := newCA(t, AuthorityOptions{TrustDomain: "td"})
	csr := newRequest(t, newKey(t))
	long := string(slices.Repeat([]byte("x"), 65))
	for name, c := range map[string]struct {
		req  Request
		word string
	}{
		"no profile":       {Request{CN: "a"}, "--profile"},
		"cross profile":    {Request{Profile: profileCross, CN: "a"}, "--profile"},
		"client no name":   {Request{Profile: ProfileClient}, "--cn"},
		"client with host": {Request{Profile: ProfileClient, CN: "a", Hosts: []string{"h"}}, "--hosts"},
		"client as member": {Request{Profile: ProfileClient, CN: "a", Member: 1}, "--profile server or peer"},
		"long name":        {Request{Profile: ProfileClient, CN: long}, "65 characters"},
		"space behind":     {Request{Profile: ProfileClient, CN: "root "}, "space around"},
		"zero width":       {Request{Profile: ProfileClient, CN: "ro\u200bot"}, "invisible"},
		"right to left":    {Request{Profile: ProfileClient, CN: "\u202etoor"}, "invisible"},
		"control":          {Request{Profile: ProfileClient, CN: "a\x00b"}, "control"},
		"server no host":   {Request{Profile: ProfileServer, CN: "a"}, "--hosts"},
		"server no name":   {Request{Profile: ProfileServer, Hosts: []string{"h"}}, "--cn"},
		"URL as host":      {Request{Profile: ProfileServer, CN: "a", Hosts: []string{"https://h:1"}}, "no scheme"},
		"URI as host":      {Request{Profile: ProfileServer, CN: "a", Hosts: []string{"conclave://td/user/root"}}, "no scheme"},
		"mail as host":     {Request{Profile: ProfileServer, CN: "a", Hosts: []string{"a@b.c"}}, "neither a DNS name"},
		"port":             {Request{Profile: ProfileServer, CN: "a", Hosts: []string{"h:2379"}}, "no port"},
		"zone":             {Request{Profile: ProfileServer, CN: "a", Hosts: []string{"fe80::1%eth0"}}, "zone"},
		"empty host":       {Request{Profile: ProfileServer, CN: "a", Hosts: []string{""}}, "--hosts"},
	} {
		t.Run(name, func(t *testing.T) {
			c.req.CSR, c.req.Now = csr, start
			_, err := a.Issue(c.req)
			wantError(t, err, ErrRequest, c.word)
		})
	}
}

// mustCSR makes a request from a template with Go's own encoder.
func mustCSR(t *testing.T, key any, tmpl *x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, tmpl, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// rsaCSR makes a request for an RSA key of that many bits, which nobody could
// have generated, with a signature of zeros.
func rsaCSR(t *testing.T, bits int) []byte {
	t.Helper()
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	key, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n.Or(n, big.NewInt(1)), E: 1<<31 - 1})
	if err != nil {
		t.Fatal(err)
	}
	type info struct {
		Version    int
		Subject    pkix.RDNSequence
		Key        asn1.RawValue
		Attributes []asn1.RawValue `asn1:"tag:0,set"`
	}
	der, err := asn1.Marshal(struct {
		Info      info
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{
		info{Key: asn1.RawValue{FullBytes: key}},
		pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, Parameters: asn1.NullRawValue},
		asn1.BitString{Bytes: make([]byte, bits/8), BitLength: bits},
	})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestAuthority_csrAskingForMore(t *testing.T) {
	a := newCA(t, AuthorityOptions{TrustDomain: "td"})
	key := newKey(t)
	uri, err := url.Parse("conclave://td/user/root")
	if err != nil {
		t.Fatal(err)
	}
	isCA, err := asn1.Marshal(struct{ CA bool }{true})
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	bad := mustCSR(t, key, &x509.CertificateRequest{})
	bad[len(bad)-1] ^= 1
	long := rsaCSR(t, 100_000)
	for name, c := range map[string]struct {
		csr  []byte
		word string
	}{
		"another user":  {mustCSR(t, key, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "root"}}), "root"},
		"organisation":  {mustCSR(t, key, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "admin", OrganizationalUnit: []string{"ops"}}}), "ops"},
		"URI":           {mustCSR(t, key, &x509.CertificateRequest{URIs: []*url.URL{uri}}), "user/root"},
		"e-mail":        {mustCSR(t, key, &x509.CertificateRequest{EmailAddresses: []string{"a@b.c"}}), "a@b.c"},
		"DNS name":      {mustCSR(t, key, &x509.CertificateRequest{DNSNames: []string{"bank.example"}}), "bank.example"},
		"address":       {mustCSR(t, key, &x509.CertificateRequest{IPAddresses: []net.IP{net.IPv4(1, 2, 3, 4)}}), "1.2.3.4"},
		"CA":            {mustCSR(t, key, &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Value: isCA}}}), "2.5.29.19"},
		"garbage":       {[]byte("garbage"), "PKCS#10"},
		"nothing":       {nil, "PKCS#10"},
		"huge":          {mustCSR(t, key, &x509.CertificateRequest{DNSNames: slices.Repeat([]string{"a.example.com"}, 3000)}), "at most 32768"},
		"bad signature": {bad, "signature"},
		"long RSA":      {long, "100000 bits"}, // not worth a look at its signature
		"short RSA":     {mustCSR(t, small, &x509.CertificateRequest{}), "1024 bits"},
		"weak curve":    {mustCSR(t, weak, &x509.CertificateRequest{}), "P-224"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.Issue(Request{Profile: ProfileClient, CN: "admin", CSR: c.csr, Now: start})
			wantError(t, err, ErrRequest, c.word)
		})
	}
	ok := mustCSR(t, key, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "n1"}, DNSNames: []string{"n1"}})
	cert, err := a.Issue(Request{Profile: ProfileServer, CN: "n1", Hosts: []string{"n1", "n2"}, CSR: ok, Now: start})
	if err != nil || len(cert.DNSNames) != 2 {
		t.Fatalf("a request within what is given: %v", err)
	}
}

func TestAuthority_cfsslDoesNotCopy(t *testing.T) {
	// The check of requests set aside, the signing policy alone must not copy
	// anything but the key.
	a := newCA(t, AuthorityOptions{TrustDomain: "td"})
	uri, err := url.Parse("conclave://td/user/root")
	if err != nil {
		t.Fatal(err)
	}
	csr := mustCSR(t, newKey(t), &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "root", Organization: []string{"o"}, OrganizationalUnit: []string{"ou"}},
		URIs:    []*url.URL{uri}, EmailAddresses: []string{"a@b.c"}, DNSNames: []string{"x"}, IPAddresses: []net.IP{net.IPv4(1, 2, 3, 4)},
	})
	p, err := a.plan(Request{Profile: ProfileClient, CN: "bob", CSR: newRequest(t, newKey(t)), Now: start})
	if err != nil {
		t.Fatal(err)
	}
	p.csr = csr
	cert, err := a.sign(p, string(ProfileClient))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.verify(cert); err != nil {
		t.Fatalf("%v: subject %q, names %v %v %v %v", err, cert.Subject, cert.DNSNames, cert.IPAddresses, cert.EmailAddresses, cert.URIs)
	}
	// And verify notices when something is there.
	p.cn = "alice"
	if p.verify(cert) == nil {
		t.Fatal("verify takes another subject")
	}
}

func TestAuthority_userNamesRoundTrip(t *testing.T) {
	a := newCA(t, AuthorityOptions{TrustDomain: "td"})
	for _, user := range []string{
		"admin", "bob@example.com", "a/b", "a;b", "conclave: x@y;", "a b", "ü", "a%2Fb", "a?b#c", "..", "1.2.3.4", `quo"te`, "a+b", "a,b@c;",
	} {
		cert := mustIssue(t, a, Request{Profile: ProfileClient, CN: user}).Leaf
		n, err := NameOf(cert)
		if err != nil || n.User != user || n.Member != 0 || cert.Subject.CommonName != user {
			t.Errorf("user %q becomes %+v, %v (%v)", user, n, err, cert.URIs)
		}
	}
}

func TestAuthority_cross(t *testing.T) {
	s := newSecret(t)
	g, err := s.NewGeneration(1, start)
	if err != nil {
		t.Fatal(err)
	}
	cas, err := s.openGeneration(g)
	if err != nil {
		t.Fatal(err)
	}
	r, err := parseGeneration(g)
	if err != nil {
		t.Fatal(err)
	}
	leaf := mustIssue(t, cas.peer, Request{Profile: ProfilePeer, Member: 1, Hosts: []string{"h"}}).Leaf
	strict(t, "sslserver", r.peer, leaf)
	strict(t, "sslserver", s.admission.cert, leaf, r.peerCross)
	strict(t, "sslclient", r.clientCA, mustIssue(t, cas.client, Request{Profile: ProfileClient, CN: "a"}).Leaf)
	if string(r.peerCross.SubjectKeyId) != string(r.peer.SubjectKeyId) || r.peerCross.MaxPathLen != 0 || !r.peerCross.MaxPathLenZero {
		t.Fatal("the cross-certificate is not the peer CA's, or may sign CAs")
	}
}

func TestNewAuthority_notACA(t *testing.T) {
	a := newCA(t, AuthorityOptions{})
	leaf := mustIssue(t, a, Request{Profile: ProfileClient, CN: "x"})
	key, _ := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if _, err := loadAuthority(leaf.Leaf.Raw, key, ""); err == nil {
		t.Fatal("a client certificate became a CA")
	}
	if _, err := loadAuthority(a.cert.Raw, key, ""); err == nil {
		t.Fatal("a key of another certificate was taken")
	}
}

func TestKey_isPKCS8(t *testing.T) {
	b, err := EncodeKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		t.Fatalf("key form %v", block)
	}
	if out, err := openssl(t, "pkey", "-in", writeFile(t, "key.pem", b), "-noout", "-check"); err != nil {
		t.Fatalf("openssl pkey: %s", out)
	}
}
