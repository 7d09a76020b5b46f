package bootstrap

import (
	"cmp"
	"slices"
	"strings"
)

// ParseInitialCluster reads a value of --initial-cluster,
// "name=url,name=url,...", by etcd's rules: a repeated name adds a URL to
// that member, empty items are passed over. Beyond etcd it refuses at once
// what etcd would only trip over later: an empty name, and a URL given twice.
// The peers come sorted by name, their URLs canonical and sorted. Errors count
// as ErrRefused.
func ParseInitialCluster(text string) ([]Peer, error) {
	byName := make(map[string][]string)
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		name, value, found := strings.Cut(item, "=")
		if !found {
			return nil, Refusef("--initial-cluster: %q is not name=url", item)
		}
		if err := CheckName(name); err != nil {
			return nil, Refusef("--initial-cluster: item %q: %w; write it as name=url", item, err)
		}
		u, err := parseURL(strings.TrimSpace(value))
		if err != nil {
			return nil, Refusef("--initial-cluster: %s: %w", name, err)
		}
		byName[name] = append(byName[name], u.String())
	}
	if len(byName) == 0 {
		return nil, Refusef("--initial-cluster %q lists no member; write it as name=url,name=url", text)
	}
	peers := make([]Peer, 0, len(byName))
	for name, urls := range byName {
		slices.Sort(urls)
		peers = append(peers, Peer{Name: name, PeerURLs: urls})
	}
	slices.SortFunc(peers, func(a, b Peer) int { return cmp.Compare(a.Name, b.Name) })
	if err := checkPeers(peers); err != nil {
		return nil, Refusef("--initial-cluster: %w", err)
	}
	return peers, nil
}
