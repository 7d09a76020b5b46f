package pki

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// files is a directory with a CA's certificates as files.
type files struct {
	t   *testing.T
	ca  *Authority
	dir string
}

func newFiles(t *testing.T) *files {
	f := &files{t: t, ca: newCA(t, AuthorityOptions{Now: time.Now()}), dir: t.TempDir()}
	f.write("ca.pem", EncodeCertificates(f.ca.cert))
	return f
}

func (f *files) path(name string) string { return filepath.Join(f.dir, name) }

func (f *files) write(name string, data []byte) string {
	f.t.Helper()
	if err := os.WriteFile(f.path(name), data, 0o600); err != nil {
		f.t.Fatal(err)
	}
	return f.path(name)
}

// issue writes name.pem and name-key.pem.
func (f *files) issue(name string, req Request) tls.Certificate {
	f.t.Helper()
	req.Now = time.Now()
	if req.CN == "" {
		req.CN = name
	}
	cert := mustIssue(f.t, f.ca, req)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		f.t.Fatal(err)
	}
	signer, err := parseKeyDER(key)
	if err != nil {
		f.t.Fatal(err)
	}
	text, err := EncodeKey(signer)
	if err != nil {
		f.t.Fatal(err)
	}
	f.write(name+".pem", EncodeCertificates(cert.Leaf))
	f.write(name+"-key.pem", text)
	return cert
}

func (f *files) side(name string) FileSide {
	return FileSide{
		CertFile: f.path(name + ".pem"), KeyFile: f.path(name + "-key.pem"), TrustedCAFile: f.path("ca.pem"), ClientCertAuth: true,
	}
}

func mustFileTLS(t *testing.T, o FileOptions) *FileTLS {
	t.Helper()
	o.Log = zerolog.Nop()
	s, err := NewFileTLS(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// dialTo is what a dialer does with PeerClient's configuration.
func dialTo(s Settings, host string) *tls.Config {
	c := s.PeerClient(1)
	if c.ServerName == "" {
		c.ServerName = host
	}
	c.NextProtos = []string{"peer/1"}
	return c
}

func TestFileTLS_plaintext(t *testing.T) {
	s := mustFileTLS(t, FileOptions{})
	if s.PeerServer() != nil || s.ClientServer() != nil || s.PeerClient(1) != nil {
		t.Fatal("TLS without certificates")
	}
}

func TestFileTLS_peers(t *testing.T) {
	f := newFiles(t)
	f.issue("n1", Request{Profile: ProfilePeer, Hosts: []string{"n1.example.com", "127.0.0.1"}})
	s := mustFileTLS(t, FileOptions{Peer: f.side("n1"), SkipPeerSANCheck: true})
	h := shake(t, dialTo(s, "127.0.0.1"), s.PeerServer())
	if h.clientErr != nil || h.serverErr != nil || h.server.NegotiatedProtocol != "peer/1" {
		t.Fatalf("%v, %v, %q", h.clientErr, h.serverErr, h.server.NegotiatedProtocol)
	}
	if _, err := s.PeerID(h.server); !errors.Is(err, ErrUnnamed) {
		t.Fatalf("a member id out of nowhere: %v", err)
	}
	if err := s.Refusal(h.server); err != nil {
		t.Fatal(err)
	}
	web := dialTo(s, "127.0.0.1")
	web.NextProtos = []string{"h2", "http/1.1"}
	if h = shake(t, web, s.PeerServer()); h.server.NegotiatedProtocol != "http/1.1" {
		t.Fatalf("a browser on the peer port gets %q", h.server.NegotiatedProtocol)
	}
	h = shake(t, dialTo(s, "elsewhere"), s.PeerServer())
	wantError(t, s.Explain(h.clientErr), ErrWrongHolder, "elsewhere")
	h = shake(t, outsider(), s.PeerServer())
	if h.serverErr == nil {
		t.Fatal("a peer without certificate is let in")
	}
	g := newFiles(t)
	g.issue("n1", Request{Profile: ProfilePeer, Hosts: []string{"127.0.0.1"}})
	other := mustFileTLS(t, FileOptions{Peer: g.side("n1")})
	h = shake(t, dialTo(other, "127.0.0.1"), s.PeerServer())
	wantError(t, s.Explain(h.clientErr), ErrForeign, "--trusted-ca-file")
}

func TestFileTLS_addressOfThePeer(t *testing.T) {
	f := newFiles(t)
	for name, c := range map[string]struct {
		hosts []string
		ok    bool
	}{
		"its address":      {[]string{"127.0.0.1"}, true},
		"name leading to":  {[]string{"here.example.com"}, true},
		"second name":      {[]string{"there.example.com", "here.example.com"}, true},
		"wildcard":         {[]string{"*.rev.example.com"}, true},
		"another address":  {[]string{"10.1.1.1"}, false},
		"another name":     {[]string{"there.example.com"}, false},
		"another wildcard": {[]string{"*.example.org"}, false},
		"unknown name":     {[]string{"unknown.example.com"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			f.issue("n1", Request{Profile: ProfilePeer, Hosts: c.hosts})
			s := mustFileTLS(t, FileOptions{
				Peer: f.side("n1"),
				LookupHost: func(_ context.Context, name string) ([]string, error) {
					switch name {
					case "here.example.com":
						return []string{"10.0.0.9", "127.0.0.1"}, nil
					case "there.example.com":
						return []string{"10.0.0.8"}, nil
					}
					return nil, errors.New("no such host")
				},
				LookupAddr: func(context.Context, string) ([]string, error) { return []string{"n1.rev.example.com."}, nil },
			})
			dial := dialTo(s, "x")
			dial.InsecureSkipVerify, dial.VerifyConnection = true, nil
			h := shake(t, dial, s.PeerServer())
			if c.ok && h.serverErr != nil {
				t.Fatal(h.serverErr)
			}
			if !c.ok {
				if h.serverErr == nil {
					t.Fatal("let in")
				}
				wantText := h.serverErr.Error()
				if !errors.Is(h.serverErr, ErrWrongHolder) || !bytes.Contains([]byte(wantText), []byte("--peer-skip-client-san-verification")) {
					t.Fatal(wantText)
				}
			}
		})
	}
}

func TestFileTLS_rotation(t *testing.T) {
	f := newFiles(t)
	first := f.issue("n1", Request{Profile: ProfilePeer, Hosts: []string{"127.0.0.1"}})
	s := mustFileTLS(t, FileOptions{Client: f.side("n1"), Peer: f.side("n1")})
	port := s.ClientServer()
	shown := func(client tls.Certificate) (*x509.Certificate, error) {
		h := shake(t, outsider(client), port)
		if h.serverErr != nil {
			return nil, h.serverErr
		}
		return h.client.PeerCertificates[0], nil
	}
	if got, err := shown(first); err != nil || !got.Equal(first.Leaf) {
		t.Fatal(err)
	}
	second := f.issue("n1", Request{Profile: ProfilePeer, Hosts: []string{"127.0.0.1", "more.example.com"}})
	touch(t, f.path("n1.pem"))
	if got, err := shown(first); err != nil || !got.Equal(second.Leaf) {
		t.Fatalf("a new certificate is not served: %v", err)
	}
	// Half a rotation: the key of another certificate. The last pair serves on.
	f.issue("n2", Request{Profile: ProfilePeer, Hosts: []string{"127.0.0.1"}})
	b, err := os.ReadFile(f.path("n2-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	f.write("n1-key.pem", b)
	touch(t, f.path("n1-key.pem"))
	if got, err := shown(first); err != nil || !got.Equal(second.Leaf) {
		t.Fatalf("in the middle of a rotation: %v", err)
	}
	// The CA file is never served from memory once it is broken.
	f.write("ca.pem", []byte("broken"))
	touch(t, f.path("ca.pem"))
	_, err = shown(first)
	wantError(t, err, nil, "--trusted-ca-file "+f.path("ca.pem"))
	dial := dialTo(s, "127.0.0.1")
	ok := tls.Config{Certificates: []tls.Certificate{second}}
	h := shake(t, dial, &ok)
	wantError(t, h.clientErr, nil, "--peer-trusted-ca-file "+f.path("ca.pem"))
}

// touch gives a file a modification time of its own.
func touch(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err == nil {
		err = os.Chtimes(path, time.Time{}, info.ModTime().Add(time.Second))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestCVE202659818_revokedCertificate(t *testing.T) {
	f := newFiles(t)
	good := f.issue("n1", Request{Profile: ProfilePeer, Hosts: []string{"127.0.0.1"}})
	bad := f.issue("n2", Request{Profile: ProfileClient})
	crl := func(serials ...*big.Int) []byte {
		list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
		for _, s := range serials {
			list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: time.Now()})
		}
		issuer := *f.ca.cert
		issuer.KeyUsage |= x509.KeyUsageCRLSign
		der, err := x509.CreateRevocationList(rand.Reader, list, &issuer, f.ca.key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	f.write("crl", crl())
	for _, port := range []string{"client", "peer"} {
		f.write("crl", crl())
		o := f.side("n1")
		o.CRLFile = f.path("crl")
		s := mustFileTLS(t, FileOptions{Client: o, Peer: o, SkipPeerSANCheck: true})
		listen := s.ClientServer()
		if port == "peer" {
			listen = s.PeerServer()
		}
		if h := shake(t, outsider(bad), listen); h.serverErr != nil {
			t.Fatal(h.serverErr)
		}
		f.write("crl", crl(bad.Leaf.SerialNumber))
		touch(t, f.path("crl"))
		h := shake(t, outsider(bad), listen)
		wantError(t, h.serverErr, ErrWrongHolder, "revoked", f.path("crl"))
		if h := shake(t, outsider(good), listen); h.serverErr != nil {
			t.Fatal(h.serverErr)
		}
		if port == "peer" { // where members dial others, too
			f.issue("dialer", Request{Profile: ProfilePeer, Hosts: []string{"127.0.0.1"}})
			o := f.side("dialer")
			o.CRLFile = f.path("crl")
			f.write("crl", crl(good.Leaf.SerialNumber))
			h := shake(t, dialTo(mustFileTLS(t, FileOptions{Peer: o}), "127.0.0.1"), listen)
			wantError(t, h.clientErr, ErrWrongHolder, "revoked", f.path("crl"))
		}
		f.write("crl", []byte("broken"))
		touch(t, f.path("crl"))
		if h := shake(t, outsider(good), listen); h.serverErr == nil {
			t.Fatal("a broken revocation list revokes nothing")
		}
	}
}

func TestFileTLS_allowedNames(t *testing.T) {
	f := newFiles(t)
	n1 := f.issue("n1", Request{Profile: ProfilePeer, Hosts: []string{"a.example.com"}})
	n2 := f.issue("n2", Request{Profile: ProfilePeer, Hosts: []string{"b.example.org"}})
	cn, host := f.side("n1"), f.side("n1")
	cn.AllowedCNs = []string{"other", "n1"}
	host.AllowedHostnames = []string{"a.example.com"}
	for _, side := range []FileSide{cn, host} {
		s := mustFileTLS(t, FileOptions{Peer: side, SkipPeerSANCheck: true})
		if h := shake(t, outsider(n1), s.PeerServer()); h.serverErr != nil {
			t.Fatal(h.serverErr)
		}
		if h := shake(t, outsider(n2), s.PeerServer()); !errors.Is(h.serverErr, ErrWrongHolder) {
			t.Fatalf("let in: %v", h.serverErr)
		}
		if h := shake(t, dialTo(s, "a.example.com"), s.PeerServer()); h.clientErr != nil {
			t.Fatal(h.clientErr)
		}
		other := mustFileTLS(t, FileOptions{Peer: f.side("n2"), SkipPeerSANCheck: true})
		if h := shake(t, dialTo(s, "b.example.org"), other.PeerServer()); !errors.Is(h.clientErr, ErrWrongHolder) {
			t.Fatalf("dialled: %v", h.clientErr)
		}
	}
}

func TestFileTLS_withoutClientAuth(t *testing.T) {
	f := newFiles(t)
	f.issue("n1", Request{Profile: ProfileServer, Hosts: []string{"localhost"}})
	side := f.side("n1")
	side.TrustedCAFile, side.ClientCertAuth = "", false
	s := mustFileTLS(t, FileOptions{Client: side})
	roots := x509.NewCertPool()
	roots.AddCert(f.ca.cert)
	h := shake(t, &tls.Config{RootCAs: roots, ServerName: "localhost"}, s.ClientServer())
	if h.clientErr != nil || len(h.server.PeerCertificates) != 0 {
		t.Fatal(h.clientErr)
	}
}

func TestFileTLS_otherCertificateWhenDialling(t *testing.T) {
	f := newFiles(t)
	f.issue("n1", Request{Profile: ProfileServer, Hosts: []string{"127.0.0.1"}})
	out := f.issue("out", Request{Profile: ProfileClient})
	side := f.side("n1")
	side.ClientCertFile, side.ClientKeyFile = f.path("out.pem"), f.path("out-key.pem")
	s := mustFileTLS(t, FileOptions{Peer: side})
	h := shake(t, dialTo(s, "127.0.0.1"), s.PeerServer())
	if h.clientErr != nil || !h.server.PeerCertificates[0].Equal(out.Leaf) {
		t.Fatal(h.clientErr, h.serverErr)
	}
}

func TestFileTLS_serverNameOfTheDomain(t *testing.T) {
	f := newFiles(t)
	f.issue("n1", Request{Profile: ProfilePeer, Hosts: []string{"127.0.0.1"}})
	side := f.side("n1")
	if c := mustFileTLS(t, FileOptions{Peer: side, PeerServerName: "example.com"}).PeerClient(1); c.ServerName != "" {
		t.Error("with a CA of one's own the host is verified")
	}
	side.TrustedCAFile = ""
	if c := mustFileTLS(t, FileOptions{Peer: side, PeerServerName: "example.com"}).PeerClient(1); c.ServerName != "example.com" {
		t.Error("without, the domain is")
	}
}

func TestNewFileTLS_refusals(t *testing.T) {
	f := newFiles(t)
	f.issue("n1", Request{Profile: ProfilePeer, Hosts: []string{"h"}})
	f.issue("n2", Request{Profile: ProfilePeer, Hosts: []string{"h"}})
	garbage := f.write("garbage", []byte("garbage"))
	for name, c := range map[string]struct {
		change func(*FileSide)
		words  []string
	}{
		"no such file": {func(s *FileSide) { s.CertFile = f.path("none") }, []string{"--peer-cert-file", f.path("none"), "no such file"}},
		"key missing":  {func(s *FileSide) { s.KeyFile = "" }, []string{"--peer-key-file", "give both"}},
		"other's key":  {func(s *FileSide) { s.KeyFile = f.path("n2-key.pem") }, []string{"--peer-key-file", "does not match"}},
		"garbage CA":   {func(s *FileSide) { s.TrustedCAFile = garbage }, []string{"--peer-trusted-ca-file " + garbage}},
		"garbage CRL":  {func(s *FileSide) { s.CRLFile = garbage }, []string{"--peer-crl-file " + garbage}},
		"client key":   {func(s *FileSide) { s.ClientCertFile = f.path("n1.pem") }, []string{"--peer-client-key-file", "give both"}},
		"both lists":   {func(s *FileSide) { s.AllowedCNs, s.AllowedHostnames = []string{"a"}, []string{"b"} }, []string{"--peer-cert-allowed-cn", "exclude"}},
		"only a CA":    {func(s *FileSide) { s.CertFile, s.KeyFile = "", "" }, []string{"--peer-cert-file"}},
	} {
		t.Run(name, func(t *testing.T) {
			side := f.side("n1")
			c.change(&side)
			_, err := NewFileTLS(FileOptions{Peer: side})
			wantError(t, err, nil, c.words...)
		})
	}
	_, err := NewFileTLS(FileOptions{Client: FileSide{CertFile: garbage, KeyFile: garbage}})
	wantError(t, err, nil, "--cert-file, --key-file", garbage)
}
