//go:build interop

package cluster_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// wire is a cluster on a lan, with what its clients need.
type wire struct {
	*lan
	t           *testing.T
	procs       []*process
	credentials []string
	etcdctl     string
}

// newWire forms a cluster of three hosts with two flags each.
func newWire(t *testing.T, clientPort func(i int) string) *wire {
	t.Helper()
	w := &wire{lan: newLAN(t, 3), t: t, etcdctl: realTool(t, "etcdctl")}
	z := &zone{}
	for i, h := range w.hosts {
		z.srv("_etcd-server-ssl._tcp", h.name, "2380")
		z.a(h.name, h.addr)
		if h.client = clientPort(i); h.client != "2379" {
			z.srv("_etcd-client-ssl._tcp", h.name, h.client)
		}
	}
	bind9(t, z, hubAddr, "53", "ip", "netns", "exec", w.hub)
	secret := newSecret(t, t.TempDir())
	for _, h := range w.hosts {
		w.procs = append(w.procs, launch(t, h.name, h.home, h.in(conclave, "--discovery-srv", "example.com", "--cluster-secret-file", secret)...))
	}
	for _, p := range w.procs {
		p.says(serveTimeout, "serving client traffic securely")
	}
	home := w.hosts[0].home
	must(t, home, conclave, "cert", "issue", "--profile", "client", "--cn", "admin", "--cluster-secret-file", secret,
		"--data-dir", filepath.Join(home, "default.conclave"))
	w.credentials = []string{"--cacert", filepath.Join(home, "ca.pem"), "--cert", filepath.Join(home, "admin.pem"), "--key", filepath.Join(home, "admin-key.pem")}
	return w
}

func (h *host) clientURL() string { return "https://" + h.name + ".example.com:" + h.client }

// ctl runs etcdctl on a host against its own member.
func (w *wire) ctl(h *host, args ...string) (string, error) {
	argv := append([]string{w.etcdctl, "--endpoints", h.clientURL(), "--command-timeout", "2s", "--dial-timeout", "2s"}, w.credentials...)
	return output(h.home, "", h.in(append(argv, args...)...)...)
}

// leader is the host whose member says that it leads.
func (w *wire) leader() *host {
	w.t.Helper()
	var leader *host
	eventually(w.t, serveTimeout, "a leader", func() error {
		for _, h := range w.hosts {
			if out, err := w.ctl(h, "endpoint", "status"); err == nil && strings.Contains(out, ", true, false, ") {
				leader = h
				return nil
			}
		}
		return errors.New("nobody says that it leads")
	})
	return leader
}

// nowhere is a hardware address nobody has.
const nowhere = "02:00:00:00:00:ee"

// drop has what one host sends to another vanish without a trace.
func (w *wire) drop(from, to *host) {
	w.t.Helper()
	must(w.t, "", "ip", "-n", from.space, "neigh", "replace", to.addr, "lladdr", nowhere, "dev", "eth0", "nud", "permanent")
}

// heal ends all drops.
func (w *wire) heal() {
	w.t.Helper()
	for _, h := range w.hosts {
		must(w.t, "", "ip", "-n", h.space, "neigh", "flush", "dev", "eth0", "nud", "permanent")
	}
}

// spareTime is how long a leader that keeps its majority must not be disturbed:
// several election timeouts.
const spareTime = 5 * time.Second

// Links that swallow packets, in one direction or both: who can reach a
// majority goes on, and when the link is back everybody does.
func TestNamespacesRoot_silentLinks(t *testing.T) {
	t.Parallel()
	needRoot(t)
	w := newWire(t, func(int) string { return "2379" })
	for _, c := range []struct {
		name string
		cut  func(leader, b, c *host)
		// spared is whether the leader can still lead.
		spared bool
	}{
		{"leaderCutOff", func(leader, b, c *host) {
			for _, other := range []*host{b, c} {
				w.drop(leader, other)
				w.drop(other, leader)
			}
		}, false},
		{"leaderMute", func(leader, b, c *host) { w.drop(leader, b); w.drop(leader, c) }, false},
		{"leaderDeaf", func(leader, b, c *host) { w.drop(b, leader); w.drop(c, leader) }, false},
		{"leaderAndOneFollower", func(leader, b, _ *host) { w.drop(leader, b); w.drop(b, leader) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			leader := w.leader()
			others := slices.DeleteFunc(slices.Clone(w.hosts), func(h *host) bool { return h == leader })
			before := "before " + c.name
			if _, err := w.ctl(leader, "put", "x", before); err != nil {
				t.Fatal(err)
			}
			c.cut(leader, others[0], others[1])
			cut := time.Now()
			writer, value := others[1], "after "+c.name
			eventually(t, outageLimit, "a write beside the cut link", func() error {
				_, err := w.ctl(writer, "put", "x", value)
				return err
			})
			t.Logf("a write succeeded %v after the cut", time.Since(cut).Round(10*time.Millisecond))
			for c.spared && time.Since(cut) < spareTime {
				for _, h := range []*host{leader, writer} {
					if _, err := w.ctl(h, "put", "x", value); err != nil {
						t.Errorf("a majority has its leader, and %v", err)
					}
				}
			}
			if out, err := w.ctl(leader, "get", "x", "--print-value-only"); err == nil && out != value+"\n" {
				t.Errorf("the old leader reads %q, and %q was acknowledged", out, value)
			} else if c.spared && err != nil {
				t.Errorf("a leader with a majority: %v", err)
			}
			w.heal()
			healed := time.Now()
			for _, h := range w.hosts {
				eventually(t, serveTimeout, h.name+" to serve again", func() error {
					out, err := w.ctl(h, "get", "x", "--print-value-only")
					if err == nil && out != value+"\n" {
						t.Errorf("%s reads %q, and %q was acknowledged", h.name, out, value)
					}
					return err
				})
			}
			t.Logf("all members serve %v after the link is back", time.Since(healed).Round(10*time.Millisecond))
		})
	}
	for _, p := range w.procs {
		p.stop()
	}
	var hashes []string
	for _, h := range w.hosts {
		hashes = append(hashes, must(t, h.home, realTool(t, "etcdutl"), "hashkv", "default.conclave/member/snap/db", "-w", "json"))
	}
	if hashes[1] != hashes[0] || hashes[2] != hashes[0] {
		t.Errorf("histories differ: %q", fmt.Sprint(hashes))
	}
}
