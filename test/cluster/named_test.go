//go:build interop

package cluster_test

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// zone is the text of example.com behind its head; see zone.srv and zone.a.
type zone struct{ text strings.Builder }

// srv adds a record of a service, such as _etcd-server-ssl._tcp. Targets are
// relative to example.com.
func (z *zone) srv(service, target, port string) {
	fmt.Fprintf(&z.text, "%s IN SRV 0 0 %s %s\n", service, port, target)
}

// a adds an address.
func (z *zone) a(host, addr string) { fmt.Fprintf(&z.text, "%s IN A %s\n", host, addr) }

// text of a zone file; the serial number tells reloads apart.
func (z *zone) file(serial int) string {
	return fmt.Sprintf("$ORIGIN example.com.\n$TTL 1\n@ IN SOA ns hostmaster %d 60 10 3600 1\n@ IN NS ns\nns IN A 127.0.0.1\n%s",
		serial, z.text.String())
}

// nameServer is a real DNS server for example.com.
type nameServer struct {
	addr string // host:port
	dir  string
	proc *process
}

// bind9 serves a zone on an address and port of its own. Words in front of the
// command, if any, run it elsewhere (ip netns exec NAME).
func bind9(t *testing.T, z *zone, addr, port string, front ...string) *nameServer {
	t.Helper()
	s := &nameServer{addr: net.JoinHostPort(addr, port), dir: t.TempDir()}
	writeFile(t, filepath.Join(s.dir, "example.com.zone"), z.file(1))
	conf := writeFile(t, filepath.Join(s.dir, "named.conf"), fmt.Sprintf(`
options {
	directory %q; pid-file none; session-keyfile none;
	listen-on port %s { %s; }; listen-on-v6 { none; };
	recursion no; dnssec-validation no; allow-query { any; };
};
controls { };
zone "example.com" { type primary; file "example.com.zone"; };
`, s.dir, port, addr))
	s.proc = launch(t, "named", s.dir, append(front, installed(t, "named"), "-g", "-n", "1", "-c", conf)...)
	s.proc.says(30*time.Second, "all zones loaded", "running")
	return s
}

// knot is bind9 by another maker.
func knot(t *testing.T, z *zone, addr, port string) *nameServer {
	t.Helper()
	s := &nameServer{addr: net.JoinHostPort(addr, port), dir: t.TempDir()}
	writeFile(t, filepath.Join(s.dir, "example.com.zone"), z.file(1))
	conf := writeFile(t, filepath.Join(s.dir, "knot.conf"), fmt.Sprintf(`
server:
    rundir: %[1]q
    listen: %[2]s@%[3]s
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stdout
    any: info
database:
    storage: %[4]q
template:
  - id: default
    storage: %[1]q
    journal-content: none
    zonefile-load: whole
    zonefile-sync: -1
zone:
  - domain: example.com
    file: example.com.zone
`, s.dir, addr, port, filepath.Join(s.dir, "db")))
	s.proc = launch(t, "knotd", s.dir, installed(t, "knotd"), "-c", conf)
	s.proc.says(30*time.Second, "[example.com.] loaded", "server started")
	return s
}

// onLoopback serves a zone on 127.0.0.1: bind9 listens only on addresses that
// an interface has.
func onLoopback(t *testing.T, z *zone) *nameServer {
	t.Helper()
	return bind9(t, z, "127.0.0.1", freePort(t, "127.0.0.1"))
}

// publish replaces the zone of a running bind9.
func (s *nameServer) publish(t *testing.T, z *zone, serial int) {
	t.Helper()
	writeFile(t, filepath.Join(s.dir, "example.com.zone"), z.file(serial))
	_ = s.proc.cmd.Process.Signal(syscall.SIGHUP)
	s.proc.says(30*time.Second, fmt.Sprintf("loaded serial %d", serial))
}
