package dnssrv

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// maxChain is how many CNAMEs are followed for one name.
const maxChain = 8

// ResolverOptions say whom to ask. The zero value is this machine's own
// configuration.
type ResolverOptions struct {
	// Server is the value of --discovery-srv-server, host:port or a host
	// alone for port 53. If set, only this server is asked, and names are
	// taken as they stand, without the search list.
	Server string
	// ConfFile and HostsFile are read instead of /etc/resolv.conf and
	// /etc/hosts.
	ConfFile, HostsFile string
}

// Resolver asks DNS. All methods may be used concurrently. It keeps no cache
// of answers: bootstrap wants the present, and dials are rare.
type Resolver struct {
	server string // explicit server, host:port; empty for the system's
	conf   *watchedFile[*dns.ClientConfig]
	hosts  *watchedFile[hostsFile]
}

// NewResolver makes a Resolver. It fails on a malformed Server only; files are
// read when first needed, and again when they change.
func NewResolver(opts ResolverOptions) (*Resolver, error) {
	if opts.ConfFile == "" {
		opts.ConfFile = "/etc/resolv.conf"
	}
	if opts.HostsFile == "" {
		opts.HostsFile = "/etc/hosts"
	}
	r := &Resolver{
		conf:  &watchedFile[*dns.ClientConfig]{path: opts.ConfFile, parse: parseConf},
		hosts: &watchedFile[hostsFile]{path: opts.HostsFile, parse: parseHosts},
	}
	if opts.Server != "" {
		server, err := parseServer(opts.Server)
		if err != nil {
			return nil, fmt.Errorf("--discovery-srv-server %q: %w; give it as host:port", opts.Server, err)
		}
		r.server = server
	}
	return r, nil
}

func parseServer(text string) (string, error) {
	if addr, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return net.JoinHostPort(addr.String(), "53"), nil
	}
	if !strings.Contains(text, ":") {
		text += ":53"
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return "", fmt.Errorf("not an address")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("port is not between 1 and 65535")
	}
	if _, err := netip.ParseAddr(host); err != nil {
		if host, err = hostName(host); err != nil {
			return "", fmt.Errorf("host is not a name or an address")
		}
	}
	return net.JoinHostPort(host, port), nil
}

// policy is whom to ask, how patiently.
type policy struct {
	servers  []string
	timeout  time.Duration // for one server's answer
	attempts int           // rounds over all servers
	conf     *dns.ClientConfig
}

func (r *Resolver) policy(ctx context.Context) (policy, error) {
	conf, err := r.conf.get()
	if err != nil {
		return policy{}, fmt.Errorf("read resolver configuration: %w", err)
	}
	p := policy{
		servers:  conf.Servers,
		timeout:  time.Duration(conf.Timeout) * time.Second,
		attempts: conf.Attempts,
		conf:     conf,
	}
	if r.server == "" {
		return p, nil
	}
	p.conf = &dns.ClientConfig{Ndots: 1}
	p.servers = []string{r.server}
	host, port, _ := net.SplitHostPort(r.server)
	if _, err := netip.ParseAddr(host); err == nil {
		return p, nil
	}
	// The server's own name can only be known to the system.
	addrs, err := (&Resolver{conf: r.conf, hosts: r.hosts}).LookupHost(ctx, host)
	if err != nil {
		return policy{}, &LookupError{Name: host, Err: ErrUnavailable,
			Reason: fmt.Sprintf("the host of --discovery-srv-server %s does not resolve: %s", r.server, reason(err))}
	}
	p.servers = nil
	for _, addr := range addrs[:min(len(addrs), maxServers)] {
		p.servers = append(p.servers, net.JoinHostPort(addr.String(), port))
	}
	return p, nil
}

// ask puts one question to the servers, each in turn and in as many rounds as
// the policy says, until one settles it.
func (p policy) ask(ctx context.Context, name string, qtype uint16) (*dns.Msg, string, error) {
	faults := make(map[string]string, len(p.servers)) // the last of each server
	for range p.attempts {
		for _, server := range p.servers {
			reply, err := exchange(ctx, server, name, qtype, p.timeout)
			if err == nil {
				ok, fault := usable(reply)
				if ok {
					return reply, server, nil
				}
				faults[server] = fault
			} else if ctx.Err() == nil || faults[server] == "" {
				faults[server] = brief(err)
			}
			if ctx.Err() != nil {
				return nil, "", &LookupError{Name: bare(name), Reason: p.faults(faults), Err: unavailable(ctx)}
			}
		}
	}
	return nil, "", &LookupError{Name: bare(name), Reason: p.faults(faults), Err: ErrUnavailable}
}

// unavailable is ErrUnavailable together with why a context ended.
func unavailable(ctx context.Context) error {
	return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
}

func (p policy) faults(faults map[string]string) string {
	var parts []string
	for _, server := range p.servers {
		if fault := faults[server]; fault != "" {
			parts = append(parts, fmt.Sprintf("DNS server %s: %s", server, fault))
		}
	}
	return strings.Join(parts, ", ")
}

// records asks for the records of one type, following CNAMEs, and returns
// those and no others. It returns ErrNotFound when there are none.
func (p policy) records(ctx context.Context, name string, qtype uint16) ([]dns.RR, error) {
	owner := dns.Fqdn(name)
	for hops := 0; hops <= maxChain; {
		reply, server, err := p.ask(ctx, owner, qtype)
		if err != nil {
			return nil, err
		}
		found, end, n := follow(reply.Answer, owner, qtype)
		if len(found) > 0 {
			return found, nil
		}
		if n == 0 || reply.Rcode == dns.RcodeNameError {
			return nil, notFound(name, end, qtype, reply.Rcode, server)
		}
		// An alias whose end the server did not include: ask for that.
		owner, hops = end, hops+n
	}
	return nil, &LookupError{Name: bare(name), Err: ErrUnavailable,
		Reason: fmt.Sprintf("more than %d aliases (CNAME) in a row; the records may form a loop", maxChain)}
}

func notFound(name, end string, qtype uint16, rcode int, server string) error {
	what := "no " + dns.TypeToString[qtype] + " record"
	if rcode == dns.RcodeNameError {
		what = "no such name (NXDOMAIN)"
	}
	if bare(end) != bare(name) {
		what = "alias of " + bare(end) + ": " + what
	}
	return &LookupError{Name: bare(name), Reason: fmt.Sprintf("%s, says DNS server %s", what, server), Err: ErrNotFound}
}

// follow walks the CNAMEs of an answer from owner on and returns the records
// of the wanted type at the end, where the walk ended, and after how many
// aliases. Records of other names are not looked at.
func follow(answer []dns.RR, owner string, qtype uint16) (found []dns.RR, end string, hops int) {
	for hops = 0; hops <= maxChain; hops++ {
		var alias string
		for _, rr := range answer {
			h := rr.Header()
			if h.Class != dns.ClassINET || !strings.EqualFold(h.Name, owner) {
				continue
			}
			if h.Rrtype == qtype {
				found = append(found, rr)
			} else if cname, ok := rr.(*dns.CNAME); ok {
				alias = cname.Target
			}
		}
		if len(found) > 0 || alias == "" {
			return found, owner, hops
		}
		owner = alias
	}
	return nil, owner, hops
}
