package bootstrap

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// place is where a URL points, for comparing two spellings of one place.
type place struct {
	scheme, host, port string
	addrs              []netip.Addr // filled only when spellings differ
}

// sameURLs reports whether two lists of canonical URLs point at the same
// places, in any order. Spelling decides when it is equal; otherwise host
// names are resolved, and two hosts are the same when they share an address.
// As in etcd "localhost" is not resolved: it equals only itself.
func sameURLs(ctx context.Context, hosts HostLookup, a, b []string) (bool, error) {
	if len(a) != len(b) {
		return false, nil
	}
	left, err := places(a)
	if err != nil {
		return false, err
	}
	right, err := places(b)
	if err != nil {
		return false, err
	}
	left, right = strikeOut(left, right, sameSpelling)
	if len(left) == 0 {
		return true, nil
	}
	for _, list := range [][]place{left, right} {
		if err := resolve(ctx, hosts, list); err != nil {
			return false, err
		}
	}
	left, _ = strikeOut(left, right, sameAddress)
	return len(left) == 0, nil
}

func places(urls []string) ([]place, error) {
	list := make([]place, 0, len(urls))
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil {
			return nil, err
		}
		p := place{scheme: u.Scheme, host: strings.ToLower(u.Hostname()), port: u.Port()}
		if u.Scheme == "unix" || u.Scheme == "unixs" {
			p.host = u.Host + u.Path
		}
		if addr, err := netip.ParseAddr(p.host); err == nil {
			p.host = addr.Unmap().String()
		}
		list = append(list, p)
	}
	return list, nil
}

func resolve(ctx context.Context, hosts HostLookup, list []place) error {
	for i, p := range list {
		if addr, err := netip.ParseAddr(p.host); err == nil {
			list[i].addrs = []netip.Addr{addr}
			continue
		}
		if p.host == "localhost" || strings.HasPrefix(p.scheme, "unix") {
			continue
		}
		addrs, err := hosts(ctx, p.host)
		if err != nil {
			return fmt.Errorf("resolve %s: %w", p.host, err)
		}
		for _, addr := range addrs {
			list[i].addrs = append(list[i].addrs, addr.Unmap())
		}
	}
	return nil
}

// strikeOut removes pairs that match, one of a against one of b, and returns
// what is left of both.
func strikeOut(a, b []place, match func(x, y place) bool) (restA, restB []place) {
	restB = slices.Clone(b)
	for _, x := range a {
		i := slices.IndexFunc(restB, func(y place) bool { return match(x, y) })
		if i < 0 {
			restA = append(restA, x)
			continue
		}
		restB = slices.Delete(restB, i, i+1)
	}
	return restA, restB
}

func sameSpelling(x, y place) bool {
	return x.scheme == y.scheme && x.host == y.host && x.port == y.port
}

func sameAddress(x, y place) bool {
	return x.scheme == y.scheme && x.port == y.port &&
		slices.ContainsFunc(x.addrs, func(a netip.Addr) bool { return slices.Contains(y.addrs, a) })
}
