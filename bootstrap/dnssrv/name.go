package dnssrv

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// bare gives a DNS name as it stands in URLs: lower case, no trailing dot.
//
// Lower case matters beyond looks: member ids are computed from URLs, and a
// server may compress a target against the question and so return the letter
// case in which this host, and not another, spelled the domain.
func bare(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// hostName returns the target of an SRV record as a host for a URL, or why it
// cannot be one. DNS allows any byte in a label; a URL and a member list do not.
func hostName(target string) (string, error) {
	host := bare(target)
	if host == "" {
		return "", fmt.Errorf(`target is "." (service not available)`)
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.Is4() {
		return host, nil // not a host name by the book, but published in the wild
	}
	if _, ok := dns.IsDomainName(host); !ok || strings.ContainsFunc(host, notHostRune) {
		return "", fmt.Errorf("target %q is not a host name", target)
	}
	return host, nil
}

func notHostRune(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
}

// firstLabel names a member after its host: what stands before the first dot,
// or an IP address whole.
func firstLabel(host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return host
	}
	label, _, _ := strings.Cut(host, ".")
	return label
}

// serviceName gives the owner name of the SRV records of a service, without
// the trailing dot: _service._tcp.domain.
func serviceName(service, domain string) string {
	return "_" + service + "._tcp." + bare(domain)
}

// serviceFor spells a service as etcd does: "-ssl" for TLS, then
// --discovery-srv-name.
func serviceFor(service string, secure bool, name string) string {
	if secure {
		service += "-ssl"
	}
	if name != "" {
		service += "-" + name
	}
	return service
}

// checkDomain tells why a value of --discovery-srv or --discovery-srv-name
// cannot be asked for.
func checkDomain(domain, name string) error {
	if bare(domain) == "" {
		return fmt.Errorf("--discovery-srv %q names no domain; give one like example.com", domain)
	}
	// The longest name made of them; 63 bytes a label and 255 in all.
	longest := serviceName(serviceFor("etcd-server", true, name), domain)
	_, ok := dns.IsDomainName(longest)
	if strings.ContainsFunc(bare(domain), notHostRune) || !ok && name == "" {
		return fmt.Errorf("--discovery-srv %q is not a domain name; give one like example.com", domain)
	}
	if strings.ContainsFunc(strings.ToLower(name), notHostRune) || strings.Contains(name, ".") || !ok {
		return fmt.Errorf("--discovery-srv-name %q does not make a service name with it: %s", name, longest)
	}
	return nil
}
