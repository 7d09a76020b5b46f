package daemon

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// URLs is a list of URLs a member listens on or is known by: sorted, without
// repetitions, as etcd keeps them (member ids are derived from the sorted
// list).
type URLs []url.URL

// ParseURLs reads a comma-separated list of URLs of the form
// scheme://host:port with scheme http or https, or of socket files as etcd
// names them: unix:///a/b is /a/b, unix://c:1 is the file c:1 in the working
// directory, and unixs the same with TLS. An empty string is an empty list. Errors name the URL and what to write instead, not the flag.
func ParseURLs(list string) (URLs, error) {
	if strings.TrimSpace(list) == "" {
		return nil, nil
	}
	var urls URLs
	for s := range strings.SplitSeq(list, ",") {
		u, err := parseURL(strings.TrimSpace(s))
		if err != nil {
			return nil, err
		}
		urls = append(urls, u)
	}
	slices.SortFunc(urls, func(a, b url.URL) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(urls), nil
}

// MustParseURLs is ParseURLs for lists written in the program; it panics on a
// malformed one.
func MustParseURLs(list string) URLs {
	urls, err := ParseURLs(list)
	if err != nil {
		panic(err)
	}
	return urls
}

// HideUsers returns a flag's value fit for messages and logs: what stands
// between the scheme and the last @ of URLs may be a password.
func HideUsers(value string) string {
	scheme, at := strings.Index(value, "://"), strings.LastIndex(value, "@")
	if scheme < 0 || at < scheme {
		return value
	}
	return value[:scheme] + "://***" + value[at:]
}

func parseURL(s string) (url.URL, error) {
	u, err := url.Parse(s)
	s = HideUsers(s)
	if err != nil || u.Scheme == "" || !strings.Contains(s, "://") {
		return url.URL{}, fmt.Errorf("%q is not a URL: write scheme://host:port, as in http://10.0.0.1:2380", s)
	}
	switch u.Scheme {
	case "http", "https":
	case "unix", "unixs":
		return socketURL(*u, s)
	default:
		return url.URL{}, fmt.Errorf("URL scheme must be http, https, unix, or unixs: %q", s)
	}
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil || port == "" {
		return url.URL{}, fmt.Errorf(`URL address does not have the form "host:port": %q; add the port, as in %s://%s:2379 for clients or :2380 for peers`,
			s, u.Scheme, strings.TrimSuffix(u.Host, ":"))
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return url.URL{}, fmt.Errorf("URL %q: port %q is not a number from 0 to 65535", s, port)
	}
	if strings.ContainsAny(host, " \t") {
		return url.URL{}, fmt.Errorf("URL %q: the host must not contain spaces", s)
	}
	if u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return url.URL{}, fmt.Errorf("URL must not contain a path, a query or a user: %q; write %s://%s", s, u.Scheme, u.Host)
	}
	return *u, nil
}

// maxSocketPath is how long the name of a socket file may be, in bytes: Linux takes
// 107, others less.
const maxSocketPath = 103

// socketURL checks a URL of a socket file.
func socketURL(u url.URL, text string) (url.URL, error) {
	switch path := socketPath(u); {
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil || u.Opaque != "":
		return url.URL{}, fmt.Errorf("URL must not contain a query or a user: %q; write %s:///path/to/socket", text, u.Scheme)
	case strings.Trim(path, "/") == "" || strings.HasSuffix(path, "/"):
		return url.URL{}, fmt.Errorf("URL %q names no socket file; write %s:///path/to/socket", text, u.Scheme)
	case len(path) > maxSocketPath:
		return url.URL{}, fmt.Errorf("URL %q: the name of a socket file has at most %d bytes, this one %d", text, maxSocketPath, len(path))
	}
	return u, nil
}

// isSocket reports whether a URL names a socket file, which socketPath returns.
func isSocket(u url.URL) bool { return u.Scheme == "unix" || u.Scheme == "unixs" }

func socketPath(u url.URL) string { return u.Host + u.Path }

// Strings returns the URLs as text, in order.
func (u URLs) Strings() []string {
	out := make([]string, len(u))
	for i := range u {
		out[i] = u[i].String()
	}
	return out
}

// String returns the list as a flag value.
func (u URLs) String() string { return strings.Join(u.Strings(), ",") }

// localhostURLs returns the one-URL list etcd listens on by default.
func localhostURLs(scheme, port string) URLs {
	return URLs{{Scheme: scheme, Host: net.JoinHostPort("localhost", port)}}
}

// advertised returns what to tell others about a list that is listened on and
// for which nothing else was given: the same, with localhost in the place of
// "every address", which is no address to dial.
func (u URLs) advertised() URLs {
	out := make(URLs, len(u))
	for i, v := range u {
		if ip, err := netip.ParseAddr(v.Hostname()); err == nil && ip.IsUnspecified() {
			v.Host = net.JoinHostPort("localhost", v.Port())
		}
		out[i] = v
	}
	return slices.Compact(out)
}

// assigned writes the list in the form of --initial-cluster.
func (u URLs) assigned(name string) string {
	parts := make([]string, len(u))
	for i := range u {
		parts[i] = name + "=" + u[i].String()
	}
	return strings.Join(parts, ",")
}

// checkBind refuses hosts that cannot be bound: names other than localhost.
func (u URLs) checkBind(flag string) error {
	for _, v := range u {
		if _, err := netip.ParseAddr(v.Hostname()); err != nil && v.Hostname() != "localhost" && !isSocket(v) {
			return fmt.Errorf("--%s: expected IP in URL for binding (%s); use an address of this host, 0.0.0.0 for all of them, or localhost", flag, v.String())
		}
	}
	return nil
}

// checkHost refuses URLs without a host, which nobody could dial.
func (u URLs) checkHost(flag string) error {
	for _, v := range u {
		if v.Hostname() == "" && !isSocket(v) {
			return fmt.Errorf(`--%s %q must be "host:port" (unexpected empty host (%s)); write the name or address others reach this member by`, flag, u, v.String())
		}
	}
	return nil
}

// noSockets refuses socket files for members, which are on other hosts.
func (u URLs) noSockets(flag string) error {
	for _, v := range u {
		if isSocket(v) {
			return fmt.Errorf("--%s %s: members reach each other over the network; write %s://host:port", flag, v.String(),
				strings.Replace(v.Scheme, "unix", "http", 1))
		}
	}
	return nil
}

// secure returns the first URL that promises TLS, plain the first that does not.
func (u URLs) secure() (url.URL, bool) {
	if v, ok := u.withScheme("https"); ok {
		return v, true
	}
	return u.withScheme("unixs")
}

func (u URLs) plain() (url.URL, bool) {
	if v, ok := u.withScheme("http"); ok {
		return v, true
	}
	return u.withScheme("unix")
}

// withScheme returns the first URL of the given scheme.
func (u URLs) withScheme(scheme string) (url.URL, bool) {
	i := slices.IndexFunc(u, func(v url.URL) bool { return v.Scheme == scheme })
	if i < 0 {
		return url.URL{}, false
	}
	return u[i], true
}
