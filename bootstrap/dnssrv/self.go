package dnssrv

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/conclave-kv/conclave/bootstrap"
)

// find tells which entry is this member, or what is missing for that. A match
// must be the only one: a member that guesses its identity can end up with
// another's.
func (s *Source) find(ctx context.Context, self bootstrap.Self, entries []entry) (own int, missing string, err error) {
	if len(self.PeerURLs) > 0 {
		return s.findByURLs(ctx, self.PeerURLs, entries)
	}
	return s.findByHost(entries)
}

// findByURLs looks for the entry of the stated peer URLs: by host and port as
// written, else by port and resolved address.
func (s *Source) findByURLs(ctx context.Context, peerURLs []string, entries []entry) (int, string, error) {
	stated := strings.Join(peerURLs, ",")
	var matched []int
	var unmatched []string
	for _, text := range peerURLs {
		u, err := url.Parse(text)
		if err != nil {
			return 0, "", bootstrap.Refusef("--initial-advertise-peer-urls: %w", err)
		}
		found, err := s.entriesFor(ctx, u, entries)
		if err != nil {
			return bootstrap.Unknown, fmt.Sprintf("the host of --initial-advertise-peer-urls %s does not resolve (%s)", text, reason(err)), nil
		}
		if len(found) == 0 {
			unmatched = append(unmatched, text)
			continue
		}
		if err := s.checkScheme(u, entries[found[0]]); err != nil {
			return 0, "", err
		}
		matched = append(matched, found...)
	}
	slices.Sort(matched)
	matched = slices.Compact(matched)
	switch {
	case len(matched) == 0:
		return bootstrap.Unknown, fmt.Sprintf("no record of %s is this member (--initial-advertise-peer-urls %s); "+
			"the records are %s; publish a record for it, or correct the flag", s.service(), stated, list(entries)), nil
	case len(matched) > 1:
		return 0, "", bootstrap.Refusef("--initial-advertise-peer-urls %s matches %d records of %s: %s; "+
			"a member has one record, give its host and port as written there", stated, len(matched), s.service(), list(pick(entries, matched)))
	case len(unmatched) > 0:
		return 0, "", bootstrap.Refusef("--initial-advertise-peer-urls has %s, which no record of %s lists; "+
			"give the URL of this member's record only: %s", strings.Join(unmatched, ","), s.service(), list(pick(entries, matched)))
	}
	return matched[0], "", nil
}

// entriesFor gives the indexes of the entries a stated URL points at.
func (s *Source) entriesFor(ctx context.Context, u *url.URL, entries []entry) ([]int, error) {
	host, port := bare(u.Hostname()), u.Port()
	var exact, near []int
	for i, e := range entries {
		if e.host == host && fmt.Sprint(e.port) == port {
			exact = append(exact, i)
		}
	}
	if len(exact) > 0 || host == "" {
		return exact, nil
	}
	addrs, err := s.Resolver.lookupPublished(ctx, host)
	if err != nil {
		return nil, err
	}
	for i, e := range entries {
		if fmt.Sprint(e.port) == port && intersect(e.addrs, addrs) {
			near = append(near, i)
		}
	}
	return near, nil
}

// checkScheme refuses a stated URL of the other scheme; the text is etcd's,
// with what to do behind.
func (s *Source) checkScheme(u *url.URL, e entry) error {
	scheme := map[bool]string{true: "https", false: "http"}[s.Secure]
	if u.Scheme == scheme {
		return nil
	}
	return bootstrap.Refusef("bootstrap at %s://%s from DNS for %s has scheme mismatch with expected peer %s; give %s:// in --initial-advertise-peer-urls",
		scheme, e.place(), serviceFor("etcd-server", s.Secure, s.Name), u, scheme)
}

// findByHost looks for the one entry that resolves to an address of this host.
// Every host has the loopback addresses, so these identify none.
func (s *Source) findByHost(entries []entry) (int, string, error) {
	local, err := s.localAddrs()
	if err != nil {
		return 0, "", fmt.Errorf("list the addresses of this host: %w", err)
	}
	var matched []int
	for i, e := range entries {
		if intersect(e.addrs, local) {
			matched = append(matched, i)
		}
	}
	switch len(matched) {
	case 1:
		return matched[0], "", nil
	case 0:
		return bootstrap.Unknown, fmt.Sprintf("no record of %s resolves to an address of this host (%s; loopback does not count); "+
			"the records are %s; publish a record for this host, or give --initial-advertise-peer-urls", s.service(), join(local), list(entries)), nil
	}
	return 0, "", bootstrap.Refusef("%d records of %s resolve to addresses of this host: %s; "+
		"give --name and --initial-advertise-peer-urls to say which one this member is", len(matched), s.service(), list(pick(entries, matched)))
}

// localAddrs lists this host's addresses without loopback and unspecified ones.
func (s *Source) localAddrs() ([]netip.Addr, error) {
	interfaces := s.Interfaces
	if interfaces == nil {
		interfaces = net.InterfaceAddrs
	}
	list, err := interfaces()
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, a := range list {
		text, _, _ := strings.Cut(a.String(), "/")
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.IsLoopback() || addr.IsUnspecified() {
			continue
		}
		addrs = append(addrs, addr.Unmap().WithZone(""))
	}
	return inOrder(addrs), nil
}

// lookupPublished resolves a host to the addresses others know it by. Many
// systems put their own name into the hosts file with a loopback address
// (Debian: 127.0.1.1); what DNS says then counts instead.
func (r *Resolver) lookupPublished(ctx context.Context, host string) ([]netip.Addr, error) {
	addrs, err := r.LookupHost(ctx, host)
	if err != nil || host == "localhost" || !allLoopback(addrs) {
		return addrs, err
	}
	hosts, err := r.hosts.get()
	if err != nil || len(hosts[bare(host)]) == 0 {
		return addrs, nil // a literal, or DNS's own answer
	}
	if published, err := r.lookupDNS(ctx, host); err == nil {
		return published, nil
	}
	return addrs, nil
}

func allLoopback(addrs []netip.Addr) bool {
	return !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return !a.IsLoopback() })
}

func intersect(a, b []netip.Addr) bool {
	return slices.ContainsFunc(a, func(addr netip.Addr) bool {
		return !addr.IsUnspecified() && slices.Contains(b, addr)
	})
}

func pick(entries []entry, indexes []int) []entry {
	picked := make([]entry, 0, len(indexes))
	for _, i := range indexes {
		picked = append(picked, entries[i])
	}
	return picked
}
