package dnssrv

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

const (
	// zoneTTL is the life of a record in caches, in seconds: short, since the
	// zones served here are about machines that come and go.
	zoneTTL = 5
	// maxRecords bounds the records of a zone, and so the largest answer.
	maxRecords = 1024
)

// Record is something a Server publishes: with Addr the address of Host, with
// Service that the service is offered by Host at Port, with both both.
type Record struct {
	// Host is a whole name, infra0.example.com; one outside the zone can be
	// offered but not have an address.
	Host string
	// Addr is an address of Host, or the zero Addr for none.
	Addr netip.Addr
	// Service is the first two labels of an SRV record's name, as in
	// _etcd-server-ssl._tcp, or empty for none.
	Service string
	Port    uint16 // with Service: 1 to 65535
}

// zone is one version of a Server's content; it is never changed.
type zone struct {
	origin string // lower case, with trailing dot
	soa    dns.RR
	// names holds every name of the zone, lower case, with its records; a name
	// that only has others below it holds none.
	names map[string][]dns.RR
}

// newZone lays out the records. serial orders versions for who compares them;
// ns is the address of the server itself, or the zero Addr if that is not one.
func newZone(origin string, serial uint32, ns netip.Addr, records []Record) (*zone, error) {
	if len(records) > maxRecords {
		return nil, fmt.Errorf("zone %s: %d records are more than %d", bare(origin), len(records), maxRecords)
	}
	if _, err := hostName(origin); err != nil {
		return nil, fmt.Errorf("zone %q: %w", origin, err)
	}
	z := &zone{origin: dns.Fqdn(bare(origin)), names: make(map[string][]dns.RR)}
	server := "ns." + z.origin
	z.soa = &dns.SOA{Hdr: header(z.origin, dns.TypeSOA), Ns: server, Mbox: "hostmaster." + z.origin,
		Serial: serial, Refresh: 60, Retry: 10, Expire: 3600, Minttl: 1}
	z.add(z.soa)
	z.add(&dns.NS{Hdr: header(z.origin, dns.TypeNS), Ns: server})
	if ns.IsValid() && !ns.IsUnspecified() {
		z.add(addressRR(server, ns))
	} else {
		z.touch(server)
	}
	for _, record := range records {
		if err := z.publish(record); err != nil {
			return nil, fmt.Errorf("zone %s: %w", bare(origin), err)
		}
	}
	return z, nil
}

// publish adds what one Record stands for.
func (z *zone) publish(record Record) error {
	host, err := hostName(record.Host)
	if err != nil {
		return fmt.Errorf("record of %q: %w", record.Host, err)
	}
	name := dns.Fqdn(host)
	if record.Addr.IsValid() {
		if !dns.IsSubDomain(z.origin, name) {
			return fmt.Errorf("%s is outside the zone and cannot have an address in it", host)
		}
		z.add(addressRR(name, record.Addr))
	}
	if record.Service == "" {
		return nil
	}
	owner := strings.ToLower(record.Service) + "." + z.origin
	if _, ok := dns.IsDomainName(owner); !ok || record.Port == 0 {
		return fmt.Errorf("service %q of %s at port %d cannot be published", record.Service, host, record.Port)
	}
	z.add(&dns.SRV{Hdr: header(owner, dns.TypeSRV), Port: record.Port, Target: name})
	return nil
}

func header(name string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: zoneTTL}
}

func addressRR(name string, addr netip.Addr) dns.RR {
	if addr = addr.Unmap().WithZone(""); addr.Is4() {
		return &dns.A{Hdr: header(name, dns.TypeA), A: addr.AsSlice()}
	}
	return &dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: addr.AsSlice()}
}

// add puts in a record once, and the names above it.
func (z *zone) add(rr dns.RR) {
	name := strings.ToLower(rr.Header().Name)
	z.touch(name)
	for _, other := range z.names[name] {
		if dns.IsDuplicate(other, rr) {
			return
		}
	}
	z.names[name] = append(z.names[name], rr)
}

// touch makes name and all names between it and the origin exist: a name with
// something below it is not NXDOMAIN (RFC 8020).
func (z *zone) touch(name string) {
	for name != z.origin {
		if _, known := z.names[name]; known {
			return
		}
		z.names[name] = nil
		_, name, _ = strings.Cut(name, ".")
	}
	if _, known := z.names[name]; !known {
		z.names[name] = nil
	}
}

// find gives the records of one type at a name, and whether the name exists.
func (z *zone) find(name string, rrtype uint16) (found []dns.RR, exists bool) {
	all, exists := z.names[strings.ToLower(name)]
	for _, rr := range all {
		if rr.Header().Rrtype == rrtype {
			found = append(found, rr)
		}
	}
	return found, exists
}

// reply answers one query; nil means that nothing is to be sent.
func (z *zone) reply(query *dns.Msg) *dns.Msg {
	if query.Response {
		return nil
	}
	reply := new(dns.Msg)
	if query.Opcode != dns.OpcodeQuery {
		reply.SetRcode(query, dns.RcodeNotImplemented)
		reply.Opcode = query.Opcode
		return reply
	}
	if len(query.Question) != 1 {
		return reply.SetRcodeFormatError(query)
	}
	reply.SetReply(query)
	if opt := query.IsEdns0(); opt != nil {
		reply.SetEdns0(udpSize, false)
		if opt.Version() != 0 {
			return badVersion(reply)
		}
	}
	q := query.Question[0]
	switch {
	case q.Qclass != dns.ClassINET, !dns.IsSubDomain(z.origin, q.Name), q.Qtype == dns.TypeAXFR, q.Qtype == dns.TypeIXFR:
		reply.Rcode = dns.RcodeRefused
	case q.Qtype == dns.TypeANY:
		z.replyANY(reply, q)
	default:
		z.replyRecords(reply, q)
	}
	return reply
}

func badVersion(reply *dns.Msg) *dns.Msg {
	reply.Rcode = dns.RcodeBadVers
	return reply
}

// replyANY gives the minimal answer of RFC 8482 instead of all records.
func (z *zone) replyANY(reply *dns.Msg, q dns.Question) {
	if _, exists := z.find(q.Name, q.Qtype); !exists {
		z.replyRecords(reply, q)
		return
	}
	reply.Authoritative = true
	reply.Answer = []dns.RR{&dns.HINFO{Hdr: header(q.Name, dns.TypeHINFO), Cpu: "RFC8482"}}
}

// replyRecords fills in the records asked for, the addresses of SRV targets
// beside them, or the SOA that tells how long their absence may be kept.
func (z *zone) replyRecords(reply *dns.Msg, q dns.Question) {
	reply.Authoritative = true
	found, exists := z.find(q.Name, q.Qtype)
	if !exists {
		reply.Rcode = dns.RcodeNameError
	}
	if len(found) == 0 {
		reply.Ns = []dns.RR{z.soa}
		return
	}
	reply.Answer = found
	seen := make(map[string]bool)
	var extra []dns.RR
	for _, rr := range found {
		var target string
		switch rr := rr.(type) {
		case *dns.SRV:
			target = rr.Target
		case *dns.NS:
			target = rr.Ns
		}
		if target == "" || seen[target] {
			continue
		}
		seen[target] = true
		a, _ := z.find(target, dns.TypeA)
		aaaa, _ := z.find(target, dns.TypeAAAA)
		extra = append(append(extra, a...), aaaa...)
	}
	reply.Extra = append(extra, reply.Extra...)
}

// fit makes a reply fit into what the transport and the asker can take. The
// additional addresses go first, without a trace; only a cut answer is marked
// so that the asker comes back over TCP.
func fit(reply, query *dns.Msg, udp bool) {
	size := dns.MaxMsgSize
	if udp {
		size = dns.MinMsgSize
		if opt := query.IsEdns0(); opt != nil {
			size = min(max(int(opt.UDPSize()), dns.MinMsgSize), udpSize)
		}
	}
	reply.Compress = true
	if reply.Len() <= size {
		return
	}
	opt := reply.IsEdns0()
	reply.Extra = nil
	if opt != nil {
		reply.Extra = []dns.RR{opt}
	}
	reply.Truncate(size)
}
