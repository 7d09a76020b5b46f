package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrMismatch marks what keeps this member from joining a running cluster with
// the list of peers that it has: the two name different members. A member that
// was asked just after a change may not have heard of it.
var ErrMismatch = errors.New("the running cluster has other members")

// Running is a running cluster, as one of its members lists it.
type Running struct {
	ClusterID uint64
	// Members have the names they published, "" before that.
	Members []Member
}

// Join returns the plan of a member that was added to a running cluster: the
// plan's own names and URLs, the ids of the cluster. The two must have the same
// members by their peer URLs, as etcd demands; host names may be resolved for
// that (hosts nil: by the system). Errors count as ErrMismatch, or as ErrRefused
// if waiting cannot mend it.
func (p Plan) Join(ctx context.Context, hosts HostLookup, running Running) (Plan, error) {
	if hosts == nil {
		hosts = systemHosts
	}
	own, err := find(ctx, hosts, running.Members, p.PeerURLs)
	if err != nil {
		return Plan{}, fmt.Errorf("compare the first peers with the cluster's: %w", err)
	}
	if own < 0 {
		return Plan{}, mismatchf("member %q with peer URL %s is not in the cluster yet (it has %s): run \"conclave member add %s --peer-urls=%s\" on the cluster first",
			p.Name, strings.Join(p.PeerURLs, ","), listed(running.Members), p.Name, strings.Join(p.PeerURLs, ","))
	}
	if e := running.Members[own]; e.Name != "" {
		return Plan{}, Refusef("member %x of the cluster (%s) was started as %q already, with another data directory: start it with that one, or "+
			"run \"conclave member remove %x\" and \"conclave member add %s --peer-urls=%s\" on the cluster and start with an empty directory",
			e.ID, strings.Join(e.PeerURLs, ","), e.Name, e.ID, p.Name, strings.Join(p.PeerURLs, ","))
	}
	if len(running.Members) != len(p.Members) {
		return Plan{}, mismatchf("member count is unequal: the first peers given are %d (%s), the cluster has %d: give --initial-cluster %s",
			len(p.Members), p, len(running.Members), p.suggested(running.Members, own))
	}
	return p.joined(ctx, hosts, running, own)
}

// joined gives the plan's members the cluster's ids.
func (p Plan) joined(ctx context.Context, hosts HostLookup, running Running, own int) (Plan, error) {
	out := p
	out.ClusterID, out.Members = running.ClusterID, nil
	for i, e := range running.Members {
		at, err := find(ctx, hosts, p.Members, e.PeerURLs)
		if err != nil {
			return Plan{}, fmt.Errorf("compare the first peers with the cluster's: %w", err)
		}
		if at < 0 {
			return Plan{}, mismatchf("unmatched member while checking PeerURLs: member %x of the cluster has %s, which the first peers given (%s) do not: give --initial-cluster %s",
				e.ID, strings.Join(e.PeerURLs, ","), p, p.suggested(running.Members, own))
		}
		m := Member{ID: e.ID, Name: e.Name, PeerURLs: e.PeerURLs}
		if m.Name == "" {
			m.Name = p.Members[at].Name
		}
		if i == own {
			out.Self = e.ID
		}
		out.Members = append(out.Members, m)
	}
	return out, nil
}

// suggested is the cluster as a value for --initial-cluster.
func (p Plan) suggested(members []Member, own int) string {
	with := Plan{Members: slices.Clone(members)}
	for i := range with.Members {
		switch m := &with.Members[i]; {
		case i == own:
			m.Name = p.Name
		case m.Name == "":
			m.Name = fmt.Sprintf("%x", m.ID)
		}
	}
	return with.String()
}

// find returns which member has these URLs, -1 for none.
func find(ctx context.Context, hosts HostLookup, members []Member, urls []string) (int, error) {
	var last error
	for i, m := range members {
		same, err := sameURLs(ctx, hosts, m.PeerURLs, urls)
		if same {
			return i, nil
		}
		last = errors.Join(last, err)
	}
	return -1, last
}

func listed(members []Member) string {
	parts := make([]string, 0, len(members))
	for _, m := range members {
		parts = append(parts, strings.Join(m.PeerURLs, ","))
	}
	return strings.Join(parts, " ")
}

func mismatchf(format string, args ...any) error {
	return &marked{err: fmt.Errorf(format, args...), mark: ErrMismatch}
}
