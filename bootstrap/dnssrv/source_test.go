package dnssrv

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/bootstrap"
	"github.com/conclave-kv/conclave/bootstrap/bootstraptest"
)

func TestSource_conformance(t *testing.T) {
	bootstraptest.Run(t, func(t *testing.T, world bootstraptest.World) bootstrap.Source {
		var records []Record
		for _, p := range world.Peers {
			u, err := url.Parse(p.PeerURLs[0])
			if err != nil {
				t.Fatal(err)
			}
			port, err := strconv.ParseUint(u.Port(), 10, 16)
			if err != nil {
				t.Fatal(err)
			}
			records = append(records, Record{Host: u.Hostname(), Addr: world.Hosts[u.Hostname()], Service: plainService, Port: uint16(port)})
		}
		return &Source{Resolver: asking(t, serve(t, records...).Addr()), Domain: "example.com"}
	})
}

// member is a TLS member's record and address.
func member(host, addr string, port uint16) Record {
	r := Record{Host: host + ".example.com", Service: tlsService, Port: port}
	if addr != "" {
		r.Addr = netip.MustParseAddr(addr)
	}
	return r
}

// threeMembers is a zone as the documentation shows it.
func threeMembers() []Record {
	return []Record{member("infra0", "192.0.2.10", 2380), member("infra1", "192.0.2.11", 2380), member("infra2", "192.0.2.12", 2380)}
}

// hostWith makes Interfaces for a host with the given addresses beside
// loopback.
func hostWith(addrs ...string) func() ([]net.Addr, error) {
	return func() ([]net.Addr, error) {
		list := []net.Addr{&net.IPNet{IP: net.IPv4(127, 0, 0, 1), Mask: net.CIDRMask(8, 32)}, &net.IPNet{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)}}
		for _, a := range addrs {
			list = append(list, &net.IPNet{IP: net.ParseIP(a), Mask: net.CIDRMask(24, 32)})
		}
		return list, nil
	}
}

// find resolves with a zone of the given records and little patience.
func find(t *testing.T, src *Source, self bootstrap.Self, records ...Record) (bootstrap.Plan, error) {
	t.Helper()
	if src.Resolver == nil {
		src.Resolver = asking(t, serve(t, records...).Addr())
	}
	if src.Domain == "" {
		src.Domain = "example.com"
	}
	if src.Interfaces == nil {
		src.Interfaces = hostWith("192.0.2.11")
	}
	for range 5 {
		plan, err := bootstrap.Resolve(t.Context(), src, self, bootstrap.Options{
			Token: "etcd-cluster", Timeout: 2 * time.Second, Log: zerolog.Nop(),
			Backoff: bootstrap.Backoff{Min: time.Millisecond, Max: 20 * time.Millisecond},
		})
		if err == nil || !strings.Contains(err.Error(), "no answer in time") {
			return plan, err
		}
	}
	t.Fatal("the machine is too busy for a name server on it to answer")
	return bootstrap.Plan{}, nil
}

// With nothing but the domain, the record that resolves to an address of this
// host gives name, peer URL and client URL.
func TestSource_zeroConfig(t *testing.T) {
	t.Parallel()
	plan, err := find(t, &Source{Secure: true, ClientSecure: true}, bootstrap.Self{}, threeMembers()...)
	if err != nil {
		t.Fatal(err)
	}
	if plan.Name != "infra1" || plan.PeerURLs[0] != "https://infra1.example.com:2380" ||
		!slices.Equal(plan.ClientURLs, []string{"https://infra1.example.com:2379"}) || !plan.Secure {
		t.Errorf("plan %+v", plan)
	}
	const want = "infra0=https://infra0.example.com:2380,infra1=https://infra1.example.com:2380,infra2=https://infra2.example.com:2380"
	// The cluster id is what etcd 3.7.3 computes for these URLs and this token.
	if plan.String() != want || fmt.Sprintf("%x", plan.ClusterID) != "cb4d8dc4ceba9c6c" {
		t.Errorf("plan %s with cluster id %x", plan, plan.ClusterID)
	}
}

func TestSource_zeroConfigWithoutTLS(t *testing.T) {
	t.Parallel()
	records := threeMembers()
	for i := range records {
		records[i].Service = plainService
	}
	plan, err := find(t, &Source{}, bootstrap.Self{}, records...)
	if err != nil || plan.PeerURLs[0] != "http://infra1.example.com:2380" || plan.ClientURLs[0] != "http://infra1.example.com:2379" || plan.Secure {
		t.Errorf("plan %+v, %v", plan, err)
	}
}

// The client record with the same target gives the client port; others do not.
func TestSource_clientRecord(t *testing.T) {
	t.Parallel()
	records := append(threeMembers(),
		Record{Host: "infra0.example.com", Service: "_etcd-client-ssl._tcp", Port: 4000},
		Record{Host: "infra1.example.com", Service: "_etcd-client-ssl._tcp", Port: 4001},
		Record{Host: "infra1.example.com", Service: "_etcd-client._tcp", Port: 4002})
	plan, err := find(t, &Source{Secure: true, ClientSecure: true}, bootstrap.Self{}, records...)
	if err != nil || !slices.Equal(plan.ClientURLs, []string{"https://infra1.example.com:4001"}) {
		t.Errorf("client URLs %v, %v", plan.ClientURLs, err)
	}
	plan, err = find(t, &Source{Secure: true}, bootstrap.Self{}, records...)
	if err != nil || !slices.Equal(plan.ClientURLs, []string{"http://infra1.example.com:4002"}) {
		t.Errorf("without TLS for clients: %v, %v", plan.ClientURLs, err)
	}
	stated := bootstrap.Self{ClientURLs: []string{"https://10.0.0.1:5000"}}
	plan, err = find(t, &Source{Secure: true, ClientSecure: true}, stated, records...)
	if err != nil || !slices.Equal(plan.ClientURLs, stated.ClientURLs) {
		t.Errorf("stated, yet %v, %v", plan.ClientURLs, err)
	}
}

func TestSource_srvName(t *testing.T) {
	t.Parallel()
	records := []Record{
		{Host: "infra1.example.com", Addr: netip.MustParseAddr("192.0.2.11"), Service: "_etcd-server-ssl-blue._tcp", Port: 2381},
		{Host: "infra1.example.com", Service: "_etcd-client-ssl-blue._tcp", Port: 2378},
		{Host: "infra1.example.com", Service: tlsService, Port: 2380}}
	plan, err := find(t, &Source{Secure: true, ClientSecure: true, Name: "blue"}, bootstrap.Self{}, records...)
	if err != nil || plan.String() != "infra1=https://infra1.example.com:2381" || plan.ClientURLs[0] != "https://infra1.example.com:2378" {
		t.Errorf("plan %s %v, %v", plan, plan.ClientURLs, err)
	}
}

// Both kinds of records published: TLS decides, and nothing is mixed in.
func TestSource_neverMixed(t *testing.T) {
	t.Parallel()
	records := append(threeMembers(), Record{Host: "evil.example.com", Addr: netip.MustParseAddr("203.0.113.66"), Service: plainService, Port: 2380},
		Record{Host: "infra1.example.com", Service: plainService, Port: 2390})
	plan, err := find(t, &Source{Secure: true}, bootstrap.Self{}, records...)
	if err != nil || len(plan.Members) != 3 || strings.Contains(plan.String(), "http://") {
		t.Errorf("with TLS: %s, %v", plan, err)
	}
	plan, err = find(t, &Source{}, bootstrap.Self{}, records...)
	if err != nil || plan.String() != "evil=http://evil.example.com:2380,infra1=http://infra1.example.com:2390" {
		t.Errorf("without TLS: %s, %v", plan, err)
	}
}

func TestSource_plaintextRecordsWithTLS(t *testing.T) {
	t.Parallel()
	_, err := find(t, &Source{Secure: true}, bootstrap.Self{}, Record{Host: "infra1.example.com", Service: plainService, Port: 2380})
	if !errors.Is(err, bootstrap.ErrRefused) {
		t.Errorf("not refused: %v", err)
	}
	contains(t, err, "--discovery-srv example.com has only plaintext records (_etcd-server._tcp.example.com), but TLS is on",
		"_etcd-server-ssl._tcp.example.com", "--cluster-secret-file", "--peer-cert-file")
}

func TestSource_tlsRecordsWithoutTLS(t *testing.T) {
	t.Parallel()
	_, err := find(t, &Source{}, bootstrap.Self{}, threeMembers()...)
	if !errors.Is(err, bootstrap.ErrRefused) {
		t.Errorf("not refused: %v", err)
	}
	contains(t, err, "--discovery-srv example.com has only TLS records (_etcd-server-ssl._tcp.example.com), but TLS is off",
		"give --cluster-secret-file, or --peer-cert-file and --peer-key-file")
}

// A server failure on one kind of record is not "only the other kind".
func TestSource_failureIsNotAbsence(t *testing.T) {
	t.Parallel()
	server := misbehave(t, func(w dns.ResponseWriter, query *dns.Msg) {
		if strings.Contains(query.Question[0].Name, "-ssl") {
			says(t, dns.RcodeServerFailure)(w, query)
			return
		}
		says(t, dns.RcodeSuccess, "_etcd-server._tcp.example.com. 5 IN SRV 0 0 2380 infra1.example.com.")(w, query)
	})
	_, err := find(t, &Source{Secure: true, Resolver: asking(t, server.addr)}, bootstrap.Self{})
	if !errors.Is(err, bootstrap.ErrTimeout) {
		t.Errorf("error %v", err)
	}
	contains(t, err, "--discovery-timeout", "--discovery-srv example.com", "_etcd-server-ssl._tcp.example.com", "SERVFAIL")
}

func TestSource_noRecord(t *testing.T) {
	t.Parallel()
	_, err := find(t, &Source{Secure: true}, bootstrap.Self{}, Record{Host: "infra1.example.com", Addr: netip.MustParseAddr("192.0.2.11")})
	if !errors.Is(err, bootstrap.ErrTimeout) {
		t.Errorf("error %v", err)
	}
	contains(t, err, "--discovery-timeout 2s", "no SRV record _etcd-server-ssl._tcp.example.com", "NXDOMAIN",
		"publish one for each member, or correct --discovery-srv")
}

func TestSource_selfMissing(t *testing.T) {
	t.Parallel()
	_, err := find(t, &Source{Secure: true}, bootstrap.Self{PeerURLs: []string{"https://192.0.2.99:2380"}}, threeMembers()...)
	if !errors.Is(err, bootstrap.ErrTimeout) {
		t.Errorf("error %v", err)
	}
	contains(t, err, "no record of _etcd-server-ssl._tcp.example.com is this member (--initial-advertise-peer-urls https://192.0.2.99:2380)",
		"infra0.example.com:2380 (192.0.2.10), infra1.example.com:2380 (192.0.2.11), infra2.example.com:2380 (192.0.2.12)")

	_, err = find(t, &Source{Secure: true, Interfaces: hostWith("198.51.100.1")}, bootstrap.Self{}, threeMembers()...)
	if !errors.Is(err, bootstrap.ErrTimeout) {
		t.Errorf("error %v", err)
	}
	contains(t, err, "no record of _etcd-server-ssl._tcp.example.com resolves to an address of this host (198.51.100.1; loopback does not count)",
		"infra0.example.com:2380 (192.0.2.10)", "give --initial-advertise-peer-urls")
}

func TestSource_selfTwice(t *testing.T) {
	t.Parallel()
	records := append(threeMembers(), member("alias1", "192.0.2.11", 2380))
	_, err := find(t, &Source{Secure: true}, bootstrap.Self{PeerURLs: []string{"https://192.0.2.11:2380"}}, records...)
	if !errors.Is(err, bootstrap.ErrRefused) {
		t.Errorf("not refused: %v", err)
	}
	contains(t, err, "--initial-advertise-peer-urls https://192.0.2.11:2380 matches 2 records of _etcd-server-ssl._tcp.example.com",
		"alias1.example.com:2380 (192.0.2.11), infra1.example.com:2380 (192.0.2.11)")

	_, err = find(t, &Source{Secure: true}, bootstrap.Self{}, records...)
	if !errors.Is(err, bootstrap.ErrRefused) {
		t.Errorf("not refused: %v", err)
	}
	contains(t, err, "2 records of _etcd-server-ssl._tcp.example.com resolve to addresses of this host",
		"alias1.example.com:2380", "infra1.example.com:2380", "give --name and --initial-advertise-peer-urls")

	// By host and port as written there is no doubt.
	plan, err := find(t, &Source{Secure: true}, bootstrap.Self{PeerURLs: []string{"https://Alias1.example.com:2380"}}, records...)
	if err != nil || plan.Name != "alias1" {
		t.Errorf("plan %s, %v", plan.Name, err)
	}
	// Two stated URLs with a record each make two members, not one.
	_, err = find(t, &Source{Secure: true}, bootstrap.Self{PeerURLs: []string{"https://infra0.example.com:2380", "https://infra1.example.com:2380"}}, records...)
	contains(t, err, "matches 2 records")
}

func TestSource_twoRecordsForOnePlace(t *testing.T) {
	t.Parallel()
	server := misbehave(t, says(t, dns.RcodeSuccess,
		"_etcd-server-ssl._tcp.example.com. 5 IN SRV 0 0 2380 infra1.example.com.", "_etcd-server-ssl._tcp.example.com. 5 IN SRV 1 0 2380 INFRA1.example.com."))
	_, err := find(t, &Source{Secure: true, Resolver: asking(t, server.addr)}, bootstrap.Self{})
	if !errors.Is(err, bootstrap.ErrRefused) {
		t.Errorf("not refused: %v", err)
	}
	contains(t, err, "_etcd-server-ssl._tcp.example.com has two records for infra1.example.com:2380", "remove the other")
}

// A target that does not resolve is named and waited for, then refused; it is
// never left out.
func TestSource_unresolvableTarget(t *testing.T) {
	t.Parallel()
	records := threeMembers()
	records[2].Addr = netip.Addr{}
	_, err := find(t, &Source{Secure: true}, bootstrap.Self{}, records...)
	if !errors.Is(err, bootstrap.ErrTimeout) {
		t.Errorf("error %v", err)
	}
	contains(t, err, "--discovery-timeout", "infra2.example.com, listed in _etcd-server-ssl._tcp.example.com, does not resolve", "NXDOMAIN",
		"publish its address or remove the record")
	if strings.Contains(err.Error(), "infra0") {
		t.Errorf("error names what is not missing: %v", err)
	}
}

// What appears while it is waited for completes the plan.
func TestSource_recordsAppear(t *testing.T) {
	t.Parallel()
	server := serve(t)
	steps := [][]Record{
		{member("infra1", "192.0.2.11", 2380), member("infra2", "", 2380)},
		{member("infra1", "192.0.2.11", 2380), member("infra2", "192.0.2.12", 2380)},
	}
	asked := 0
	src := &Source{Resolver: asking(t, server.Addr()), Domain: "example.com", Secure: true, Interfaces: hostWith("192.0.2.11")}
	plan, err := bootstrap.Resolve(t.Context(), lookups(func() {
		if asked > 0 && asked <= len(steps) {
			if err := server.SetRecords(steps[asked-1]); err != nil {
				t.Error(err)
			}
		}
		asked++
	}, src), bootstrap.Self{}, bootstrap.Options{Log: zerolog.Nop(), Backoff: bootstrap.Backoff{Min: 1, Max: 1}})
	if err != nil || len(plan.Members) != 2 || asked != 3 {
		t.Errorf("plan %s after %d lookups, %v", plan, asked, err)
	}
}

func TestSource_unusableRecords(t *testing.T) {
	t.Parallel()
	for srv, want := range map[string]string{
		"0 0 0 .":                        `target is "." (service not available)`,
		"0 0 0 infra1.example.com.":      "port 0; publish the peer port, usually 2380",
		`0 0 2380 in\,fra.example.com.`:  "is not a host name",
		`0 0 2380 in\010fra.example.com`: "is not a host name",
	} {
		server := misbehave(t, says(t, dns.RcodeSuccess, "_etcd-server-ssl._tcp.example.com. 5 IN SRV "+srv))
		_, err := find(t, &Source{Secure: true, Resolver: asking(t, server.addr)}, bootstrap.Self{})
		if !errors.Is(err, bootstrap.ErrRefused) {
			t.Errorf("%s: not refused: %v", srv, err)
		}
		contains(t, err, want, "_etcd-server-ssl._tcp.example.com")
	}
}

func TestSource_tooManyRecords(t *testing.T) {
	t.Parallel()
	var records []Record
	for i := range bootstrap.MaxPeers + 1 {
		records = append(records, member(fmt.Sprintf("m%d", i), "192.0.2.1", 2380))
	}
	_, err := find(t, &Source{Secure: true}, bootstrap.Self{}, records...)
	if !errors.Is(err, bootstrap.ErrRefused) {
		t.Errorf("not refused: %v", err)
	}
	contains(t, err, "_etcd-server-ssl._tcp.example.com has 65 records; at most 64")
}

// Loopback identifies nobody by itself, but is fine where the URL is stated.
func TestSource_loopback(t *testing.T) {
	t.Parallel()
	records := []Record{member("m1", "127.0.0.1", 12380), member("m2", "127.0.0.1", 22380)}
	_, err := find(t, &Source{Secure: true}, bootstrap.Self{Name: "m2"}, records...)
	if !errors.Is(err, bootstrap.ErrTimeout) {
		t.Errorf("error %v", err)
	}
	contains(t, err, "loopback does not count")
	for _, stated := range []string{"https://m2.example.com:22380", "https://127.0.0.1:22380", "https://localhost:22380"} {
		plan, err := find(t, &Source{Secure: true}, bootstrap.Self{Name: "second", PeerURLs: []string{stated}}, records...)
		if err != nil || plan.String() != "m1=https://m1.example.com:12380,second=https://m2.example.com:22380" {
			t.Errorf("%s: plan %s, %v", stated, plan, err)
		}
	}
}

// Debian writes the host's own name with 127.0.1.1 into its hosts file; DNS
// says under which address others know it.
func TestSource_ownNameInHostsFile(t *testing.T) {
	t.Parallel()
	server := serve(t, threeMembers()...)
	r := configured(t, "127.0.0.1 localhost\n127.0.1.1 infra1.example.com infra1\n", impatient, server.Addr())
	plan, err := find(t, &Source{Secure: true, Resolver: r}, bootstrap.Self{})
	if err != nil || plan.Name != "infra1" {
		t.Errorf("plan %s, %v", plan.Name, err)
	}
	plan, err = find(t, &Source{Secure: true, Resolver: r}, bootstrap.Self{PeerURLs: []string{"https://192.0.2.11:2380"}})
	if err != nil || plan.Name != "infra1" {
		t.Errorf("by address: plan %s, %v", plan.Name, err)
	}
}

func TestSource_names(t *testing.T) {
	t.Parallel()
	records := []Record{
		{Host: "a.east.example.com", Addr: netip.MustParseAddr("192.0.2.1"), Service: tlsService, Port: 1},
		{Host: "a.west.example.com", Addr: netip.MustParseAddr("192.0.2.2"), Service: tlsService, Port: 1},
		{Host: "b.example.com", Addr: netip.MustParseAddr("192.0.2.3"), Service: tlsService, Port: 2},
		{Host: "b.example.com", Service: tlsService, Port: 3},
		{Host: "c.example.com", Addr: netip.MustParseAddr("192.0.2.11"), Service: tlsService, Port: 4},
		{Host: "192.0.2.200", Service: tlsService, Port: 5},
	}
	const want = "192.0.2.200=https://192.0.2.200:5,a.east.example.com-1=https://a.east.example.com:1,a.west.example.com-1=https://a.west.example.com:1," +
		"b-2=https://b.example.com:2,b-3=https://b.example.com:3,c=https://c.example.com:4"
	plan, err := find(t, &Source{Secure: true}, bootstrap.Self{}, records...)
	if err != nil || plan.String() != want {
		t.Errorf("plan %s, %v; want %s", plan, err, want)
	}
	// A stated name may be another's label; the other gives way.
	named, err := find(t, &Source{Secure: true}, bootstrap.Self{Name: "b-2"}, records...)
	if err != nil || named.Name != "b-2" || named.ClusterID != plan.ClusterID {
		t.Errorf("plan %s, %v", named, err)
	}
	if !strings.Contains(named.String(), "b.example.com-2=https://b.example.com:2") {
		t.Errorf("plan %s", named)
	}
}

// The letter case in which the domain was typed must not reach the ids.
func TestSource_letterCase(t *testing.T) {
	t.Parallel()
	echo := misbehave(t, func(w dns.ResponseWriter, query *dns.Msg) {
		name := query.Question[0].Name
		_, domain, _ := strings.Cut(name, "._tcp.")
		switch query.Question[0].Qtype {
		case dns.TypeSRV:
			says(t, dns.RcodeSuccess, fmt.Sprintf("%s 5 IN SRV 0 0 2380 infra1.%s", name, domain))(w, query)
		case dns.TypeA:
			says(t, dns.RcodeSuccess, name+" 5 IN A 192.0.2.11")(w, query)
		default:
			says(t, dns.RcodeSuccess)(w, query)
		}
	})
	var plans []string
	for _, domain := range []string{"example.com", "Example.COM", "example.com."} {
		plan, err := find(t, &Source{Secure: true, Resolver: asking(t, echo.addr), Domain: domain}, bootstrap.Self{})
		if err != nil {
			t.Fatal(err)
		}
		plans = append(plans, plan.Canonical())
	}
	if plans[0] != plans[1] || plans[1] != plans[2] {
		t.Errorf("plans differ: %v", plans)
	}
}

func TestSource_urlWithoutRecord(t *testing.T) {
	t.Parallel()
	stated := bootstrap.Self{PeerURLs: []string{"https://infra1.example.com:2380", "https://infra1.example.com:7001"}}
	_, err := find(t, &Source{Secure: true}, stated, threeMembers()...)
	contains(t, err, "--initial-advertise-peer-urls has https://infra1.example.com:7001, which no record of _etcd-server-ssl._tcp.example.com lists")
}

func TestSource_schemeMismatch(t *testing.T) {
	t.Parallel()
	_, err := find(t, &Source{Secure: true}, bootstrap.Self{PeerURLs: []string{"http://infra1.example.com:2380"}}, threeMembers()...)
	if !errors.Is(err, bootstrap.ErrRefused) {
		t.Errorf("not refused: %v", err)
	}
	contains(t, err, "bootstrap at https://infra1.example.com:2380 from DNS for etcd-server-ssl has scheme mismatch with expected peer http://infra1.example.com:2380",
		"--initial-advertise-peer-urls")
}

func TestSource_ownHostUnresolvable(t *testing.T) {
	t.Parallel()
	_, err := find(t, &Source{Secure: true}, bootstrap.Self{PeerURLs: []string{"https://typo.example.com:2380"}}, threeMembers()...)
	contains(t, err, "the host of --initial-advertise-peer-urls https://typo.example.com:2380 does not resolve", "NXDOMAIN")
}

func TestSource_badDomain(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 64)
	for _, tt := range []struct{ domain, name, flag string }{
		{".", "", "--discovery-srv"}, {"exam ple.com", "", "--discovery-srv"}, {"http://example.com", "", "--discovery-srv"},
		{long + ".com", "", "--discovery-srv"}, {"example.com", "a.b", "--discovery-srv-name"}, {"example.com", "a b", "--discovery-srv-name"},
		{"example.com", long, "--discovery-srv-name"},
	} {
		_, err := find(t, &Source{Domain: tt.domain, Name: tt.name}, bootstrap.Self{}, threeMembers()...)
		if !errors.Is(err, bootstrap.ErrRefused) {
			t.Errorf("%+v: not refused: %v", tt, err)
		}
		contains(t, err, tt.flag+" ")
	}
}
