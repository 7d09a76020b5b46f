//go:build interop

package cluster_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
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
	client                  string // port
}

// hubAddr is where the name server listens.
const hubAddr = "10.213.7.1"

var lans atomic.Int32

// newLAN makes the namespaces; they, their links and their files under
// /etc/netns are gone when the test ends.
func newLAN(t *testing.T, n int) *lan {
	t.Helper()
	ip := installed(t, "ip")
	prefix := fmt.Sprintf("conclave%d-%d-", os.Getpid(), lans.Add(1))
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
	t.Parallel()
	needRoot(t)
	const otherPort = "4001" // the second host's, by its record
	w := newWire(t, func(i int) string { return []string{"2379", otherPort, "2379"}[i] })
	first := w.hosts[0]
	var want []string
	for _, h := range w.hosts {
		want = append(want, fmt.Sprintf(", started, %s, https://%s.example.com:2380, %s, false", h.name, h.name, h.clientURL()))
		for _, from := range w.hosts {
			argv := append([]string{w.etcdctl, "--endpoints", h.clientURL()}, w.credentials...)
			if out := must(t, from.home, from.in(append(argv, "put", "last", from.name)...)...); out != "OK\n" {
				t.Errorf("put on %s from %s: %s", h.name, from.name, out)
			}
		}
	}
	for _, h := range w.hosts {
		list, err := w.ctl(h, "member", "list")
		contains(t, "member list", list, want...)
		if n := strings.Count(list, "\n"); err != nil || n != len(w.hosts) {
			t.Errorf("%d members, %v:\n%s", n, err, list)
		}
	}
	for _, program := range []string{w.etcdctl, conclave} {
		argv := append([]string{program, "--discovery-srv", "example.com"}, w.credentials...)
		out := must(t, first.home, first.in(append(argv, "get", "last", "--print-value-only")...)...)
		if out != w.hosts[2].name+"\n" {
			t.Errorf("%s --discovery-srv reads %q", program, out)
		}
	}
	w.procs[0].stop()
	// A member that was part of the cluster has its certificates and its peers in
	// its data directory.
	again := launch(t, first.name, first.home, first.in(conclave)...)
	again.says(serveTimeout, "discovery is skipped", "serving client traffic securely")
	for _, p := range append(w.procs[1:], again) {
		p.stop()
	}
}
