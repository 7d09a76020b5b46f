//go:build interop

package cluster_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fingerprint is every file below dir with its content.
func fingerprint(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		fmt.Fprintf(&out, "%s %x\n", path, sha256.Sum256(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// unchanged runs what must leave a directory as it was.
func unchanged(t *testing.T, dir string, do func()) {
	t.Helper()
	before := fingerprint(t, dir)
	do()
	if after := fingerprint(t, dir); after != before {
		t.Errorf("a refused start changed %s:\n%s\nwas:\n%s", dir, after, before)
	}
}

// A clock that is far off is not here: pki tests it with clocks of its own.

func TestBadInput_portTaken(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	good := s.static()
	for _, c := range []struct{ name, port, flag string }{
		{"client", s.client, "--listen-client-urls"}, {"peer", s.peer, "--listen-peer-urls"},
	} {
		t.Run(c.name, func(t *testing.T) {
			taker, err := net.Listen("tcp", net.JoinHostPort(s.addr, c.port))
			if err != nil {
				t.Fatal(err)
			}
			refusal(t, launch(t, "one", s.home, good.argv()...), c.flag, s.addr+":"+c.port, "already in use", "stop", "give another")
			untouched(t, s.data)
			taker.Close()
		})
	}
	s.works(t, good)
}

func TestBadInput_dataDirInUse(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	first := launch(t, "one", s.home, s.static().argv()...)
	first.says(serveTimeout, "ready to serve client requests")
	client, peer := "https://"+s.other.addr+":"+s.other.client, "https://"+s.other.addr+":"+s.other.peer
	second := s.static().set("name", "two", "listen-peer-urls", peer, "initial-advertise-peer-urls", peer,
		"listen-client-urls", client, "advertise-client-urls", client, "initial-cluster", "two="+peer)
	refusal(t, launch(t, "two", s.home, second.argv()...), fmt.Sprintf("--data-dir %q", s.data), "in use", "stop that process or give another directory")
	s.works(t, second.set("data-dir", filepath.Join(s.home, "another")))
	first.stop()
	s.works(t, s.static())
}

func TestBadInput_dataDirOfNewerVersion(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	s.works(t, s.static())
	path := filepath.Join(s.data, "member", "identity.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	newer := strings.Replace(string(text), `"format": 1`, `"format": 99`, 1)
	if newer == string(text) {
		t.Fatalf("no format in %s", text)
	}
	writeFile(t, path, newer)
	unchanged(t, s.data, func() {
		refusal(t, launch(t, "one", s.home, s.static().argv()...), fmt.Sprintf("--data-dir %q", s.data), "newer version", "format 99", "start it with that version")
	})
	writeFile(t, path, string(text))
	s.works(t, s.static())
}

// The data directory of a real etcd is refused and left as it is.
func TestBadInput_dataDirOfEtcd(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	argv := append([]string{realTool(t, "etcd")}, s.plain().argv()[1:]...)
	etcd := launch(t, "etcd", s.home, argv...)
	etcd.says(serveTimeout, "ready to serve client requests")
	etcd.stop()
	unchanged(t, s.data, func() {
		refusal(t, launch(t, "one", s.home, s.plain().argv()...), fmt.Sprintf("--data-dir %q", s.data), "holds a member of etcd", "conclave snapshot restore")
	})
	s.works(t, s.plain().set("data-dir", filepath.Join(s.home, "another")))
}

// A directory of one cluster brought to the addresses of another is refused,
// and still good where it belongs.
func TestBadInput_dataDirOfAnotherCluster(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		secure, secret bool // secret: the clusters have different ones
		want           []string
	}{
		{"plaintext", false, false, []string{"--data-dir", "belongs to cluster", "give this member's own directory"}},
		{"sameSecret", true, false, []string{"another cluster made with the same --cluster-secret-file"}},
		{"otherSecret", true, true, []string{"--cluster-secret-file"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGroup(t, 3, c.secure)
			moved := g.members[2]
			kept := moved.data + "-of-a"
			form := func(token string) {
				for _, m := range g.members {
					m.launch("--initial-cluster-token", token)
				}
				g.serve()
			}
			form("a")
			for _, m := range g.members {
				m.proc.stop()
			}
			if err := os.Rename(moved.data, kept); err != nil {
				t.Fatal(err)
			}
			for _, m := range g.members[:2] {
				os.RemoveAll(m.data)
			}
			if c.secret {
				g.secret = newSecret(t, t.TempDir())
			}
			g.dir, g.admin = t.TempDir(), ""
			form("b")
			moved.proc.stop()
			own := moved.data
			moved.data = kept
			refusal(t, moved.launch("--initial-cluster-token", "a"), c.want...)
			moved.data = own
			moved.launch("--initial-cluster-token", "b")
			moved.serves()
		})
	}
}

// Two members agree on a secret; the third comes with another one, and is told
// so, with both trust domains.
func TestBadInput_anotherSecret(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 3, true)
	first := g.secret
	stranger := g.members[2]
	for _, m := range g.members[:2] {
		m.launch()
	}
	for _, m := range g.members[:2] {
		m.serves()
	}
	g.secret = newSecret(t, t.TempDir())
	refusal(t, stranger.launch(), "trust domain", domain(t, first), domain(t, g.secret), "--cluster-secret-file must be the same file on every member")
	untouched(t, stranger.data)
	g.secret = first
	stranger.launch()
	stranger.serves()
	g.one()
}

// What a damaged copy of the CAs is said to need is enough: the member makes it, and
// certificates, anew from its state, before the others would let it in.
func TestBadInput_damagedMirror(t *testing.T) {
	t.Parallel()
	g := start(t, 3, true)
	m := g.members[2]
	m.proc.stop()
	mirror := filepath.Join(m.data, "pki", "mirror.pb")
	if err := os.WriteFile(mirror, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	unchanged(t, m.data, func() {
		refusal(t, m.launch(), mirror+" is damaged: remove the file, and start the member with --cluster-secret-file")
	})
	if err := os.Remove(mirror); err != nil {
		t.Fatal(err)
	}
	m.launch()
	m.serves()
	g.one()
}

// A member whose cluster speaks plain text does not pretend to be protected by a
// secret, nor one with certificates of conclave's CA to use others.
func TestBadInput_otherProtectionThanBefore(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("secure=%t", secure), func(t *testing.T) {
			g := start(t, 1, secure)
			m := g.members[0]
			m.proc.stop()
			again := func(more ...string) *process {
				return launch(t, m.name, m.home, append([]string{conclave, "--name", m.name, "--data-dir", m.data}, more...)...)
			}
			unchanged(t, m.data, func() {
				if !secure {
					secret := newSecret(t, g.dir)
					refusal(t, again("--cluster-secret-file", secret), "--cluster-secret-file "+secret, m.data, m.peerURL(), "plain text", "--cluster-secret-file=")
					return
				}
				must(t, g.dir, conclave, "cert", "ca", "init", "--dir", "ca")
				must(t, g.dir, conclave, "cert", "issue", "--ca-dir", "ca", "--profile", "server", "--cn", "own", "--hosts", m.addr, "--out", ".")
				cert, key := filepath.Join(g.dir, "own.pem"), filepath.Join(g.dir, "own-key.pem")
				refusal(t, again("--cert-file", cert, "--key-file", key), "certificates of one's own", m.data, "leave them out")
			})
			m.launch()
			m.serves()
		})
	}
}

// domain is the trust domain of a secret file.
func domain(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(text), "Trust-Domain: ")
	if !ok {
		t.Fatalf("no trust domain in %s", path)
	}
	return after[:16]
}

// An unresolvable name is named and waited for: once it is published, the same
// process goes on.
func TestDiscovery_waitsForAName(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(g *group, z *zone){
		"name": func(g *group, z *zone) {
			for _, m := range g.members {
				z.srv("_etcd-server-ssl._tcp", m.name, m.peer)
			}
			z.a(g.members[0].name, g.members[0].addr)
		},
		"record": func(g *group, z *zone) {
			for _, m := range g.members[1:] {
				z.srv("_etcd-server-ssl._tcp", m.name, m.peer)
				z.a(m.name, m.addr)
			}
		},
		"zone": func(*group, *zone) {},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGroup(t, 2, true)
			early := &zone{}
			change(g, early)
			server := onLoopback(t, early)
			g.findBy(server)
			first := g.members[0].launch()
			missing := map[string]string{"name": "m2.example.com, listed in", "record": "--initial-advertise-peer-urls", "zone": "no SRV record"}
			first.says(serveTimeout, "waiting for the first peers", missing[name])
			server.publish(t, g.zone(), 2)
			first.says(serveTimeout, "found the first peers")
			g.members[1].launch()
			g.serve()
		})
	}
}

// One that is told to stop while it waits for the others leaves nothing behind,
// and one that is killed then can be started again.
func TestDiscovery_endedWhileWaiting(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 3, true)
	first := g.members[0]
	first.launch().says(serveTimeout, "found the first peers")
	first.proc.stop()
	untouched(t, first.data)
	first.launch().says(serveTimeout, "found the first peers")
	first.proc.kill()
	g.launch()
	g.serve()
}

// A member that moves to another address is found there once DNS says so: its
// name and port are what the others know.
func TestDiscovery_movedMember(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 3, true)
	server := onLoopback(t, g.zone())
	g.findBy(server)
	g.launch()
	g.serve()
	for round, m := range g.members {
		m.proc.stop()
		m.addr = loopback()
		server.publish(t, g.zone(), round+2)
		m.launch()
		m.serves()
	}
	// Nobody is where the cluster was formed.
	g.serve()
	g.one()
	for _, m := range g.members {
		out, err := m.ctl(conclave, "put", "k", m.name)
		if err != nil || out != "OK\n" {
			t.Errorf("put through %s: %q, %v", m.name, out, err)
		}
	}
}
