//go:build interop

package cluster_test

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// Another TLS implementation must accept our chains and be treated as we treat
// ourselves.
func TestTLS_openssl(t *testing.T) {
	t.Parallel()
	g := start(t, 3, true)
	g.settle()
	t.Run("verify", func(t *testing.T) { testVerify(t, g) })
	t.Run("clientPort", func(t *testing.T) { testClientPort(t, g) })
	t.Run("peerPort", func(t *testing.T) { testPeerPort(t, g) })
	t.Run("curl", func(t *testing.T) { testCurl(t, g) })
	t.Run("foreignMember", func(t *testing.T) { testForeignSecret(t, g) })
}

// pki is a file of the member's certificates.
func (m *member) pki(name string) string { return filepath.Join(m.data, "pki", name) }

// settle waits until every member has its certificates of the running CAs.
func (g *group) settle() {
	g.t.Helper()
	for _, m := range g.members {
		for _, name := range []string{"peer.pem", "server.pem"} {
			eventually(g.t, serveTimeout, m.name+"'s "+name, func() error {
				_, err := output(m.home, "", conclave, "cert", "show", m.pki(name))
				return err
			})
		}
	}
}

// testVerify has openssl check each chain for what it is for, and refuse it
// for what it is not.
func testVerify(t *testing.T, g *group) {
	openssl := installed(t, "openssl")
	admin := g.certificate()
	verify := func(ca, file, purpose string) (string, error) {
		return output(g.dir, "", openssl, "verify", "-x509_strict", "-check_ss_sig", "-purpose", purpose,
			"-no-CApath", "-no-CAstore", "-CAfile", ca, "-untrusted", file, file)
	}
	var good, bad [][3]string
	client := filepath.Join(admin, "admin.pem")
	for _, m := range g.members {
		peer, server, peerCA, clientCA := m.pki("peer.pem"), m.pki("server.pem"), m.pki("peer-ca.pem"), m.pki("client-ca.pem")
		good = append(good, [3]string{peerCA, peer, "sslserver"}, [3]string{peerCA, peer, "sslclient"},
			[3]string{clientCA, server, "sslserver"}, [3]string{clientCA, client, "sslclient"},
			[3]string{filepath.Join(admin, "ca.pem"), server, "sslserver"})
		bad = append(bad, [3]string{clientCA, peer, "sslclient"}, [3]string{peerCA, client, "sslclient"},
			[3]string{peerCA, server, "sslserver"}, [3]string{clientCA, client, "sslserver"})
	}
	for _, c := range good {
		if out, err := verify(c[0], c[1], c[2]); err != nil || !strings.HasSuffix(strings.TrimSpace(out), ": OK") {
			t.Errorf("verify %s with %s as %s: %v\n%s", c[1], c[0], c[2], err, out)
		}
	}
	for _, c := range bad {
		if out, err := verify(c[0], c[1], c[2]); err == nil {
			t.Errorf("%s passes as %s with %s:\n%s", c[1], c[2], c[0], out)
		}
	}
}

// ask connects with openssl, says an HTTP request and returns what came back.
func ask(t *testing.T, addr, path string, flags ...string) (string, error) {
	t.Helper()
	argv := append([]string{installed(t, "openssl"), "s_client", "-connect", addr, "-verify_return_error", "-ign_eof"}, flags...)
	return output(t.TempDir(), fmt.Sprintf("GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path), argv...)
}

var versions = []string{"-tls1_2", "-tls1_3"}

func testClientPort(t *testing.T, g *group) {
	admin := g.certificate()
	ca := filepath.Join(admin, "ca.pem")
	own := []string{"-cert", filepath.Join(admin, "admin.pem"), "-key", filepath.Join(admin, "admin-key.pem")}
	for _, m := range g.members {
		addr := net.JoinHostPort(m.addr, m.client)
		for _, version := range versions {
			base := []string{version, "-CAfile", ca, "-verify_ip", m.addr}
			out, err := ask(t, addr, "/version", append(base, own...)...)
			contains(t, "with a certificate", out, "Verify return code: 0 (ok)", "HTTP/1.1 200", `"etcdserver":"3.7.1"`)
			if err != nil {
				t.Errorf("with a certificate: %v", err)
			}
			refused(t, "without a certificate", addr, base)
			peer := m.pki("peer.pem")
			refused(t, "with a member's certificate", addr, append(base, "-cert", peer, "-key", peer))
		}
	}
}

// testPeerPort: members speak TLS 1.3 only, because all of them can.
func testPeerPort(t *testing.T, g *group) {
	admin := g.certificate()
	for i, m := range g.members {
		addr := net.JoinHostPort(m.addr, m.peer)
		other := g.members[(i+1)%3]
		trust := []string{"-CAfile", m.pki("peer-ca.pem"), "-verify_ip", m.addr}
		peer, server := other.pki("peer.pem"), other.pki("server.pem")
		base := append([]string{"-tls1_3"}, trust...)
		out, err := ask(t, addr, "/version", append(base, "-cert", peer, "-key", peer)...)
		contains(t, "with another member's certificate", out, "Verify return code: 0 (ok)", "HTTP/1.1 200", `"conclave":`)
		if err != nil {
			t.Errorf("with another member's certificate: %v", err)
		}
		refused(t, "without a certificate", addr, base)
		refused(t, "with a client's certificate", addr,
			append(base, "-cert", filepath.Join(admin, "admin.pem"), "-key", filepath.Join(admin, "admin-key.pem")))
		refused(t, "with a server's certificate", addr, append(base, "-cert", server, "-key", server))
		refused(t, "with TLS 1.2", addr, append([]string{"-tls1_2"}, append(trust, "-cert", peer, "-key", peer)...))
	}
}

// refused fails unless the TLS handshake ends with an alert from the other side
// and not one byte of an answer. With TLS 1.3 the client sends its request before it
// can know that it is refused: where that meets a closed socket, the reset may
// overtake the alert, and the client is asked again.
func refused(t *testing.T, what, addr string, flags []string) {
	t.Helper()
	const reset = "write:errno=104"
	out, err := ask(t, addr, "/version", flags...)
	for try := 1; try < 10 && strings.Contains(out, reset) && !strings.Contains(out, "HTTP/1."); try++ {
		out, err = ask(t, addr, "/version", flags...)
	}
	if strings.Contains(out, "HTTP/1.") || !strings.Contains(out, "alert") {
		t.Errorf("%s at %s, %s: %v\n%s", what, addr, flags[0], err, out)
	}
}

func testCurl(t *testing.T, g *group) {
	curl := installed(t, "curl")
	dir := g.certificate()
	url := g.members[0].clientURL() + "/health"
	cacert := filepath.Join(dir, "ca.pem")
	if out, err := output(g.dir, "", curl, "-sS", "--max-time", "10", "--cacert", cacert, url); err == nil || strings.Contains(out, "health") {
		t.Errorf("curl without a certificate: %v %s", err, out)
	}
	out, err := output(g.dir, "", curl, "-sS", "--max-time", "10", "--cacert", cacert,
		"--cert", filepath.Join(dir, "admin.pem"), "--key", filepath.Join(dir, "admin-key.pem"), url)
	if err != nil || !strings.Contains(out, `"health":"true"`) {
		t.Errorf("curl with a certificate: %v %s", err, out)
	}
	plain := strings.Replace(url, "https", "http", 1)
	if out, err := output(g.dir, "", curl, "-sS", "--fail", "--max-time", "10", plain); err == nil {
		t.Errorf("curl over plaintext: %s", out)
	}
}

// testForeignSecret: a certificate of another cluster's client CA opens no port
// here.
func testForeignSecret(t *testing.T, g *group) {
	theirs := start(t, 1, true)
	dir := theirs.certificate()
	cert := []string{"-cert", filepath.Join(dir, "admin.pem"), "-key", filepath.Join(dir, "admin-key.pem")}
	m := g.members[0]
	for _, version := range versions {
		base := []string{version, "-CAfile", filepath.Join(g.certificate(), "ca.pem")}
		refused(t, "with another cluster's certificate", net.JoinHostPort(m.addr, m.client), append(base, cert...))
	}
}
