//go:build interop

package cluster_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// lan is a bridge with hosts on it, each a network namespace of its own. Nothing
// of it is in this process's namespace.
type lan struct {
	hub   string
	hosts []*host
}

// host is one of them: one address, and a resolver configuration that names the
// hub.
type host struct {
	space, name, addr, home string
}

// hubAddr is where the name server listens.
const hubAddr = "10.213.7.1"

// newLAN makes the namespaces; they, their links and their files under
// /etc/netns are gone when the test ends.
func newLAN(t *testing.T, n int) *lan {
	t.Helper()
	ip := installed(t, "ip")
	prefix := fmt.Sprintf("conclave%d-", os.Getpid())
	l := &lan{hub: prefix + "hub"}
	addSpace(t, ip, l.hub)
	must(t, "", ip, "-n", l.hub, "link", "add", "br0", "type", "bridge")
	must(t, "", ip, "-n", l.hub, "addr", "add", hubAddr+"/24", "dev", "br0")
	must(t, "", ip, "-n", l.hub, "link", "set", "br0", "up")
	for i := range n {
		h := &host{name: fmt.Sprintf("infra%d", i+1), addr: fmt.Sprintf("10.213.7.%d", 11+i), home: t.TempDir()}
		h.space = prefix + h.name
		addSpace(t, ip, h.space)
		port := fmt.Sprintf("port%d", i+1)
		must(t, "", ip, "link", "add", port, "netns", l.hub, "type", "veth", "peer", "name", "eth0", "netns", h.space)
		must(t, "", ip, "-n", l.hub, "link", "set", port, "master", "br0", "up")
		must(t, "", ip, "-n", h.space, "addr", "add", h.addr+"/24", "dev", "eth0")
		must(t, "", ip, "-n", h.space, "link", "set", "eth0", "up")
		configure(t, h.space)
		l.hosts = append(l.hosts, h)
	}
	return l
}

func addSpace(t *testing.T, ip, space string) {
	t.Helper()
	must(t, "", ip, "netns", "add", space)
	t.Cleanup(func() {
		if _, err := output("", "", ip, "netns", "del", space); err != nil {
			t.Error(err)
		}
	})
	must(t, "", ip, "-n", space, "link", "set", "lo", "up")
}

// configure gives a namespace its /etc/resolv.conf and /etc/hosts.
func configure(t *testing.T, space string) {
	t.Helper()
	const all = "/etc/netns"
	_, err := os.Stat(all)
	made := os.IsNotExist(err)
	dir := filepath.Join(all, space)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
		if made {
			os.Remove(all) // stays while other namespaces have theirs
		}
	})
	for name, text := range map[string]string{
		"resolv.conf": "nameserver " + hubAddr + "\n",
		"hosts":       "127.0.0.1 localhost\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// in is a command line that runs in the host's namespace.
func (h *host) in(argv ...string) []string {
	return append([]string{"ip", "netns", "exec", h.space}, argv...)
}

// Two flags on each host, and nothing else, form the cluster.
func TestNamespacesRoot_twoFlagsFormTheCluster(t *testing.T) {
	needRoot(t)
	l := newLAN(t, 3)
	z := &zone{}
	for _, h := range l.hosts {
		z.srv("_etcd-server-ssl._tcp", h.name, "2380")
		z.a(h.name, h.addr)
	}
	const otherPort = "4001" // the second host's, by its record
	z.srv("_etcd-client-ssl._tcp", l.hosts[1].name, otherPort)
	bind9(t, z, hubAddr, "53", "ip", "netns", "exec", l.hub)
	secret := newSecret(t, t.TempDir())
	var procs []*process
	for _, h := range l.hosts {
		procs = append(procs, launch(t, h.name, h.home, h.in(conclave, "--discovery-srv", "example.com", "--cluster-secret-file", secret)...))
	}
	for _, p := range procs {
		p.says(serveTimeout, "serving client traffic securely")
	}
	first := l.hosts[0]
	must(t, first.home, conclave, "cert", "issue", "--profile", "client", "--cn", "admin", "--cluster-secret-file", secret,
		"--data-dir", filepath.Join(first.home, "default.conclave"))
	credentials := []string{"--cacert", filepath.Join(first.home, "ca.pem"), "--cert", filepath.Join(first.home, "admin.pem"), "--key", filepath.Join(first.home, "admin-key.pem")}
	etcdctl := realTool(t, "etcdctl")
	var want []string
	for i, h := range l.hosts {
		port := "2379"
		if i == 1 {
			port = otherPort
		}
		client := "https://" + h.name + ".example.com:" + port
		want = append(want, fmt.Sprintf(", started, %s, https://%s.example.com:2380, %s, false", h.name, h.name, client))
		for _, from := range l.hosts {
			argv := from.in(append(append([]string{etcdctl, "--endpoints", client}, credentials...), "put", "last", from.name)...)
			// etcdctl asks the system's resolver too.
			if out := must(t, from.home, argv...); out != "OK\n" {
				t.Errorf("put on %s from %s: %s", client, from.name, out)
			}
		}
	}
	for _, h := range l.hosts {
		list := must(t, h.home, h.in(append(append([]string{etcdctl, "--endpoints", "https://" + first.name + ".example.com:2379"}, credentials...), "member", "list")...)...)
		contains(t, "member list", list, want...)
		if n := strings.Count(list, "\n"); n != len(l.hosts) {
			t.Errorf("%d members:\n%s", n, list)
		}
	}
	for _, program := range []string{etcdctl, conclave} {
		argv := append([]string{program, "--discovery-srv", "example.com"}, credentials...)
		out := must(t, first.home, first.in(append(argv, "get", "last", "--print-value-only")...)...)
		if out != l.hosts[2].name+"\n" {
			t.Errorf("%s --discovery-srv reads %q", program, out)
		}
	}
	procs[0].stop()
	// A member that was part of the cluster has its certificates and its peers in
	// its data directory.
	again := launch(t, first.name, first.home, first.in(conclave)...)
	again.says(serveTimeout, "discovery is skipped", "serving client traffic securely")
	for _, p := range append(procs[1:], again) {
		p.stop()
	}
}
