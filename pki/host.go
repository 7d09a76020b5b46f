package pki

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
)

// maxHosts bounds the names and addresses of one certificate.
const maxHosts = 256

// cleanHosts brings names and addresses into the form certificates hold: lower
// case, no trailing dot, each once, in the order given.
func cleanHosts(hosts []string) ([]string, error) {
	var out []string
	for _, h := range hosts {
		clean, err := cleanHost(strings.TrimSpace(h))
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, clean) {
			out = append(out, clean)
		}
	}
	if len(out) > maxHosts {
		return nil, fmt.Errorf("--hosts: %d names, a certificate holds at most %d", len(out), maxHosts)
	}
	return out, nil
}

func cleanHost(h string) (string, error) {
	if addr, err := netip.ParseAddr(strings.Trim(h, "[]")); err == nil {
		if addr.Zone() != "" {
			return "", fmt.Errorf("--hosts %q: leave out the zone, certificates hold addresses without", h)
		}
		return addr.Unmap().String(), nil
	}
	name := strings.ToLower(strings.TrimSuffix(h, "."))
	if !isDNSName(strings.TrimPrefix(name, "*.")) {
		return "", fmt.Errorf("--hosts %q: neither a DNS name nor an IP address (no scheme, no port)", h)
	}
	return name, nil
}

// isDNSName accepts what resolvers and certificates agree on, and the
// underscore, which occurs in the names of containers.
func isDNSName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}

// HostsOf returns the host parts of URLs for use in certificates. Addresses
// that mean "all interfaces" (0.0.0.0, ::) name nobody and are left out. Of a socket
// file with TLS it is the last part of its name, which etcd's client expects in the
// certificate; where that cannot be in one, it is left out.
func HostsOf(urls ...string) []string {
	var out []string
	for _, s := range urls {
		u, err := url.Parse(s)
		if err == nil && u.Scheme == "unixs" {
			if name := strings.ToLower(path.Base(u.Host + u.Path)); isDNSName(name) {
				out = append(out, name)
			}
			continue
		}
		if err != nil || u.Hostname() == "" || u.Scheme == "unix" {
			continue
		}
		if addr, err := netip.ParseAddr(u.Hostname()); err == nil && addr.IsUnspecified() {
			continue
		}
		out = append(out, u.Hostname())
	}
	return out
}
