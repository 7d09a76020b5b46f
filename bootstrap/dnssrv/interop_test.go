//go:build interop

package dnssrv

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/conclave-kv/conclave/bootstrap"
	"github.com/conclave-kv/conclave/bootstrap/bootstraptest"
)

// program finds a real peer of these tests. With -tags interop a missing one
// is a failure: whoever asks for interoperability wants it tested.
func program(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin") {
		if path := filepath.Join(dir, name); exec.Command(path, "-V").Run() == nil || exec.Command(path, "-v").Run() == nil {
			return path
		}
	}
	t.Fatalf("%s is not installed (Debian: bind9, bind9-dnsutils, knot)", name)
	return ""
}

// zoneHead begins a zone file for example.com.
const zoneHead = `$ORIGIN example.com.
$TTL 5
@ IN SOA ns hostmaster 1 60 10 3600 1
@ IN NS ns
ns IN A 127.0.0.1
`

// realServer runs a real name server for example.com on loopback: its
// configuration file is conf with the port filled in, its zone zoneHead and
// the given lines. It returns host:port.
type realServer func(t *testing.T, zone string) string

var realServers = map[string]realServer{"bind9": bind9, "knot": knot}

func bind9(t *testing.T, zone string) string {
	return run(t, zone, func(dir string, port int) *exec.Cmd {
		write(t, filepath.Join(dir, "named.conf"), fmt.Sprintf(`
options {
	directory %q; pid-file none; session-keyfile none;
	listen-on port %d { 127.0.0.1; }; listen-on-v6 { none; };
	recursion no; dnssec-validation no; allow-query { any; };
};
controls { };
zone "example.com" { type primary; file "example.com.zone"; };
`, dir, port))
		return exec.Command(program(t, "named"), "-f", "-n", "1", "-c", filepath.Join(dir, "named.conf"))
	})
}

func knot(t *testing.T, zone string) string {
	return run(t, zone, func(dir string, port int) *exec.Cmd {
		write(t, filepath.Join(dir, "knot.conf"), fmt.Sprintf(`
server:
    rundir: %q
    listen: 127.0.0.1@%d
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: %q
template:
  - id: default
    storage: %q
    journal-content: none
    zonefile-load: whole
    zonefile-sync: -1
zone:
  - domain: example.com
    file: example.com.zone
`, dir, port, filepath.Join(dir, "db"), dir))
		return exec.Command(program(t, "knotd"), "-c", filepath.Join(dir, "knot.conf"))
	})
}

// run writes the zone, starts the server as the current user, waits until it
// serves, and stops it at the test's end.
func run(t *testing.T, zone string, command func(dir string, port int) *exec.Cmd) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "example.com.zone"), zoneHead+zone)
	addr := deadServer(t)
	_, port, _ := net.SplitHostPort(addr)
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	cmd := command(dir, number)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case <-exited:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-exited
		}
	})
	client := &dns.Client{Timeout: 500 * time.Millisecond}
	question := new(dns.Msg).SetQuestion("example.com.", dns.TypeSOA)
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if reply, _, err := client.Exchange(question, addr); err == nil && reply.Rcode == dns.RcodeSuccess && len(reply.Answer) == 1 {
			return addr
		}
		select {
		case err := <-exited:
			exited <- err
			t.Fatalf("%s ended: %v\n%s", cmd.Path, err, &output)
		case <-time.After(20 * time.Millisecond): // it says nowhere when it is ready
		}
	}
	t.Fatalf("%s does not serve its zone", cmd.Path)
	return ""
}

func eachServer(t *testing.T, test func(t *testing.T, start realServer)) {
	for name, start := range realServers {
		t.Run(name, func(t *testing.T) { test(t, start) })
	}
}

func TestInterop_conformance(t *testing.T) {
	eachServer(t, func(t *testing.T, start realServer) {
		bootstraptest.Run(t, func(t *testing.T, world bootstraptest.World) bootstrap.Source {
			var zone strings.Builder
			for _, p := range world.Peers {
				u, err := url.Parse(p.PeerURLs[0])
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&zone, "_etcd-server._tcp IN SRV 0 0 %s %s.\n", u.Port(), u.Hostname())
				kind := "A"
				if world.Hosts[u.Hostname()].Is6() {
					kind = "AAAA"
				}
				fmt.Fprintf(&zone, "%s. IN %s %s\n", u.Hostname(), kind, world.Hosts[u.Hostname()])
			}
			return &Source{Resolver: asking(t, start(t, zone.String())), Domain: "example.com"}
		})
	})
}

// The zone of the documentation, and everything a zone of one's own may hold.
const fullZone = `
_etcd-server-ssl._tcp 5 IN SRV 0 0 2380 infra0
_etcd-server-ssl._tcp 5 IN SRV 0 0 2380 infra1
_etcd-server-ssl._tcp 5 IN SRV 0 0 2380 Infra2
_etcd-client-ssl._tcp 5 IN SRV 0 0 4001 infra1
_etcd-server-ssl-gone._tcp 5 IN SRV 0 0 2380 infra0
_etcd-server-ssl-gone._tcp 5 IN SRV 0 0 2380 nowhere
_etcd-server-plain._tcp 5 IN SRV 0 0 2380 infra1
_etcd-server-ssl-alias._tcp IN CNAME _etcd-server-ssl._tcp
infra0 IN A 192.0.2.10
infra1 IN A 192.0.2.11
infra1 IN AAAA 2001:db8::11
infra2 IN CNAME real
real IN CNAME host
host IN A 192.0.2.12
`

func TestInterop_fullZone(t *testing.T) {
	eachServer(t, func(t *testing.T, start realServer) {
		var zone strings.Builder
		zone.WriteString(fullZone)
		for i := range 60 { // an answer that needs TCP
			fmt.Fprintf(&zone, "_large._tcp IN SRV 0 0 %d a-rather-long-host-name-%02d\n", i+1, i)
		}
		r := asking(t, start(t, zone.String()))
		t.Run("zeroConfig", func(t *testing.T) {
			plan, err := find(t, &Source{Resolver: r, Secure: true, ClientSecure: true, Domain: "Example.com."}, bootstrap.Self{})
			const want = "infra0=https://infra0.example.com:2380,infra1=https://infra1.example.com:2380,infra2=https://infra2.example.com:2380"
			if err != nil || plan.String() != want || plan.Name != "infra1" || fmt.Sprintf("%x", plan.ClusterID) != "cb4d8dc4ceba9c6c" ||
				!slices.Equal(plan.ClientURLs, []string{"https://infra1.example.com:4001"}) {
				t.Errorf("plan %+v, %v", plan, err)
			}
		})
		t.Run("truncated", func(t *testing.T) {
			if got, err := r.LookupSRV(t.Context(), "large", "example.com"); err != nil || len(got) != 60 {
				t.Errorf("%d records, %v", len(got), err)
			}
		})
		t.Run("aliases", func(t *testing.T) {
			if got, err := r.LookupHost(t.Context(), "infra2.example.com"); err != nil || !slices.Equal(got, addrs("192.0.2.12")) {
				t.Errorf("got %v, %v", got, err)
			}
			if got, err := r.LookupSRV(t.Context(), "etcd-server-ssl-alias", "example.com"); err != nil || len(got) != 3 {
				t.Errorf("got %v, %v", got, err)
			}
			if got, err := r.LookupHost(t.Context(), "infra1.example.com"); err != nil || !slices.Equal(got, addrs("192.0.2.11", "2001:db8::11")) {
				t.Errorf("got %v, %v", got, err)
			}
		})
		t.Run("refusals", func(t *testing.T) {
			_, err := find(t, &Source{Resolver: r, Secure: true, Name: "gone"}, bootstrap.Self{PeerURLs: []string{"https://infra0.example.com:2380"}})
			contains(t, err, "nowhere.example.com, listed in _etcd-server-ssl-gone._tcp.example.com, does not resolve (no such name (NXDOMAIN)")
			_, err = find(t, &Source{Resolver: r, Secure: true, Name: "plain"}, bootstrap.Self{})
			contains(t, err, "has only plaintext records (_etcd-server-plain._tcp.example.com)")
			_, err = find(t, &Source{Resolver: r}, bootstrap.Self{})
			contains(t, err, "has only TLS records (_etcd-server-ssl._tcp.example.com)")
			_, err = find(t, &Source{Resolver: r, Secure: true, Name: "none"}, bootstrap.Self{})
			contains(t, err, "no SRV record _etcd-server-ssl-none._tcp.example.com")
			_, err = r.LookupHost(t.Context(), "www.example.net") // not this server's zone
			if !errors.Is(err, ErrUnavailable) {
				t.Errorf("error %v", err)
			}
			contains(t, err, "answered REFUSED")
		})
	})
}

// dig asks our server and must have nothing to complain about.
func TestInterop_dig(t *testing.T) {
	var records []Record
	for i := range 60 {
		records = append(records, Record{Host: fmt.Sprintf("infra%02d.example.com", i), Addr: netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i+1)), Service: tlsService, Port: 2380})
	}
	records = append(records, Record{Host: "solo.example.com", Addr: netip.MustParseAddr("2001:db8::1"), Service: "_etcd-client-ssl._tcp", Port: 2379})
	host, port, err := net.SplitHostPort(serve(t, records...).Addr())
	if err != nil {
		t.Fatal(err)
	}
	dig := program(t, "dig")
	tests := []struct {
		args string
		want []string
	}{
		{"SRV _etcd-client-ssl._tcp.example.com", []string{"status: NOERROR", "flags: qr aa;", "0 0 2379 solo.example.com.", "AAAA\t2001:db8::1"}},
		{"+notcp SRV _etcd-server-ssl._tcp.example.com", []string{"Truncated, retrying in TCP mode", "ANSWER: 60,", "ADDITIONAL: 61"}},
		{"+tcp SRV _etcd-server-ssl._tcp.example.com", []string{"ANSWER: 60,"}},
		{"+noedns +ignore SRV _etcd-server-ssl._tcp.example.com", []string{"flags: qr aa tc;"}},
		{"A nobody.example.com", []string{"status: NXDOMAIN", "AUTHORITY: 1", "SOA\tns.example.com. hostmaster.example.com."}},
		{"A _tcp.example.com", []string{"status: NOERROR", "ANSWER: 0, AUTHORITY: 1"}},
		{"A www.example.net", []string{"status: REFUSED"}},
		{"ANY example.com", []string{"status: NOERROR", `"RFC8482" ""`}},
		{"AXFR example.com", []string{"Transfer failed"}},
		{"NS example.com", []string{"ns.example.com.\t\t5\tIN\tA\t127.0.0.1"}},
		{"+edns=1 +noednsnegotiation SOA example.com", []string{"status: BADVERS"}},
		{"CH TXT version.bind", []string{"status: REFUSED"}},
		{"+cookie +dnssec SOA example.com", []string{"status: NOERROR", "ANSWER: 1,"}},
	}
	for _, tt := range tests {
		args := append([]string{"@" + host, "-p", port, "+tries=1", "+time=5", "+norecurse"}, strings.Fields(tt.args)...)
		out, err := exec.Command(dig, args...).CombinedOutput()
		text := string(out)
		if err != nil && !strings.Contains(tt.args, "AXFR") {
			t.Errorf("dig %s: %v", tt.args, err)
		}
		for _, want := range tt.want {
			if !strings.Contains(text, want) {
				t.Errorf("dig %s: no %q in\n%s", tt.args, want, text)
			}
		}
		for _, complaint := range []string{"WARNING", "malformed", "mismatch", "Got bad packet", "extra bytes"} {
			if strings.Contains(text, complaint) {
				t.Errorf("dig %s complains:\n%s", tt.args, text)
			}
		}
	}
}
