package dnssrv

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxServers bounds the servers taken from resolv.conf; libc takes three.
	maxServers = 8
	// maxSearch bounds the search list; libc takes six.
	maxSearch = 16
	// recheck is how long a parsed file is used before its change is noticed:
	// a member runs for months, and its resolv.conf changes with the network.
	recheck = 5 * time.Second
)

// watchedFile keeps the parsed form of a file and reads it again when it has
// changed. A missing file parses as an empty one.
type watchedFile[T any] struct {
	path  string
	parse func(io.Reader) (T, error)

	mu      sync.Mutex
	value   T
	loaded  bool
	checked time.Time
	mtime   time.Time
	size    int64
}

// get returns the parsed file, at most recheck old. A file that cannot be read
// again leaves the last good value in use.
func (w *watchedFile[T]) get() (T, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.loaded && now.Sub(w.checked) < recheck {
		return w.value, nil
	}
	w.checked = now
	mtime, size := time.Time{}, int64(0)
	if info, err := os.Stat(w.path); err == nil {
		mtime, size = info.ModTime(), info.Size()
	}
	if w.loaded && mtime.Equal(w.mtime) && size == w.size {
		return w.value, nil
	}
	value, err := w.read()
	if err != nil {
		if w.loaded {
			return w.value, nil
		}
		return w.value, err
	}
	w.value, w.loaded, w.mtime, w.size = value, true, mtime, size
	return w.value, nil
}

func (w *watchedFile[T]) read() (T, error) {
	file, err := os.Open(w.path)
	if errors.Is(err, fs.ErrNotExist) {
		return w.parse(strings.NewReader(""))
	}
	if err != nil {
		var zero T
		return zero, err
	}
	defer file.Close()
	return w.parse(file)
}

// parseConf reads a resolv.conf. Servers come back as host:port; without any
// the local machine is asked, as libc does.
func parseConf(r io.Reader) (*dns.ClientConfig, error) {
	conf, err := dns.ClientConfigFromReader(r)
	if err != nil {
		return nil, err
	}
	servers := conf.Servers
	if len(servers) == 0 {
		servers = []string{"127.0.0.1", "::1"}
	}
	conf.Servers = nil
	for _, server := range servers[:min(len(servers), maxServers)] {
		conf.Servers = append(conf.Servers, net.JoinHostPort(server, conf.Port))
	}
	conf.Search = conf.Search[:min(len(conf.Search), maxSearch)]
	conf.Timeout = min(max(conf.Timeout, 1), 30)  // seconds; libc's bounds
	conf.Attempts = min(max(conf.Attempts, 1), 5) // likewise
	return conf, nil
}

// hostsFile maps names, lower case, to the addresses of a hosts file in the
// file's order.
type hostsFile map[string][]netip.Addr

// parseHosts reads a hosts file (hosts(5)); lines that do not begin with an
// address are passed over, as libc does.
func parseHosts(r io.Reader) (hostsFile, error) {
	hosts := make(hostsFile)
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), 1<<20)
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue
		}
		for _, name := range fields[1:] {
			name = bare(name)
			hosts[name] = append(hosts[name], addr.Unmap())
		}
	}
	return hosts, lines.Err()
}
