package testcluster_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/conclave-kv/conclave/internal/testcluster"
	"github.com/conclave-kv/conclave/pki"
)

// secureClient is a client with a certificate of its own.
func secureClient(t *testing.T, c *testcluster.Cluster, user string) *clientv3.Client {
	t.Helper()
	cli, err := clientv3.New(clientv3.Config{
		Endpoints: c.Endpoints(), DialTimeout: time.Minute, Logger: zap.NewNop(), TLS: c.ClientTLS(user),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cli.Close() })
	return cli
}

// forger signs what conclave itself never would, with a CA key read from a file
// or made up.
type forger struct {
	ca  *x509.Certificate
	key any
}

// admissionForger has the admission CA of a cluster secret: what somebody can
// sign who has the file, and no member's disk.
func admissionForger(t *testing.T, secretFile string) forger {
	t.Helper()
	rest, err := os.ReadFile(secretFile)
	if err != nil {
		t.Fatal(err)
	}
	var f forger
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return f
		}
		switch block.Type {
		case "CERTIFICATE":
			f.ca, err = x509.ParseCertificate(block.Bytes)
		case "PRIVATE KEY":
			f.key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// strangerForger has a CA of its own that looks like the given one.
func strangerForger(t *testing.T, like *x509.Certificate) forger {
	t.Helper()
	key := freshKey(t)
	shape := &x509.Certificate{
		SerialNumber: like.SerialNumber, Subject: like.Subject, IsCA: true, BasicConstraintsValid: true,
		NotBefore: like.NotBefore, NotAfter: like.NotAfter, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: like.SubjectKeyId,
	}
	der, err := x509.CreateCertificate(rand.Reader, shape, shape, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return forger{ca, key}
}

func freshKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign makes a certificate for both uses with that common name and URI.
func (f forger) sign(t *testing.T, cn, uri string) tls.Certificate {
	t.Helper()
	key := freshKey(t)
	name, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: cn},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, URIs: []*url.URL{name},
	}, f.ca, key.Public(), f.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der, f.ca.Raw}, PrivateKey: key}
}

// knock asks for /version at an https URL and returns the status, 0 where the
// connection does not get that far. It does not verify the server: the tests
// are about what the server accepts.
func knock(t *testing.T, base string, cfg *tls.Config) (status int, reason error) {
	t.Helper()
	cfg = cfg.Clone()
	cfg.InsecureSkipVerify = true
	tr := &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: time.Minute}).Get(base + "/version")
	if err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("%s neither serves nor refuses", base)
		}
		return 0, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, nil
}

func showing(certs ...tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: certs, MaxVersion: tls.VersionTLS13}
}

func upTo(cfg *tls.Config, version uint16) *tls.Config {
	cfg = cfg.Clone()
	cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS10, version
	return cfg
}

func memberURI(domain string, id uint64) string {
	return fmt.Sprintf("conclave://%s/member/%016x", domain, id)
}

// otherCluster is the trust domain of a cluster that does not run.
func otherCluster(t *testing.T) (secretFile string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "other.secret")
	secret, err := pki.NewSecret(time.Now())
	if err == nil {
		err = secret.Write(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// The client port is for users: every other certificate, however it was come
// by, ends in the handshake.
func TestSecure_clientPortRefuses(t *testing.T) {
	c := testcluster.Start(t, 3, testcluster.Options{Secure: true})
	peerCA, clientCA := c.Authorities()
	domain, one := peerCA.TrustDomain(), c.Members[0]
	user := c.ClientTLS("root")
	if status, err := knock(t, one.ClientURL, user); status != http.StatusOK {
		t.Fatalf("a user's certificate: %d, %v", status, err)
	}
	ending := testcluster.Certify(t, clientCA, pki.Request{Profile: pki.ProfileClient, CN: "root", Lifetime: time.Second})
	for time.Now().Before(ending.Leaf.NotAfter.Add(time.Second)) {
		if _, err := knock(t, one.ClientURL, showing(ending)); err != nil {
			break // ended
		}
	}
	admission := admissionForger(t, c.SecretFile)
	rootURI := "conclave://" + domain + "/user/root"
	for name, cfg := range map[string]*tls.Config{
		"no certificate":       showing(),
		"TLS 1.0":              upTo(user, tls.VersionTLS10),
		"TLS 1.1":              upTo(user, tls.VersionTLS11),
		"member":               showing(testcluster.Certify(t, peerCA, pki.Request{Profile: pki.ProfilePeer, Member: one.Daemon.ID(), Hosts: []string{"127.0.0.1"}})),
		"server":               showing(testcluster.Certify(t, clientCA, pki.Request{Profile: pki.ProfileServer, CN: "root", Hosts: []string{"root"}})),
		"user by the peer CA":  showing(testcluster.Certify(t, peerCA, pki.Request{Profile: pki.ProfileClient, CN: "root"})),
		"member by client CA":  showing(testcluster.Certify(t, clientCA, pki.Request{Profile: pki.ProfilePeer, Member: one.Daemon.ID(), Hosts: []string{"127.0.0.1"}})),
		"expired":              showing(ending),
		"admission":            showing(admission.sign(t, "member", memberURI(domain, one.Daemon.ID()))),
		"user by admission CA": showing(admission.sign(t, "root", rootURI)),
		"another trust domain": showing(admissionForger(t, otherCluster(t)).sign(t, "root", rootURI)),
		"a CA of that name":    showing(strangerForger(t, clientCA.Certificate()).sign(t, "root", rootURI)),
	} {
		t.Run(name, func(t *testing.T) {
			if status, err := knock(t, one.ClientURL, cfg); err == nil {
				t.Errorf("served with status %d", status)
			}
		})
	}
}

// The peer port is for members of the table, by the peer CA.
func TestSecure_peerPortRefuses(t *testing.T) {
	c := testcluster.Start(t, 3, testcluster.Options{Secure: true})
	peerCA, clientCA := c.Authorities()
	domain, one, two := peerCA.TrustDomain(), c.Members[0], c.Members[1].Daemon.ID()
	member := func(ca *pki.Authority, id uint64) *tls.Config {
		return showing(testcluster.Certify(t, ca, pki.Request{Profile: pki.ProfilePeer, Member: id, Hosts: []string{"127.0.0.1"}}))
	}
	if status, err := knock(t, one.PeerURL, member(peerCA, two)); status != http.StatusOK {
		t.Fatalf("a member's certificate: %d, %v", status, err)
	}
	admission := admissionForger(t, c.SecretFile)
	grpc := member(peerCA, two)
	grpc.NextProtos = []string{"h2"}
	for name, cfg := range map[string]*tls.Config{
		"no certificate":       showing(),
		"TLS 1.2":              upTo(member(peerCA, two), tls.VersionTLS12),
		"gRPC":                 grpc,
		"user":                 c.ClientTLS("root"),
		"member by client CA":  member(clientCA, two),
		"user by the peer CA":  showing(testcluster.Certify(t, peerCA, pki.Request{Profile: pki.ProfileClient, CN: "root"})),
		"server":               showing(testcluster.Certify(t, clientCA, pki.Request{Profile: pki.ProfileServer, Member: two, Hosts: []string{"127.0.0.1"}})),
		"user, admission":      showing(admission.sign(t, "root", "conclave://"+domain+"/user/root")),
		"another trust domain": showing(admissionForger(t, otherCluster(t)).sign(t, "member", memberURI(domain, two))),
		"a CA of that name":    showing(strangerForger(t, peerCA.Certificate()).sign(t, "member", memberURI(domain, two))),
		"two names in one":     showing(admission.sign(t, "member", memberURI(domain, two)+"?"+domain)),
	} {
		t.Run(name, func(t *testing.T) {
			if status, err := knock(t, one.PeerURL, cfg); err == nil {
				t.Errorf("served with status %d", status)
			}
		})
	}
	// Who has the secret file alone can show an admission certificate of a
	// member that is certified already, or of none. It passes the handshake only
	// to be told why nothing is served.
	for name, id := range map[string]uint64{"certified member, admission": two, "unknown, admission": 0xbad} {
		t.Run(name, func(t *testing.T) {
			status, err := knock(t, one.PeerURL, showing(admission.sign(t, "member", memberURI(domain, id))))
			if status != http.StatusForbidden {
				t.Errorf("status %d, %v", status, err)
			}
		})
	}
	if _, err := secureClient(t, c, "root").Put(within(t), "still", "here"); err != nil {
		t.Error(err)
	}
}

// What the members keep on disk is for the user they run as.
func TestSecure_filesArePrivate(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{Secure: true})
	// The log's files have the mode its library gives them; they are in a
	// directory that is closed.
	inLog := filepath.Join(c.Members[0].Dir, "member", "wal") + string(filepath.Separator)
	err := filepath.WalkDir(c.Members[0].Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 && !strings.HasPrefix(path, inLog) {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// keyMaterial lists the base64 lines of every private key and seal key in a
// file.
func keyMaterial(t *testing.T, path string) []string {
	t.Helper()
	rest, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return out
		}
		if block.Type == "CERTIFICATE" {
			continue
		}
		text := string(pem.EncodeToMemory(&pem.Block{Type: "X", Bytes: block.Bytes}))
		lines := strings.Split(strings.TrimSpace(text), "\n")
		// Not the first line of a key: all keys of a kind begin alike.
		out = append(out, slices.DeleteFunc(lines[1:len(lines)-1], func(l string) bool { return strings.HasPrefix(l, "MIGHAgEAMBMGByqGSM49") })...)
	}
}

// Nothing secret is logged, at any level, through a whole life: formation,
// refused strangers, an issued certificate, a stop and a start.
func TestSecure_noSecretInLogs(t *testing.T) {
	var log lockedBuffer
	c := testcluster.Start(t, 1, testcluster.Options{Secure: true, Log: &log})
	one := c.Members[0]
	if _, err := secureClient(t, c, "root").Put(within(t), "secret-key", "secret-value"); err != nil {
		t.Fatal(err)
	}
	_, _ = knock(t, one.ClientURL, showing())
	_, _ = knock(t, one.PeerURL, showing())
	one.Stop()
	one.Launch()
	one.AwaitReady()
	secrets := []string{"secret-value"}
	for _, path := range []string{c.SecretFile, filepath.Join(one.Dir, "pki", "peer.pem"), filepath.Join(one.Dir, "pki", "server.pem")} {
		lines := keyMaterial(t, path)
		if len(lines) == 0 {
			t.Errorf("%s holds no key", path)
		}
		secrets = append(secrets, lines...)
	}
	text := log.String()
	if !strings.Contains(text, "issued this member's certificates") {
		t.Fatal("the log is not what it should be")
	}
	for _, s := range secrets {
		if strings.Contains(text, s) {
			t.Errorf("the log holds %.8s...", s)
		}
	}
}

// A connection to a port that never says anything holds up nobody, however
// many of them there are.
func TestSecure_halfOpenConnections(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{Secure: true})
	one := c.Members[0]
	var dialer net.Dialer
	for _, base := range []string{one.ClientURL, one.PeerURL} {
		for range 1500 {
			conn, err := dialer.DialContext(within(t), "tcp", strings.TrimPrefix(base, "https://"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			_, _ = conn.Write([]byte("\x16\x03\x01\x02\x00\x01"))
		}
	}
	peerCA, _ := c.Authorities()
	member := testcluster.Certify(t, peerCA, pki.Request{Profile: pki.ProfilePeer, Member: one.Daemon.ID(), Hosts: []string{"127.0.0.1"}})
	for base, cfg := range map[string]*tls.Config{one.ClientURL: c.ClientTLS("root"), one.PeerURL: showing(member)} {
		begin := time.Now()
		status, err := knock(t, base, cfg)
		if took := time.Since(begin); status != http.StatusOK || took > 20*time.Second {
			t.Errorf("%s: status %d after %v, %v", base, status, took, err)
		}
	}
	if _, err := secureClient(t, c, "root").Put(within(t), "a", "b"); err != nil {
		t.Error(err)
	}
}
