package dnssrv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const impatient = "options timeout:1 attempts:1\n"

func TestResolver_srv(t *testing.T) {
	t.Parallel()
	server := serve(t,
		Record{Host: "Infra1.Example.com.", Service: tlsService, Port: 2381},
		Record{Host: "infra0.example.com", Service: tlsService, Port: 2380})
	got, err := asking(t, server.Addr()).LookupSRV(t.Context(), "etcd-server-ssl", "EXAMPLE.com.")
	if err != nil {
		t.Fatal(err)
	}
	want := []SRV{{Target: "infra0.example.com", Port: 2380}, {Target: "infra1.example.com", Port: 2381}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestResolver_srvOrder(t *testing.T) {
	t.Parallel()
	server := misbehave(t, says(t, dns.RcodeSuccess,
		"_x._tcp.example.com. 5 IN SRV 20 0 1 a.example.com.",
		"_x._tcp.example.com. 5 IN SRV 10 1 3 c.example.com.",
		"_x._tcp.example.com. 5 IN SRV 10 9 2 b.example.com.",
		"_x._tcp.example.com. 5 IN SRV 10 1 2 c.example.com."))
	got, err := asking(t, server.addr).LookupSRV(t.Context(), "x", "example.com")
	if err != nil {
		t.Fatal(err)
	}
	want := []SRV{{"b.example.com", 2, 10, 9}, {"c.example.com", 2, 10, 1}, {"c.example.com", 3, 10, 1}, {"a.example.com", 1, 20, 0}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// An answer too large for UDP is fetched over TCP, whole.
func TestResolver_truncated(t *testing.T) {
	t.Parallel()
	var records []Record
	for i := range 60 {
		host := fmt.Sprintf("a-rather-long-host-name-%02d.example.com", i)
		records = append(records, Record{Host: host, Addr: netip.MustParseAddr("192.0.2.1"), Service: tlsService, Port: 2380})
	}
	server := serve(t, records...)
	got, err := asking(t, server.Addr()).LookupSRV(t.Context(), "etcd-server-ssl", "example.com")
	if err != nil || len(got) != len(records) {
		t.Errorf("%d records of %d, %v", len(got), len(records), err)
	}
}

// A server that cuts off its answer and is deaf on TCP is passed over.
func TestResolver_truncatedAndNoTCP(t *testing.T) {
	t.Parallel()
	var addr string
	cut := misbehave(t, func(w dns.ResponseWriter, query *dns.Msg) {
		if _, tcp := w.RemoteAddr().(*net.TCPAddr); tcp {
			_ = w.Close()
			return
		}
		reply := new(dns.Msg).SetReply(query)
		reply.Truncated = true
		_ = w.WriteMsg(reply)
	})
	addr = cut.addr
	good := serve(t, Record{Host: "infra0.example.com", Addr: netip.MustParseAddr("192.0.2.1")})
	got, err := configured(t, "", impatient, addr, good.Addr()).LookupHost(t.Context(), "infra0.example.com")
	if err != nil || !slices.Equal(got, addrs("192.0.2.1")) {
		t.Errorf("got %v, %v", got, err)
	}
	if cut.tcp.Load() == 0 {
		t.Error("TCP was not tried")
	}
	_, err = asking(t, addr).LookupHost(t.Context(), "infra0.example.com")
	contains(t, err, "DNS server "+addr, "over TCP", "closed the connection")
}

// What does not answer the question is not taken for the answer, and what
// comes after it still is.
func TestResolver_garbage(t *testing.T) {
	t.Parallel()
	good := parseRecords(t, "infra0.example.com. 5 IN A 192.0.2.1")
	evil := parseRecords(t, "infra0.example.com. 5 IN A 203.0.113.66")
	forge := func(query *dns.Msg, change func(*dns.Msg)) *dns.Msg {
		reply := new(dns.Msg).SetReply(query)
		reply.Answer = evil
		change(reply)
		return reply
	}
	server := misbehave(t, func(w dns.ResponseWriter, query *dns.Msg) {
		_, _ = w.Write([]byte("not DNS"))
		_, _ = w.Write([]byte(strings.Repeat("not DNS at all ", 9)))
		_ = w.WriteMsg(forge(query, func(m *dns.Msg) { m.Id++ }))
		_ = w.WriteMsg(forge(query, func(m *dns.Msg) { m.Question[0].Name = "other.example.com." }))
		_ = w.WriteMsg(forge(query, func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeMX }))
		_ = w.WriteMsg(forge(query, func(m *dns.Msg) { m.Question = nil }))
		_ = w.WriteMsg(forge(query, func(m *dns.Msg) { m.Response = false }))
		reply := new(dns.Msg).SetReply(query)
		if query.Question[0].Qtype == dns.TypeA {
			reply.Answer = good
		}
		_ = w.WriteMsg(reply)
	})
	got, err := asking(t, server.addr).LookupHost(t.Context(), "infra0.example.com")
	if err != nil || !slices.Equal(got, addrs("192.0.2.1")) {
		t.Errorf("got %v, %v", got, err)
	}
}

// A server that sends nothing but garbage is given up and the next asked.
func TestResolver_garbageOnly(t *testing.T) {
	t.Parallel()
	flood := misbehave(t, func(w dns.ResponseWriter, query *dns.Msg) {
		reply := new(dns.Msg).SetReply(query)
		reply.Id++
		for range maxGarbage + 8 {
			_ = w.WriteMsg(reply)
		}
	})
	good := serve(t, Record{Host: "infra0.example.com", Addr: netip.MustParseAddr("192.0.2.1")})
	got, err := configured(t, "", impatient, flood.addr, good.Addr()).LookupHost(t.Context(), "infra0.example.com")
	if err != nil || !slices.Equal(got, addrs("192.0.2.1")) {
		t.Errorf("got %v, %v", got, err)
	}
	_, err = configured(t, "", impatient, flood.addr).LookupHost(t.Context(), "infra0.example.com")
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("error %v", err)
	}
}

// Records of names that were not asked for are no answer.
func TestResolver_foreignRecords(t *testing.T) {
	t.Parallel()
	server := misbehave(t, says(t, dns.RcodeSuccess,
		"other.example.com. 5 IN A 203.0.113.66", "alias.example.com. 5 IN CNAME other.example.com."))
	got, err := asking(t, server.addr).LookupHost(t.Context(), "infra0.example.com")
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, %v", got, err)
	}
}

// All listed servers are tried: one that is not there, one that fails, one
// that refuses, one that points elsewhere, one that is silent.
func TestResolver_allServers(t *testing.T) {
	t.Parallel()
	lame := misbehave(t, func(w dns.ResponseWriter, query *dns.Msg) {
		reply := new(dns.Msg).SetReply(query)
		reply.Ns = parseRecords(t, "com. 5 IN NS a.gtld-servers.net.")
		_ = w.WriteMsg(reply)
	})
	good := serve(t, Record{Host: "infra0.example.com", Addr: netip.MustParseAddr("192.0.2.1")})
	for name, bad := range map[string]string{
		"absent":   deadServer(t),
		"SERVFAIL": misbehave(t, says(t, dns.RcodeServerFailure)).addr,
		"REFUSED":  misbehave(t, says(t, dns.RcodeRefused)).addr,
		"lame":     lame.addr,
		"silent":   misbehave(t, silent).addr,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := configured(t, "", impatient, bad, good.Addr()).LookupHost(t.Context(), "infra0.example.com")
			if err != nil || !slices.Equal(got, addrs("192.0.2.1")) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

// "There is none" and "cannot tell" are different answers.
func TestResolver_notFoundIsNotFailure(t *testing.T) {
	t.Parallel()
	server := serve(t, Record{Host: "infra0.example.com", Service: tlsService, Port: 1})
	_, err := asking(t, server.Addr()).LookupHost(t.Context(), "nobody.example.com")
	if !errors.Is(err, ErrNotFound) || errors.Is(err, ErrUnavailable) {
		t.Errorf("NXDOMAIN gives %v", err)
	}
	contains(t, err, "nobody.example.com", "NXDOMAIN", server.Addr())

	_, err = asking(t, server.Addr()).LookupHost(t.Context(), "_tcp.example.com")
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("a name without addresses gives %v", err)
	}
	contains(t, err, "no ", " record")

	fails := misbehave(t, says(t, dns.RcodeServerFailure))
	_, err = asking(t, fails.addr).LookupHost(t.Context(), "infra0.example.com")
	if errors.Is(err, ErrNotFound) || !errors.Is(err, ErrUnavailable) {
		t.Errorf("SERVFAIL gives %v", err)
	}
	contains(t, err, "answered SERVFAIL", fails.addr)
}

// The system's patience: attempts rounds over the servers.
func TestResolver_attempts(t *testing.T) {
	t.Parallel()
	fails := misbehave(t, says(t, dns.RcodeServerFailure))
	r := configured(t, "", "options attempts:3\n", fails.addr)
	if _, err := r.LookupSRV(t.Context(), "x", "example.com"); err == nil {
		t.Fatal("no error")
	}
	if n := fails.queries.Load(); n != 3 {
		t.Errorf("asked %d times, want 3", n)
	}
}

// A lookup ends when its context does, silent servers or not.
func TestResolver_contextEnds(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 8)
	quiet := misbehave(t, func(dns.ResponseWriter, *dns.Msg) { arrived <- struct{}{} })
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	start := time.Now()
	_, err := configured(t, "", "options timeout:30\n", quiet.addr).LookupSRV(ctx, "x", "example.com")
	if !errors.Is(err, context.Canceled) || time.Since(start) > 10*time.Second {
		t.Errorf("error %v after %s", err, time.Since(start))
	}
}

// Servers from before EDNS0 are asked without it.
func TestResolver_noEDNS(t *testing.T) {
	t.Parallel()
	server := misbehave(t, func(w dns.ResponseWriter, query *dns.Msg) {
		if query.IsEdns0() != nil {
			_ = w.WriteMsg(new(dns.Msg).SetRcode(query, dns.RcodeFormatError))
			return
		}
		says(t, dns.RcodeSuccess, "infra0.example.com. 5 IN A 192.0.2.1")(w, query)
	})
	got, err := asking(t, server.addr).LookupHost(t.Context(), "infra0.example.com")
	if err != nil || !slices.Equal(got, addrs("192.0.2.1")) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestResolver_aliases(t *testing.T) {
	t.Parallel()
	whole := says(t, dns.RcodeSuccess, "b.example.com. 5 IN CNAME c.example.com.",
		"a.example.com. 5 IN CNAME B.example.com.", "C.example.com. 5 IN A 192.0.2.1")
	piecemeal := func(w dns.ResponseWriter, query *dns.Msg) {
		line := map[string]string{
			"a.example.com.": "a.example.com. 5 IN CNAME b.example.com.",
			"b.example.com.": "b.example.com. 5 IN CNAME c.example.com.",
			"c.example.com.": "c.example.com. 5 IN A 192.0.2.1",
		}[query.Question[0].Name]
		says(t, dns.RcodeSuccess, line)(w, query)
	}
	for name, handler := range map[string]func(dns.ResponseWriter, *dns.Msg){"inOneAnswer": whole, "oneByOne": piecemeal} {
		got, err := asking(t, misbehave(t, handler).addr).LookupHost(t.Context(), "a.example.com")
		if err != nil || !slices.Equal(got, addrs("192.0.2.1")) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	srv := misbehave(t, says(t, dns.RcodeSuccess,
		"_x._tcp.example.com. 5 IN CNAME _x._tcp.example.net.", "_x._tcp.example.net. 5 IN SRV 0 0 1 a.example.net."))
	if got, err := asking(t, srv.addr).LookupSRV(t.Context(), "x", "example.com"); err != nil || len(got) != 1 {
		t.Errorf("SRV behind an alias: %v, %v", got, err)
	}
}

func TestResolver_aliasLoop(t *testing.T) {
	t.Parallel()
	inOne := misbehave(t, says(t, dns.RcodeSuccess, "a.example.com. 5 IN CNAME b.example.com.", "b.example.com. 5 IN CNAME a.example.com."))
	_, err := asking(t, inOne.addr).LookupHost(t.Context(), "a.example.com")
	contains(t, err, "aliases (CNAME) in a row")

	var n atomic.Int64
	endless := misbehave(t, func(w dns.ResponseWriter, query *dns.Msg) {
		name := query.Question[0].Name
		says(t, dns.RcodeSuccess, fmt.Sprintf("%s 5 IN CNAME x%d.example.com.", name, n.Add(1)))(w, query)
	})
	_, err = asking(t, endless.addr).LookupHost(t.Context(), "a.example.com")
	contains(t, err, "aliases (CNAME) in a row")
	if asked := endless.queries.Load(); asked > 2*(maxChain+1) {
		t.Errorf("followed for %d queries", asked)
	}
	dangling := misbehave(t, says(t, dns.RcodeNameError, "a.example.com. 5 IN CNAME gone.example.com."))
	_, err = asking(t, dangling.addr).LookupHost(t.Context(), "a.example.com")
	contains(t, err, "alias of gone.example.com", "NXDOMAIN")
}

func TestResolver_addressesOfBothFamilies(t *testing.T) {
	t.Parallel()
	server := serve(t,
		Record{Host: "infra0.example.com", Addr: netip.MustParseAddr("2001:db8::1")},
		Record{Host: "infra0.example.com", Addr: netip.MustParseAddr("192.0.2.9")},
		Record{Host: "infra0.example.com", Addr: netip.MustParseAddr("192.0.2.1")})
	got, err := asking(t, server.Addr()).LookupHost(t.Context(), "infra0.example.com.")
	if err != nil || !slices.Equal(got, addrs("192.0.2.1", "192.0.2.9", "2001:db8::1")) {
		t.Errorf("got %v, %v", got, err)
	}
}

// One family's failure or slowness does not hide the other's addresses.
func TestResolver_oneFamilyFails(t *testing.T) {
	t.Parallel()
	for name, other := range map[string]func(dns.ResponseWriter, *dns.Msg){
		"SERVFAIL": says(t, dns.RcodeServerFailure), "silent": silent,
	} {
		server := misbehave(t, func(w dns.ResponseWriter, query *dns.Msg) {
			if query.Question[0].Qtype == dns.TypeAAAA {
				other(w, query)
				return
			}
			says(t, dns.RcodeSuccess, "infra0.example.com. 5 IN A 192.0.2.1")(w, query)
		})
		start := time.Now()
		got, err := configured(t, "", "options timeout:30\n", server.addr).LookupHost(t.Context(), "infra0.example.com")
		if err != nil || !slices.Equal(got, addrs("192.0.2.1")) || time.Since(start) > 10*time.Second {
			t.Errorf("%s: got %v, %v after %s", name, got, err, time.Since(start))
		}
	}
}

func TestResolver_hostsFile(t *testing.T) {
	t.Parallel()
	server := serve(t, Record{Host: "infra0.example.com", Addr: netip.MustParseAddr("192.0.2.1")})
	r := configured(t, "10.0.0.7 Infra0.Example.com infra0 # comment 10.9.9.9\nnonsense line\nfd00::7 infra0.example.com\n", impatient, server.Addr())
	for host, want := range map[string][]netip.Addr{
		"infra0.example.com":  addrs("10.0.0.7", "fd00::7"),
		"INFRA0":              addrs("10.0.0.7"),
		"192.0.2.77":          addrs("192.0.2.77"),
		"::ffff:192.0.2.77":   addrs("192.0.2.77"),
		"localhost":           addrs("127.0.0.1", "::1"),
		"sub.localhost":       addrs("127.0.0.1", "::1"),
		"infra0.example.com.": addrs("10.0.0.7", "fd00::7"),
	} {
		if got, err := r.LookupHost(t.Context(), host); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %v, %v; want %v", host, got, err, want)
		}
	}
}

// Short names are completed from the search list as libc does it: before the
// name itself when it has fewer than ndots dots, else after.
func TestResolver_searchList(t *testing.T) {
	t.Parallel()
	server := serve(t,
		Record{Host: "infra0.example.com", Addr: netip.MustParseAddr("192.0.2.1")},
		Record{Host: "a.b.example.com", Addr: netip.MustParseAddr("192.0.2.2")},
		Record{Host: "infra0.example.com.example.com", Addr: netip.MustParseAddr("192.0.2.3")})
	r := configured(t, "", "search other.test example.com\noptions ndots:2 attempts:1\n", server.Addr())
	for host, want := range map[string]string{
		"infra0": "192.0.2.1", "a.b": "192.0.2.2", "infra0.example.com": "192.0.2.1", "infra0.example.com.": "192.0.2.1",
	} {
		if got, err := r.LookupHost(t.Context(), host); err != nil || !slices.Equal(got, addrs(want)) {
			t.Errorf("%s: got %v, %v; want %s", host, got, err, want)
		}
	}
	// other.test is refused by this server: whether the name exists stays open.
	if _, err := r.LookupHost(t.Context(), "nobody"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("error %v", err)
	}
}

// With --discovery-srv-server no other server is asked and nothing is
// completed, but the hosts file still counts.
func TestResolver_explicitServer(t *testing.T) {
	t.Parallel()
	system := misbehave(t, says(t, dns.RcodeSuccess, "infra0.example.com. 5 IN A 203.0.113.66"))
	chosen := serve(t, Record{Host: "infra0.example.com", Addr: netip.MustParseAddr("192.0.2.1")})
	r := configured(t, "10.0.0.7 known\n", "search example.com\n", system.addr)
	r.server = chosen.Addr()
	if got, err := r.LookupHost(t.Context(), "infra0.example.com"); err != nil || !slices.Equal(got, addrs("192.0.2.1")) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := r.LookupHost(t.Context(), "known"); err != nil || !slices.Equal(got, addrs("10.0.0.7")) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := r.LookupHost(t.Context(), "infra0"); err == nil {
		t.Errorf("completed to %v", got)
	}
	if n := system.queries.Load(); n != 0 {
		t.Errorf("the system's server was asked %d times", n)
	}
	// A server given by name is found through the system.
	_, port, _ := net.SplitHostPort(chosen.Addr())
	r = configured(t, "127.0.0.1 dns.corp\n", "", system.addr)
	r.server = net.JoinHostPort("dns.corp", port)
	if got, err := r.LookupHost(t.Context(), "infra0.example.com"); err != nil || !slices.Equal(got, addrs("192.0.2.1")) {
		t.Errorf("got %v, %v", got, err)
	}
}

// That the server itself cannot be found is not said of the name asked for.
func TestResolver_explicitServerUnknown(t *testing.T) {
	t.Parallel()
	system := serve(t)
	r := configured(t, "", "", system.Addr())
	r.server = "dns.example.com:53"
	_, err := r.LookupSRV(t.Context(), "x", "example.net")
	if errors.Is(err, ErrNotFound) || !errors.Is(err, ErrUnavailable) {
		t.Errorf("error %v", err)
	}
	contains(t, err, "the host of --discovery-srv-server dns.example.com:53 does not resolve: no such name (NXDOMAIN)")
}

func TestNewResolver_server(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.53:5353": "10.0.0.53:5353", "10.0.0.53": "10.0.0.53:53", "fd00::53": "[fd00::53]:53",
		"[fd00::53]": "[fd00::53]:53", "[fd00::53]:5353": "[fd00::53]:5353", "DNS.corp": "dns.corp:53", "dns.corp:5353": "dns.corp:5353",
	} {
		if r, err := NewResolver(ResolverOptions{Server: text}); err != nil || r.server != want {
			t.Errorf("%s: %+v, %v", text, r, err)
		}
	}
	for _, text := range []string{":53", "dns.corp:", "dns.corp:0", "dns.corp:99999", "dns.corp:x", "a b:53", "http://dns.corp:53", "a:b:c"} {
		_, err := NewResolver(ResolverOptions{Server: text})
		contains(t, err, "--discovery-srv-server", fmt.Sprintf("%q", text), "host:port")
	}
}

// Whatever a server puts into a packet, following it ends and yields only
// records of the type asked for.
func FuzzFollow(f *testing.F) {
	reply := new(dns.Msg).SetQuestion("a.example.com.", dns.TypeA)
	for _, line := range []string{"a.example.com. 5 IN CNAME b.example.com.", "b.example.com. 5 IN A 192.0.2.1", "b.example.com. 5 IN CNAME a.example.com."} {
		rr, err := dns.NewRR(line)
		if err != nil {
			f.Fatal(err)
		}
		reply.Answer = append(reply.Answer, rr)
	}
	packet, err := reply.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packet)
	f.Fuzz(func(t *testing.T, packet []byte) {
		m := new(dns.Msg)
		if m.Unpack(packet) != nil || len(m.Question) == 0 {
			return
		}
		found, _, hops := follow(m.Answer, m.Question[0].Name, dns.TypeA)
		if hops > maxChain+1 {
			t.Errorf("%d hops", hops)
		}
		for _, rr := range found {
			if rr.Header().Rrtype != dns.TypeA {
				t.Errorf("found %s", rr)
			}
		}
		_ = addrsOf(found)
	})
}
