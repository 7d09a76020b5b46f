//go:build interop

package cluster_test

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// Certificates of a CA of one's own serve conclave and a real etcd alike, with
// the same flags.
func TestOwnCertificates_sameFlagsAsEtcd(t *testing.T) {
	t.Parallel()
	for name, program := range map[string]string{"conclave": conclave, "etcd": realTool(t, "etcd")} {
		t.Run(name, func(t *testing.T) {
			g := newGroup(t, 3, true)
			issueOwn(t, g)
			for _, m := range g.members {
				m.launchOwn(program)
			}
			g.serve()
			g.one()
			checkOwn(t, g)
			for _, m := range g.members {
				m.proc.stop()
			}
		})
	}
}

// launchOwn starts the member with its own certificates in the place of the
// cluster secret.
func (m *member) launchOwn(program string, more ...string) {
	argv := []string{program}
	for _, word := range m.flags() {
		if word != "--cluster-secret-file" && word != m.g.secret {
			argv = append(argv, word)
		}
	}
	m.proc = launch(m.g.t, m.name, m.home, append(append(argv, ownFlags(m)...), more...)...)
}

// A member with certificates of one's own joins a running cluster of such.
func TestOwnCertificates_join(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2, true)
	issueOwn(t, g)
	first, second := g.members[0], g.members[1]
	g.members = g.members[:1]
	first.launchOwn(conclave)
	first.serves()
	g.members = append(g.members, second)
	second.launchOwn(conclave, "--initial-cluster-state", "existing")
	refusal(t, second.proc, "run \"conclave member add m2 --peer-urls="+second.peerURL())
	if out, err := first.ctl(realTool(t, "etcdctl"), "member", "add", second.name, "--peer-urls", second.peerURL()); err != nil {
		t.Fatal(out, err)
	}
	second.launchOwn(conclave, "--initial-cluster-state", "existing")
	second.serves()
	g.votes(t)
	g.one()
}

// issueOwn makes the CA, and from it a certificate for each port and for the
// client.
func issueOwn(t *testing.T, g *group) {
	t.Helper()
	ca := filepath.Join(g.dir, "ca")
	must(t, g.dir, conclave, "cert", "ca", "init", "--dir", ca)
	for _, m := range g.members {
		// Members compare where a peer comes from: on loopback, 127.0.0.1.
		for _, profile := range []string{"server", "peer"} {
			must(t, g.dir, conclave, "cert", "issue", "--ca-dir", ca, "--profile", profile, "--cn", m.name,
				"--hosts", m.addr+",127.0.0.1", "--out", filepath.Join(m.home, profile))
		}
	}
	g.admin = filepath.Join(g.dir, "admin")
	must(t, g.dir, conclave, "cert", "issue", "--ca-dir", ca, "--profile", "client", "--cn", "admin", "--out", g.admin)
}

func ownFlags(m *member) []string {
	file := func(profile, name string) string { return filepath.Join(m.home, profile, name) }
	return []string{
		"--cert-file", file("server", m.name+".pem"), "--key-file", file("server", m.name+"-key.pem"),
		"--trusted-ca-file", file("server", "ca.pem"), "--client-cert-auth",
		"--peer-cert-file", file("peer", m.name+".pem"), "--peer-key-file", file("peer", m.name+"-key.pem"),
		"--peer-trusted-ca-file", file("peer", "ca.pem"), "--peer-client-cert-auth",
	}
}

func checkOwn(t *testing.T, g *group) {
	t.Helper()
	ca, openssl := filepath.Join(g.admin, "ca.pem"), installed(t, "openssl")
	own := []string{"-cert", filepath.Join(g.admin, "admin.pem"), "-key", filepath.Join(g.admin, "admin-key.pem")}
	for _, m := range g.members {
		for _, cert := range []string{filepath.Join(m.home, "server", m.name+".pem"), filepath.Join(m.home, "peer", m.name+".pem")} {
			must(t, g.dir, openssl, "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", ca, cert)
		}
		addr := net.JoinHostPort(m.addr, m.client)
		base := []string{"-tls1_3", "-CAfile", ca, "-verify_ip", m.addr}
		out, err := ask(t, addr, "/version", append(base, own...)...)
		if err != nil || !strings.Contains(out, "HTTP/1.1 200") {
			t.Errorf("with a certificate: %v\n%s", err, out)
		}
		refused(t, "without a certificate", addr, base)
		refused(t, "peer port without a certificate", net.JoinHostPort(m.addr, m.peer), base)
		if out, err := m.ctl(realTool(t, "etcdctl"), "put", "k", m.name); err != nil || out != "OK\n" {
			t.Errorf("etcdctl put through %s: %q %v", m.name, out, err)
		}
	}
}
