//go:build interop

package cluster_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// serveTimeout bounds how long a member may take from its start, or the start
// of its peers, to serve.
const serveTimeout = 30 * time.Second

// group is a cluster: members as separate processes on this machine.
type group struct {
	t       *testing.T
	dir     string
	program string   // conclave, or one that takes the same flags
	secret  string   // cluster secret file; empty: plaintext
	find    []string // flags by which members find each other; nil: the static list
	members []*member
	laidOut int    // members so far, those removed included
	admin   string // directory of a client certificate, once issued
}

// member is one of them, running or not.
type member struct {
	g            *group
	name         string
	addr         string // what it listens on
	host         string // what others call it
	peer, client string // ports
	home         string // working directory
	data         string // data directory
	proc         *process
}

// newGroup lays out n members without starting them.
func newGroup(t *testing.T, n int, secure bool) *group {
	t.Helper()
	g := &group{t: t, dir: t.TempDir(), program: conclave}
	if secure {
		g.secret = newSecret(t, g.dir)
	}
	for range n {
		g.layOut()
	}
	return g
}

func (g *group) layOut() *member {
	g.t.Helper()
	g.laidOut++
	m := &member{g: g, name: fmt.Sprintf("m%d", g.laidOut), addr: loopback()}
	m.host, m.peer, m.client = m.addr, freePort(g.t, m.addr), freePort(g.t, m.addr)
	m.home = filepath.Join(g.dir, m.name)
	m.data = filepath.Join(m.home, "data")
	if err := os.Mkdir(m.home, 0o700); err != nil {
		g.t.Fatal(err)
	}
	g.members = append(g.members, m)
	return m
}

// newSecret makes a cluster secret file in dir.
func newSecret(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "cluster.secret")
	must(t, dir, conclave, "cluster-secret", "new", "--out", path)
	return path
}

// zone is what DNS has to say about the group.
func (g *group) zone() *zone {
	z := &zone{}
	suffix := ""
	if g.secret != "" {
		suffix = "-ssl"
	}
	for _, m := range g.members {
		z.srv("_etcd-server"+suffix+"._tcp", m.name, m.peer)
		z.srv("_etcd-client"+suffix+"._tcp", m.name, m.client)
		z.a(m.name, m.addr)
	}
	return z
}

// findBy has the members find each other by DNS.
func (g *group) findBy(server *nameServer) {
	g.find = []string{"--discovery-srv", "example.com", "--discovery-srv-server", server.addr}
	for _, m := range g.members {
		m.host = m.name + ".example.com"
	}
}

func (g *group) scheme() string {
	if g.secret != "" {
		return "https://"
	}
	return "http://"
}

func (m *member) peerURL() string   { return m.g.scheme() + m.host + ":" + m.peer }
func (m *member) clientURL() string { return m.g.scheme() + m.addr + ":" + m.client }

// flags is the member's command line.
func (m *member) flags() []string {
	flags := []string{
		"--name", m.name, "--data-dir", m.data,
		"--listen-peer-urls", m.g.scheme() + m.addr + ":" + m.peer, "--initial-advertise-peer-urls", m.peerURL(),
		"--listen-client-urls", m.clientURL(), "--advertise-client-urls", m.g.scheme() + m.host + ":" + m.client,
	}
	if m.g.secret != "" {
		flags = append(flags, "--cluster-secret-file", m.g.secret)
	}
	if m.g.find != nil {
		return append(flags, m.g.find...)
	}
	var all []string
	for _, other := range m.g.members {
		all = append(all, other.name+"="+other.peerURL())
	}
	return append(flags, "--initial-cluster", strings.Join(all, ","))
}

// launch starts the member, with more flags if need be, and does not wait.
func (m *member) launch(more ...string) *process {
	m.g.t.Helper()
	m.proc = launch(m.g.t, m.name, m.home, append(append([]string{m.g.program}, m.flags()...), more...)...)
	return m.proc
}

// start makes a cluster of n members that all serve.
func start(t *testing.T, n int, secure bool) *group {
	t.Helper()
	g := newGroup(t, n, secure)
	g.launch()
	g.serve()
	return g
}

func (g *group) launch() {
	g.t.Helper()
	for _, m := range g.members {
		m.launch()
	}
}

func (g *group) serve() {
	g.t.Helper()
	for _, m := range g.members {
		m.serves()
	}
}

// serves waits until the member answers a linearizable read.
func (m *member) serves() {
	m.g.t.Helper()
	client := m.dial()
	eventually(m.g.t, serveTimeout, m.name+" to serve", func() error {
		if !m.proc.running() {
			m.g.t.Fatalf("%s has ended: %s\n%s", m.name, m.proc.cmd.ProcessState, tail(m.proc.said(), 5))
		}
		ctx, cancel := context.WithTimeout(m.g.t.Context(), 3*time.Second)
		defer cancel()
		_, err := client.Get(ctx, "nothing")
		return err
	})
}

// certificate issues the client certificate of these tests from a member's
// directory, as soon as the cluster has its CAs.
func (g *group) certificate() string {
	g.t.Helper()
	if g.admin != "" {
		return g.admin
	}
	dir := filepath.Join(g.dir, "admin")
	eventually(g.t, serveTimeout, "a client certificate", func() error {
		failure := errors.New("no member was started")
		for _, m := range g.members {
			if m.proc == nil {
				continue
			}
			_, failure = output(g.dir, "", conclave, "cert", "issue", "--profile", "client", "--cn", "admin",
				"--cluster-secret-file", g.secret, "--data-dir", m.data, "--out", dir)
			if failure == nil {
				return nil
			}
		}
		return failure
	})
	g.admin = dir
	return dir
}

// credentials are the flags of a client: etcdctl's and conclave's are the same.
func (g *group) credentials() []string {
	g.t.Helper()
	if g.secret == "" {
		return nil
	}
	dir := g.certificate()
	return []string{"--cacert", filepath.Join(dir, "ca.pem"), "--cert", filepath.Join(dir, "admin.pem"), "--key", filepath.Join(dir, "admin-key.pem")}
}

// ctl runs etcdctl or conclave against one member.
func (m *member) ctl(program string, args ...string) (string, error) {
	m.g.t.Helper()
	argv := append([]string{program, "--endpoints", m.clientURL()}, m.g.credentials()...)
	return output(m.g.dir, "", append(argv, args...)...)
}

// dial makes a client that knows these members only.
func (g *group) dial(members ...*member) *clientv3.Client {
	g.t.Helper()
	cfg := clientv3.Config{DialTimeout: 5 * time.Second, Logger: zap.NewNop()}
	for _, m := range members {
		cfg.Endpoints = append(cfg.Endpoints, m.clientURL())
	}
	if g.secret != "" {
		cfg.TLS = g.clientTLS()
	}
	client, err := clientv3.New(cfg)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { client.Close() })
	return client
}

func (m *member) dial() *clientv3.Client {
	m.g.t.Helper()
	return m.g.dial(m)
}

func (g *group) clientTLS() *tls.Config {
	g.t.Helper()
	dir := g.certificate()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "admin.pem"), filepath.Join(dir, "admin-key.pem"))
	if err != nil {
		g.t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		g.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
}

// leader asks the running members who leads; nil while nobody does.
func (g *group) leader(clients []*clientv3.Client) *member {
	for i, m := range g.members {
		if !m.proc.running() {
			continue
		}
		ctx, cancel := context.WithTimeout(g.t.Context(), time.Second)
		status, err := clients[i].Status(ctx, m.clientURL())
		cancel()
		if err == nil && status.Leader != 0 && status.Leader == status.Header.MemberId {
			return m
		}
	}
	return nil
}

// one fails unless all members name the same cluster with the same members.
func (g *group) one() {
	g.t.Helper()
	var first string
	for _, m := range g.members {
		ctx, cancel := context.WithTimeout(g.t.Context(), 10*time.Second)
		list, err := m.dial().MemberList(ctx)
		cancel()
		if err != nil {
			g.t.Fatal(err)
		}
		text := fmt.Sprintf("cluster %x:", list.Header.ClusterId)
		for _, each := range list.Members {
			text += fmt.Sprintf(" %x %s %v %v", each.ID, each.Name, each.PeerURLs, each.ClientURLs)
		}
		if first == "" {
			first = text
		}
		if text != first || len(list.Members) != len(g.members) {
			g.t.Errorf("%s says %s\nothers say %s", m.name, text, first)
		}
	}
}
