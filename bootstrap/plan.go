package bootstrap

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Member is one member of the bootstrap set.
type Member struct {
	ID       uint64 // see MemberID; printed as lower-case hex
	Name     string // a label until the member publishes its own
	PeerURLs []string
}

// Plan is the cluster as it is to be formed, seen from one member.
//
// Every member of the cluster must hold the same plan but for names and the
// fields that describe itself. Equal cluster ids mean equal plans: the ids
// cover every peer URL and the token.
type Plan struct {
	Token     string
	ClusterID uint64
	Self      uint64   // id of this member, one of Members
	Members   []Member // sorted by ID

	Name       string   // of this member
	PeerURLs   []string // of this member, as its peers know it
	ClientURLs []string // of this member; empty if neither stated nor found
	Secure     bool     // this member's peer URLs are all https (or unixs)
}

// String gives the plan as a value for --initial-cluster, sorted by name.
// Names may differ from member to member; see Canonical.
func (p Plan) String() string {
	pairs := make([]string, 0, len(p.Members))
	for _, m := range p.Members {
		for _, u := range m.PeerURLs {
			pairs = append(pairs, m.Name+"="+u)
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}

// Canonical gives what all members must agree on as one line, without names:
// equal for two plans exactly when their cluster ids are equal. It is for
// comparing with peers and for showing a difference.
func (p Plan) Canonical() string {
	parts := make([]string, 0, len(p.Members))
	for _, m := range p.Members {
		parts = append(parts, fmt.Sprintf("%x=%s", m.ID, strings.Join(m.PeerURLs, ",")))
	}
	return strings.Join(parts, " ")
}

// newPlan computes ids and puts members in order. It refuses what no source
// may answer, so that a mistake there cannot become a cluster.
func newPlan(a Answer, token string) (Plan, error) {
	if a.Token != "" {
		token = a.Token
	}
	if err := checkPeers(a.Peers); err != nil {
		return Plan{}, err
	}
	p := Plan{Token: token, ClientURLs: slices.Clone(a.ClientURLs)}
	ids := make([]uint64, 0, len(a.Peers))
	for i, peer := range a.Peers {
		urls := slices.Sorted(slices.Values(peer.PeerURLs))
		m := Member{ID: MemberID(urls, token), Name: peer.Name, PeerURLs: urls}
		if i == a.Self {
			p.Self, p.Name, p.PeerURLs = m.ID, m.Name, slices.Clone(urls)
		}
		p.Members = append(p.Members, m)
		ids = append(ids, m.ID)
	}
	slices.SortFunc(p.Members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	p.ClusterID = ClusterID(ids)
	p.Secure = !slices.ContainsFunc(p.PeerURLs, func(u string) bool {
		return !strings.HasPrefix(u, "https://") && !strings.HasPrefix(u, "unixs://")
	})
	return p, nil
}

// checkPeers holds every list of first peers to the same rules: at most
// MaxPeers, names present and unique, URLs present and unique. Distinct URLs
// give distinct ids.
func checkPeers(peers []Peer) error {
	if len(peers) > MaxPeers {
		return Refusef("%d first peers are listed; at most %d are taken", len(peers), MaxPeers)
	}
	names := make(map[string]bool)
	owner := make(map[string]string)
	for _, p := range peers {
		if err := CheckName(p.Name); err != nil {
			return Refusef("first peer with %s: %w", strings.Join(p.PeerURLs, ","), err)
		}
		if names[p.Name] {
			return Refusef("two first peers are named %q; give each member a name of its own", p.Name)
		}
		names[p.Name] = true
		if len(p.PeerURLs) == 0 {
			return Refusef("first peer %q has no peer URL", p.Name)
		}
		for _, u := range p.PeerURLs {
			if other, taken := owner[u]; taken {
				return Refusef("duplicate url %s among the first peers (of %q and %q); list it once", u, other, p.Name)
			}
			owner[u] = p.Name
		}
	}
	return nil
}
