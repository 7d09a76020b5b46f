package api

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"syscall"
)

// ListenConfig says where clients may knock. A URL's scheme is http, https,
// unix or unixs; http and https URLs of the same host and port share a socket.
type ListenConfig struct {
	ClientURLs  []url.URL // --listen-client-urls: gRPC and HTTP
	HTTPURLs    []url.URL // --listen-client-http-urls: if any, HTTP moves here and ClientURLs serve gRPC only
	MetricsURLs []url.URL // --listen-metrics-urls: health and metrics only
	// Listen opens a socket; nil: net.Listen.
	Listen func(network, addr string) (net.Listener, error)
}

// role is what a socket serves.
type role int

const (
	roleClient   role = iota // gRPC and HTTP
	roleGRPCOnly             // gRPC
	roleHTTPOnly             // HTTP
	roleMetrics              // health and metrics
)

// flag is the flag that asked for a socket of this role.
func (r role) flag() string {
	switch r {
	case roleHTTPOnly:
		return "--listen-client-http-urls"
	case roleMetrics:
		return "--listen-metrics-urls"
	}
	return "--listen-client-urls"
}

// socket is one bound address.
type socket struct {
	net.Listener
	role       role
	plain, tls bool
}

// Listeners are the bound sockets, not yet accepting. Clients that connect
// meanwhile wait in the kernel's queue.
type Listeners struct {
	sockets []*socket
	urls    map[string]*socket // by flag and URL as given
	cfg     ListenConfig
}

// Listen binds every address or none. The error names the flag, the address
// and the reason.
func Listen(cfg ListenConfig) (*Listeners, error) {
	if cfg.Listen == nil {
		cfg.Listen = net.Listen
	}
	l := &Listeners{urls: make(map[string]*socket), cfg: cfg}
	client := roleClient
	if len(cfg.HTTPURLs) > 0 {
		client = roleGRPCOnly
	}
	for _, g := range []struct {
		role role
		urls []url.URL
	}{{client, cfg.ClientURLs}, {roleHTTPOnly, cfg.HTTPURLs}, {roleMetrics, cfg.MetricsURLs}} {
		if err := l.bindAll(g.role, g.urls); err != nil {
			_ = l.Close()
			return nil, err
		}
	}
	return l, nil
}

func (l *Listeners) bindAll(r role, urls []url.URL) error {
	shared := make(map[string]*socket) // by network and address
	for _, u := range urls {
		network, addr, secure, err := listenAddr(u)
		if err != nil {
			return fmt.Errorf("%s: %w", r.flag(), err)
		}
		s := shared[network+" "+addr]
		if s == nil {
			ln, err := l.bind(network, addr)
			if err != nil {
				return l.bindError(r, addr, err)
			}
			s = &socket{Listener: ln, role: r}
			shared[network+" "+addr] = s
			l.sockets = append(l.sockets, s)
		}
		s.tls = s.tls || secure
		s.plain = s.plain || !secure
		l.urls[r.flag()+u.String()] = s
	}
	return nil
}

// listenAddr reads a URL as an address to listen on. unix://name:1 is the
// socket file "name:1" in the working directory, unix:///a/b the file /a/b.
func listenAddr(u url.URL) (network, addr string, secure bool, err error) {
	switch u.Scheme {
	case "http", "https":
		if u.Port() == "" {
			return "", "", false, fmt.Errorf("%q has no port; write host:port", u.String())
		}
		return "tcp", u.Host, u.Scheme == "https", nil
	case "unix", "unixs":
		return "unix", u.Host + u.Path, u.Scheme == "unixs", nil
	}
	return "", "", false, fmt.Errorf("%q: the scheme must be http, https, unix or unixs", u.String())
}

// bind listens; a socket file nobody listens on any more is replaced.
func (l *Listeners) bind(network, addr string) (net.Listener, error) {
	ln, err := l.cfg.Listen(network, addr)
	if network != "unix" || !errors.Is(err, syscall.EADDRINUSE) {
		return ln, err
	}
	info, statErr := os.Lstat(addr)
	if statErr != nil || info.Mode()&os.ModeSocket == 0 {
		return nil, err
	}
	c, dialErr := net.Dial(network, addr)
	if dialErr == nil {
		_ = c.Close()
		return nil, err
	}
	if !errors.Is(dialErr, syscall.ECONNREFUSED) || os.Remove(addr) != nil {
		return nil, err
	}
	return l.cfg.Listen(network, addr)
}

// bindError says what to change; err tells who is in the way only by its kind.
func (l *Listeners) bindError(r role, addr string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		if flag := l.taker(addr); flag != "" {
			return fmt.Errorf("%s: %s is already in use by %s of this process; give each its own port: %w", r.flag(), addr, flag, err)
		}
		return fmt.Errorf("%s: %s is already in use by another process; stop it, or give another address: %w", r.flag(), addr, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s: %s is not an address of this host; give one that is: %w", r.flag(), addr, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s: no permission to listen on %s; give a port above 1023 or more rights: %w", r.flag(), addr, err)
	}
	return fmt.Errorf("%s: listen on %s: %w", r.flag(), addr, err)
}

// taker is the flag by which this process took the port of addr itself, if so.
func (l *Listeners) taker(addr string) string {
	for _, s := range l.sockets {
		_, mine, err := net.SplitHostPort(s.Addr().String())
		if _, port, err2 := net.SplitHostPort(addr); err == nil && err2 == nil && mine == port {
			return s.role.flag()
		}
	}
	return ""
}

// ClientURLs are the client URLs as bound: port 0 is replaced by the port the
// system chose. The order is that of the configuration.
func (l *Listeners) ClientURLs() []url.URL { return l.bound(roleClient, l.cfg.ClientURLs) }

// HTTPURLs are the HTTP-only client URLs as bound.
func (l *Listeners) HTTPURLs() []url.URL { return l.bound(roleHTTPOnly, l.cfg.HTTPURLs) }

// MetricsURLs are the metrics URLs as bound.
func (l *Listeners) MetricsURLs() []url.URL { return l.bound(roleMetrics, l.cfg.MetricsURLs) }

func (l *Listeners) bound(r role, urls []url.URL) []url.URL {
	out := make([]url.URL, len(urls))
	for i, u := range urls {
		if a, ok := l.urls[r.flag()+u.String()].Addr().(*net.TCPAddr); ok && u.Port() == "0" {
			u.Host = net.JoinHostPort(u.Hostname(), fmt.Sprint(a.Port))
		}
		out[i] = u
	}
	return out
}

// Close gives all sockets back. A Server that was given them does so itself.
func (l *Listeners) Close() error {
	var errs []error
	for _, s := range l.sockets {
		if err := s.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
