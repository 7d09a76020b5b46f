package dnssrv

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// addrGrace is how much longer one of the two address queries (A, AAAA) may
// take than the other once that has found something.
const addrGrace = time.Second

// SRV is one SRV record.
type SRV struct {
	Target   string // as a host for a URL: lower case, no trailing dot; "" for "."
	Port     uint16
	Priority uint16
	Weight   uint16
}

// LookupSRV returns the records of _service._tcp.domain, lowest priority
// first, then heaviest, then by target and port: an order that does not
// depend on the server. The name is taken as it stands, without the search
// list. Errors unwrap to ErrNotFound or ErrUnavailable.
func (r *Resolver) LookupSRV(ctx context.Context, service, domain string) ([]SRV, error) {
	p, err := r.policy(ctx)
	if err != nil {
		return nil, err
	}
	found, err := p.records(ctx, serviceName(service, domain), dns.TypeSRV)
	if err != nil {
		return nil, err
	}
	records := make([]SRV, 0, len(found))
	for _, rr := range found {
		if srv, ok := rr.(*dns.SRV); ok {
			records = append(records, SRV{Target: bare(srv.Target), Port: srv.Port, Priority: srv.Priority, Weight: srv.Weight})
		}
	}
	slices.SortFunc(records, func(a, b SRV) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(b.Weight, a.Weight),
			cmp.Compare(a.Target, b.Target), cmp.Compare(a.Port, b.Port))
	})
	return records, nil
}

// LookupHost returns the addresses of a host, IPv4 first, each once and at
// least one: an address literal is its own, then the hosts file counts, then
// localhost is the loopback, then DNS is asked, with the search list of
// resolv.conf where libc would use it. Errors unwrap to ErrNotFound or
// ErrUnavailable.
func (r *Resolver) LookupHost(ctx context.Context, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr.Unmap()}, nil
	}
	hosts, err := r.hosts.get()
	if err != nil {
		return nil, err
	}
	if addrs := hosts[bare(host)]; len(addrs) > 0 {
		return inOrder(addrs), nil
	}
	if name := bare(host); name == "localhost" || strings.HasSuffix(name, ".localhost") { // RFC 6761
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	}
	return r.lookupDNS(ctx, host)
}

// lookupDNS resolves a host by DNS alone, trying the search list's names in
// libc's order.
func (r *Resolver) lookupDNS(ctx context.Context, host string) ([]netip.Addr, error) {
	p, err := r.policy(ctx)
	if err != nil {
		return nil, err
	}
	var worst error
	for _, name := range p.names(host) {
		addrs, err := p.addresses(ctx, name)
		if err == nil {
			return addrs, nil
		}
		// One server failure leaves open whether the name exists; without
		// one, the name as it was given tells most.
		if worst == nil || !errors.Is(worst, ErrUnavailable) &&
			(errors.Is(err, ErrUnavailable) || name == dns.Fqdn(host)) {
			worst = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	if worst == nil {
		worst = &LookupError{Name: host, Reason: "not a host name", Err: ErrNotFound}
	}
	return nil, worst
}

// names lists the absolute names to try for host.
func (p policy) names(host string) []string {
	var names []string
	for _, name := range p.conf.NameList(host) {
		if _, ok := dns.IsDomainName(name); ok {
			names = append(names, name)
		}
	}
	return names
}

// addresses asks for A and AAAA at once. What one finds is not lost because
// the other fails or is slow.
func (p policy) addresses(ctx context.Context, name string) ([]netip.Addr, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		records []dns.RR
		err     error
	}
	results := make(chan result, 2)
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		go func() {
			records, err := p.records(ctx, name, qtype)
			if err == nil {
				time.AfterFunc(addrGrace, cancel) // harmless once the lookup is over
			}
			results <- result{records, err}
		}()
	}
	var found []netip.Addr
	var failed error
	for range 2 {
		res := <-results
		found = append(found, addrsOf(res.records)...)
		if res.err != nil && (failed == nil || errors.Is(res.err, ErrUnavailable)) {
			failed = res.err
		}
	}
	if len(found) == 0 {
		return nil, failed
	}
	return inOrder(found), nil
}

func addrsOf(records []dns.RR) []netip.Addr {
	var addrs []netip.Addr
	for _, rr := range records {
		var addr netip.Addr
		var ok bool
		switch rr := rr.(type) {
		case *dns.A:
			addr, ok = netip.AddrFromSlice(rr.A)
		case *dns.AAAA:
			addr, ok = netip.AddrFromSlice(rr.AAAA)
		}
		if ok {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs
}

// inOrder sorts addresses and drops repetitions; IPv4 comes before IPv6.
func inOrder(addrs []netip.Addr) []netip.Addr {
	sorted := slices.Clone(addrs)
	slices.SortFunc(sorted, netip.Addr.Compare)
	return slices.Compact(sorted)
}
