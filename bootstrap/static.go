package bootstrap

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// HostLookup resolves a host name to its addresses.
type HostLookup func(ctx context.Context, host string) ([]netip.Addr, error)

// Static is the source behind --initial-cluster: the list itself. This member
// is the entry with its name; the peer URLs it advertises, if stated, must be
// those of the entry, where a name and its address count as the same.
type Static struct {
	// Peers is the list, from ParseInitialCluster.
	Peers []Peer
	// Hosts resolves names when URLs have to be compared; nil means the
	// system's resolver.
	Hosts HostLookup
}

var _ Source = (*Static)(nil)

// Lookup implements Source. It fails without ErrRefused only when a host name
// that has to be compared does not resolve.
func (s *Static) Lookup(ctx context.Context, self Self) (Answer, error) {
	i := slices.IndexFunc(s.Peers, func(p Peer) bool { return p.Name == self.Name })
	if i < 0 {
		names := make([]string, 0, len(s.Peers))
		for _, p := range s.Peers {
			names = append(names, p.Name)
		}
		return Answer{}, Refusef("couldn't find local name %q in the initial cluster configuration: "+
			"--initial-cluster lists %s; give one of these as --name", self.Name, strings.Join(names, ", "))
	}
	if err := ctx.Err(); err != nil {
		return Answer{}, err
	}
	if len(self.PeerURLs) > 0 {
		if err := s.compare(ctx, self, s.Peers[i].PeerURLs); err != nil {
			return Answer{}, err
		}
	}
	return Answer{Peers: slices.Clone(s.Peers), Self: i, ClientURLs: slices.Clone(self.ClientURLs)}, nil
}

// compare holds the advertised URLs against the entry's. The texts are
// etcd's, with what to do behind.
func (s *Static) compare(ctx context.Context, self Self, entry []string) error {
	hosts := s.Hosts
	if hosts == nil {
		hosts = systemHosts
	}
	same, err := sameURLs(ctx, hosts, self.PeerURLs, entry)
	if err != nil {
		return fmt.Errorf("compare --initial-advertise-peer-urls with --initial-cluster: %w", err)
	}
	if same {
		return nil
	}
	stated := strings.Join(self.PeerURLs, ",")
	if extra := without(entry, self.PeerURLs); len(extra) > 0 {
		return Refusef("--initial-cluster has %s but missing from --initial-advertise-peer-urls=%s; "+
			"make the two flags agree", named(self.Name, extra), stated)
	}
	extra := without(self.PeerURLs, entry)
	return Refusef("--initial-advertise-peer-urls has %s but missing from --initial-cluster=%s; "+
		"make the two flags agree", strings.Join(extra, ","), named(self.Name, entry))
}

func systemHosts(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// without gives the items of a that are not in b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(u string) bool { return slices.Contains(b, u) })
}

func named(name string, urls []string) string {
	pairs := make([]string, 0, len(urls))
	for _, u := range urls {
		pairs = append(pairs, name+"="+u)
	}
	return strings.Join(pairs, ",")
}
