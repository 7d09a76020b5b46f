package dnssrv

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"
)

// query asks a server one question, over udp or tcp, and gives its reply.
func query(t *testing.T, network, addr, name string, qtype uint16, change func(*dns.Msg)) *dns.Msg {
	t.Helper()
	q := new(dns.Msg).SetQuestion(name, qtype)
	if change != nil {
		change(q)
	}
	client := &dns.Client{Net: network, Timeout: 5 * time.Second, UDPSize: dns.MaxMsgSize}
	reply, _, err := client.Exchange(q, addr)
	if err != nil {
		t.Fatalf("%s %s: %v", name, dns.TypeToString[qtype], err)
	}
	return reply
}

// lines gives records as in a zone file, with single spaces.
func lines(records []dns.RR) []string {
	var list []string
	for _, rr := range records {
		if rr.Header().Rrtype != dns.TypeOPT {
			list = append(list, strings.Join(strings.Fields(rr.String()), " "))
		}
	}
	slices.Sort(list)
	return list
}

func TestServer_answers(t *testing.T) {
	t.Parallel()
	server := serve(t,
		Record{Host: "infra0.example.com", Addr: netip.MustParseAddr("192.0.2.10"), Service: tlsService, Port: 2380},
		Record{Host: "infra0.example.com", Addr: netip.MustParseAddr("2001:db8::10")},
		Record{Host: "infra0.example.com", Addr: netip.MustParseAddr("192.0.2.10")}, // again
		Record{Host: "far.example.net", Service: tlsService, Port: 2380})
	tests := []struct {
		name              string
		qtype             uint16
		rcode             int
		answer, ns, extra string
	}{
		{"example.com.", dns.TypeSOA, dns.RcodeSuccess, "SOA ns.example.com. hostmaster.example.com.", "", ""},
		{"example.com.", dns.TypeNS, dns.RcodeSuccess, "NS ns.example.com.", "", "ns.example.com. 5 IN A 127.0.0.1"},
		{"ns.example.com.", dns.TypeA, dns.RcodeSuccess, "A 127.0.0.1", "", ""},
		{"InFra0.Example.COM.", dns.TypeA, dns.RcodeSuccess, "A 192.0.2.10", "", ""},
		{"infra0.example.com.", dns.TypeAAAA, dns.RcodeSuccess, "AAAA 2001:db8::10", "", ""},
		{"_etcd-server-ssl._tcp.example.com.", dns.TypeSRV, dns.RcodeSuccess, "SRV 0 0 2380 infra0.example.com.", "", "infra0.example.com. 5 IN A 192.0.2.10"},
		{"_etcd-server-ssl._tcp.example.com.", dns.TypeSRV, dns.RcodeSuccess, "SRV 0 0 2380 far.example.net.", "", "infra0.example.com. 5 IN AAAA 2001:db8::10"},
		{"infra0.example.com.", dns.TypeMX, dns.RcodeSuccess, "", "SOA", ""},
		{"_tcp.example.com.", dns.TypeA, dns.RcodeSuccess, "", "SOA", ""},
		{"infra9.example.com.", dns.TypeA, dns.RcodeNameError, "", "SOA", ""},
		{"x.infra0.example.com.", dns.TypeA, dns.RcodeNameError, "", "SOA", ""},
		{"infra9.example.com.", dns.TypeANY, dns.RcodeNameError, "", "SOA", ""},
		{"infra0.example.com.", dns.TypeANY, dns.RcodeSuccess, `HINFO "RFC8482"`, "", ""},
		{"example.net.", dns.TypeA, dns.RcodeRefused, "", "", ""},
		{"notexample.com.", dns.TypeA, dns.RcodeRefused, "", "", ""},
		{".", dns.TypeNS, dns.RcodeRefused, "", "", ""},
		{"com.", dns.TypeSOA, dns.RcodeRefused, "", "", ""},
	}
	for _, tt := range tests {
		for _, network := range []string{"udp", "tcp"} {
			reply := query(t, network, server.Addr(), tt.name, tt.qtype, nil)
			what := fmt.Sprintf("%s %s over %s", tt.name, dns.TypeToString[tt.qtype], network)
			if reply.Rcode != tt.rcode || reply.RecursionAvailable || reply.Authoritative != (tt.rcode != dns.RcodeRefused) {
				t.Errorf("%s: %s, authoritative %v", what, dns.RcodeToString[reply.Rcode], reply.Authoritative)
			}
			for _, section := range []struct {
				records []dns.RR
				want    string
			}{{reply.Answer, tt.answer}, {reply.Ns, tt.ns}, {reply.Extra, tt.extra}} {
				if got := strings.Join(lines(section.records), "; "); !strings.Contains(got, section.want) || section.want == "" && got != "" {
					t.Errorf("%s: got %q, want %q", what, got, section.want)
				}
			}
		}
	}
}

// Transfers, other classes and other operations are not offered.
func TestServer_refuses(t *testing.T) {
	t.Parallel()
	server := serve(t, Record{Host: "infra0.example.com", Addr: netip.MustParseAddr("192.0.2.10")})
	tests := []struct {
		name   string
		want   int
		change func(*dns.Msg)
	}{
		{"transfer", dns.RcodeRefused, func(q *dns.Msg) { q.Question[0].Qtype = dns.TypeAXFR }},
		{"chaos", dns.RcodeRefused, func(q *dns.Msg) { q.Question[0].Qclass = dns.ClassCHAOS }},
		{"update", dns.RcodeNotImplemented, func(q *dns.Msg) { q.Opcode = dns.OpcodeUpdate }},
		{"notify", dns.RcodeNotImplemented, func(q *dns.Msg) { q.Opcode = dns.OpcodeNotify }},
		{"twoQuestions", dns.RcodeFormatError, func(q *dns.Msg) { q.Question = append(q.Question, q.Question[0]) }},
		{"ednsVersion", dns.RcodeBadVers, func(q *dns.Msg) { q.SetEdns0(1232, false).IsEdns0().SetVersion(1) }},
	}
	for _, tt := range tests {
		for _, network := range []string{"udp", "tcp"} {
			reply := query(t, network, server.Addr(), "example.com.", dns.TypeSOA, tt.change)
			if reply.Rcode != tt.want || len(reply.Answer) != 0 {
				t.Errorf("%s over %s: %s", tt.name, network, reply)
			}
		}
	}
}

// Answers keep within what the asker can take, and say when they are cut off.
func TestServer_sizes(t *testing.T) {
	t.Parallel()
	fill := func(n int) []Record {
		var records []Record
		for i := range n {
			records = append(records, Record{Host: fmt.Sprintf("host-%02d.example.com", i), Addr: netip.MustParseAddr("192.0.2.1"), Service: tlsService, Port: 2380})
		}
		return records
	}
	tests := []struct {
		records, asks int
		cut           bool
	}{
		{3, 0, false}, {10, 0, false}, {40, 0, true}, {40, 100, true},
		{24, 1232, false}, {24, 4096, false}, {90, 1232, true}, {90, 65535, true},
	}
	for _, tt := range tests {
		server := serve(t, fill(tt.records)...)
		edns := func(q *dns.Msg) {
			if tt.asks > 0 {
				q.SetEdns0(uint16(tt.asks), false)
			}
		}
		limit := min(max(tt.asks, dns.MinMsgSize), udpSize)
		reply := query(t, "udp", server.Addr(), "_etcd-server-ssl._tcp.example.com.", dns.TypeSRV, edns)
		reply.Compress = true
		if reply.Truncated != tt.cut || reply.Len() > limit || (tt.asks > 0) != (reply.IsEdns0() != nil) {
			t.Errorf("%d records, %d bytes asked: truncated %v, %d bytes, EDNS0 %v", tt.records, tt.asks, reply.Truncated, reply.Len(), reply.IsEdns0())
		}
		if !tt.cut && len(reply.Answer) != tt.records {
			t.Errorf("%d records, %d bytes asked: %d answered", tt.records, tt.asks, len(reply.Answer))
		}
		whole := query(t, "tcp", server.Addr(), "_etcd-server-ssl._tcp.example.com.", dns.TypeSRV, edns)
		if whole.Truncated || len(whole.Answer) != tt.records || len(lines(whole.Extra)) != tt.records {
			t.Errorf("over TCP: truncated %v, %d answers", whole.Truncated, len(whole.Answer))
		}
	}
}

func TestServer_setRecords(t *testing.T) {
	t.Parallel()
	server := serve(t)
	serial := func() uint32 {
		return query(t, "udp", server.Addr(), "example.com.", dns.TypeSOA, nil).Answer[0].(*dns.SOA).Serial
	}
	before := serial()
	if err := server.SetRecords([]Record{{Host: "a.example.com", Addr: netip.MustParseAddr("192.0.2.1")}}); err != nil {
		t.Fatal(err)
	}
	if reply := query(t, "udp", server.Addr(), "a.example.com.", dns.TypeA, nil); len(reply.Answer) != 1 {
		t.Errorf("new record is not served: %s", reply)
	}
	if after := serial(); after <= before {
		t.Errorf("serial went from %d to %d", before, after)
	}
	if err := server.SetRecords([]Record{{Host: "a.example.net", Addr: netip.MustParseAddr("192.0.2.1")}}); err == nil {
		t.Error("an address outside the zone was taken")
	}
	if reply := query(t, "udp", server.Addr(), "a.example.com.", dns.TypeA, nil); len(reply.Answer) != 1 {
		t.Errorf("a refused change took effect: %s", reply)
	}
}

func TestNewServer_refuses(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.1")
	for name, tt := range map[string]struct {
		origin string
		record Record
	}{
		"noZone":    {"", Record{}},
		"badZone":   {"exa mple.com", Record{}},
		"badHost":   {"example.com", Record{Host: "a b", Addr: addr}},
		"noPort":    {"example.com", Record{Host: "a.example.com", Service: tlsService}},
		"badLabel":  {"example.com", Record{Host: "a.example.com", Service: strings.Repeat("x", 64), Port: 1}},
		"elsewhere": {"example.com", Record{Host: "a.example.org", Addr: addr}},
	} {
		if _, err := NewServer(tt.origin, []Record{tt.record}, zerolog.Nop()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewServer("example.com", make([]Record, maxRecords+1), zerolog.Nop()); err == nil {
		t.Error("too many records: accepted")
	}
}

// Nothing runs after Close, the port is free, and the server can start again.
func TestServer_closes(t *testing.T) {
	server, err := NewServer("example.com", nil, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	addr := "127.0.0.1:0"
	for range 3 {
		if err := server.Start(addr); err != nil {
			t.Fatal(err)
		}
		addr = server.Addr()
		if err := server.Start(addr); err == nil {
			t.Error("started twice")
		}
		idle, err := net.Dial("tcp", addr) // an open connection does not hold up the end
		if err != nil {
			t.Fatal(err)
		}
		query(t, "tcp", addr, "example.com.", dns.TypeSOA, nil)
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
		_ = idle.Close()
		if got := server.Addr(); got != "" {
			t.Errorf("after Close the address is %s", got)
		}
	}
	if err := server.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines before, %d after", before, after)
	}
}

func TestServer_portTaken(t *testing.T) {
	t.Parallel()
	first := serve(t)
	second, err := NewServer("example.com", nil, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	err = second.Start(first.Addr())
	contains(t, err, "DNS server", first.Addr(), "in use")
	contains(t, second.Start("localhost"), `"localhost"`, "127.0.0.1:5353")
}

// More than maxConns connections: the surplus waits until others end.
func TestServer_connectionLimit(t *testing.T) {
	t.Parallel()
	server := serve(t)
	var held []net.Conn
	for range maxConns {
		conn, err := net.Dial("tcp", server.Addr())
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
	late := &dns.Client{Net: "tcp", Timeout: 300 * time.Millisecond}
	question := new(dns.Msg).SetQuestion("example.com.", dns.TypeSOA)
	if _, _, err := late.Exchange(question, server.Addr()); err == nil {
		t.Error("one more connection was served")
	}
	for _, conn := range held {
		_ = conn.Close()
	}
	late.Timeout = 20 * time.Second
	if _, _, err := late.Exchange(question, server.Addr()); err != nil {
		t.Errorf("after the others ended: %v", err)
	}
}

// Whatever packet arrives, the server neither falls over nor answers an answer,
// and what it sends is DNS and within the limit.
func FuzzServer(f *testing.F) {
	server, err := NewServer("example.com", []Record{{Host: "a.example.com", Addr: netip.MustParseAddr("192.0.2.1"), Service: tlsService, Port: 1}}, zerolog.Nop())
	if err != nil {
		f.Fatal(err)
	}
	for _, q := range []*dns.Msg{
		new(dns.Msg).SetQuestion("_etcd-server-ssl._tcp.example.com.", dns.TypeSRV),
		new(dns.Msg).SetQuestion("example.com.", dns.TypeANY).SetEdns0(512, true),
		new(dns.Msg).SetUpdate("example.com."),
	} {
		packet, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packet)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		out := server.answer(packet, true)
		if out == nil {
			return
		}
		var in, reply dns.Msg
		if err := in.Unpack(packet); err != nil || in.Response {
			t.Fatalf("answered %x", packet)
		}
		if err := reply.Unpack(out); err != nil || !reply.Response || reply.Id != in.Id || len(out) > udpSize {
			t.Fatalf("answer %x (%d bytes): %v", out, len(out), err)
		}
	})
}
