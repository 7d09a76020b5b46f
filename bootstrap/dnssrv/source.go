package dnssrv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/conclave-kv/conclave/bootstrap"
)

const (
	// defaultClientPort is where clients find a member that has no record of
	// its own for them.
	defaultClientPort = 2379
	// maxResolving bounds the targets resolved at the same time.
	maxResolving = 8
)

// Source is the bootstrap.Source behind --discovery-srv. One SRV record is one
// member with one peer URL, scheme://target:port.
//
// With TLS on it reads _etcd-server-ssl._tcp only, with TLS off
// _etcd-server._tcp only. They are never mixed: whoever can add a plaintext
// record to a zone must not be able to make a member speak plaintext.
type Source struct {
	Resolver *Resolver
	Domain   string // --discovery-srv
	Name     string // --discovery-srv-name, or empty
	// Secure: peers speak TLS.
	Secure bool
	// ClientSecure: clients are served over TLS.
	ClientSecure bool
	// Interfaces lists this host's addresses; nil means net.InterfaceAddrs.
	Interfaces func() ([]net.Addr, error)
}

var _ bootstrap.Source = (*Source)(nil)

// entry is one SRV record on its way to being a member.
type entry struct {
	host  string
	port  uint16
	addrs []netip.Addr // empty while the host does not resolve
	fault string       // then why
}

// place is host:port, as the operator reads it.
func (e entry) place() string {
	return net.JoinHostPort(e.host, strconv.Itoa(int(e.port)))
}

// Lookup implements bootstrap.Source. The answer lacks what the zone lacks so
// far: addresses of targets, or this member's own record.
func (s *Source) Lookup(ctx context.Context, self bootstrap.Self) (bootstrap.Answer, error) {
	if err := checkDomain(s.Domain, s.Name); err != nil {
		return bootstrap.Answer{}, bootstrap.Refusef("%w", err)
	}
	records, err := s.records(ctx)
	if err != nil {
		return bootstrap.Answer{}, err
	}
	entries, err := s.entries(records)
	if err != nil {
		return bootstrap.Answer{}, err
	}
	s.resolve(ctx, entries)
	answer := bootstrap.Answer{Self: bootstrap.Unknown, ClientURLs: slices.Clone(self.ClientURLs)}
	for _, e := range entries {
		if e.fault != "" {
			answer.Missing = append(answer.Missing, fmt.Sprintf(
				"%s, listed in %s, does not resolve (%s); publish its address or remove the record", e.host, s.service(), e.fault))
		}
	}
	own, missing, err := s.find(ctx, self, entries)
	if err != nil {
		return bootstrap.Answer{}, err
	}
	if missing != "" {
		answer.Missing = append(answer.Missing, missing)
	}
	answer.Self = own
	answer.Peers = s.peers(entries, own, self.Name)
	if own != bootstrap.Unknown && len(self.ClientURLs) == 0 {
		answer.ClientURLs, err = s.clientURLs(ctx, entries[own].host)
		if err != nil {
			answer.Missing = append(answer.Missing, err.Error())
		}
	}
	return answer, nil
}

// service is the owner name of the records that count.
func (s *Source) service() string {
	return serviceName(serviceFor("etcd-server", s.Secure, s.Name), s.Domain)
}

// records looks up the members' records. When there are none it looks whether
// the zone has the other kind, which no waiting turns into the right one.
func (s *Source) records(ctx context.Context) ([]SRV, error) {
	records, err := s.Resolver.LookupSRV(ctx, serviceFor("etcd-server", s.Secure, s.Name), s.Domain)
	if err == nil {
		return records, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("--discovery-srv %s: SRV %w", s.Domain, err)
	}
	otherKind := serviceFor("etcd-server", !s.Secure, s.Name)
	if _, otherErr := s.Resolver.LookupSRV(ctx, otherKind, s.Domain); otherErr == nil {
		other := serviceName(otherKind, s.Domain)
		if s.Secure {
			return nil, bootstrap.Refusef("--discovery-srv %s has only plaintext records (%s), but TLS is on: "+
				"publish %s, or start without --cluster-secret-file and --peer-cert-file", s.Domain, other, s.service())
		}
		return nil, bootstrap.Refusef("--discovery-srv %s has only TLS records (%s), but TLS is off: "+
			"give --cluster-secret-file, or --peer-cert-file and --peer-key-file", s.Domain, other)
	}
	return nil, fmt.Errorf("no SRV record %s (%s); publish one for each member, or correct --discovery-srv", s.service(), reason(err))
}

// entries checks the records and refuses those that cannot be members.
func (s *Source) entries(records []SRV) ([]entry, error) {
	if len(records) > bootstrap.MaxPeers {
		return nil, bootstrap.Refusef("%s has %d records; at most %d members are taken, remove the rest",
			s.service(), len(records), bootstrap.MaxPeers)
	}
	entries := make([]entry, 0, len(records))
	for _, record := range records {
		host, err := hostName(record.Target)
		if err != nil {
			return nil, bootstrap.Refusef("a record of %s is unusable: %w; correct or remove it", s.service(), err)
		}
		e := entry{host: host, port: record.Port}
		if e.port == 0 {
			return nil, bootstrap.Refusef("the record of %s for %s has port 0; publish the peer port, usually 2380", s.service(), host)
		}
		if slices.ContainsFunc(entries, func(o entry) bool { return o.place() == e.place() }) {
			return nil, bootstrap.Refusef("%s has two records for %s; a member has one, remove the other", s.service(), e.place())
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// resolve fills in the addresses of all entries, or why there are none.
func (s *Source) resolve(ctx context.Context, entries []entry) {
	var wait sync.WaitGroup
	slots := make(chan struct{}, maxResolving)
	for i := range entries {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			addrs, err := s.Resolver.lookupPublished(ctx, entries[i].host)
			if err != nil {
				entries[i].fault = reason(err)
				return
			}
			entries[i].addrs = addrs
		})
	}
	wait.Wait()
}

// peers makes the answer's peers. Names are labels: a member's own is what it
// was told, else everybody's is the first label of the target, with the port
// where that is shared and with the whole host where even that is.
func (s *Source) peers(entries []entry, own int, ownName string) []bootstrap.Peer {
	labels := func(e entry) [3]string {
		label := firstLabel(e.host)
		return [3]string{label, fmt.Sprintf("%s-%d", label, e.port), fmt.Sprintf("%s-%d", e.host, e.port)}
	}
	unique := func(i, level int) bool {
		name := labels(entries[i])[level]
		for j, other := range entries {
			if j == own && ownName != "" {
				if name == ownName {
					return false
				}
			} else if j != i && labels(other)[level] == name {
				return false
			}
		}
		return true
	}
	scheme := map[bool]string{true: "https", false: "http"}[s.Secure]
	peers := make([]bootstrap.Peer, 0, len(entries))
	for i, e := range entries {
		name := ownName
		if i != own || ownName == "" {
			level := 0
			for level < 2 && !unique(i, level) {
				level++
			}
			name = labels(e)[level]
		}
		peers = append(peers, bootstrap.Peer{Name: name, PeerURLs: []string{scheme + "://" + e.place()}})
	}
	return peers
}

// clientURLs finds this member's URLs for clients: the client records with its
// target, else the usual port there.
func (s *Source) clientURLs(ctx context.Context, host string) ([]string, error) {
	scheme := map[bool]string{true: "https", false: "http"}[s.ClientSecure]
	service := serviceFor("etcd-client", s.ClientSecure, s.Name)
	records, err := s.Resolver.LookupSRV(ctx, service, s.Domain)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("client port of %s: SRV %w", host, err)
	}
	var urls []string
	for _, record := range records {
		if record.Target == host && record.Port != 0 {
			urls = append(urls, scheme+"://"+net.JoinHostPort(host, strconv.Itoa(int(record.Port))))
		}
	}
	if len(urls) == 0 {
		urls = []string{scheme + "://" + net.JoinHostPort(host, strconv.Itoa(defaultClientPort))}
	}
	slices.Sort(urls)
	return slices.Compact(urls), nil
}

// list names entries with their addresses for an error's text.
func list(entries []entry) string {
	parts := make([]string, 0, len(entries))
	for _, e := range entries {
		addrs := "no address"
		if len(e.addrs) > 0 {
			addrs = join(e.addrs)
		}
		parts = append(parts, fmt.Sprintf("%s (%s)", e.place(), addrs))
	}
	return strings.Join(parts, ", ")
}

func join(addrs []netip.Addr) string {
	parts := make([]string, 0, len(addrs))
	for _, addr := range addrs {
		parts = append(parts, addr.String())
	}
	return strings.Join(parts, " ")
}
