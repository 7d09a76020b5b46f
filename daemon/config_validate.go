package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/conclave-kv/conclave/api"
	"github.com/conclave-kv/conclave/auth/token"
	"github.com/conclave-kv/conclave/internal/logging"
)

var (
	// ErrPeerSources: more than one way to find the peers was given.
	ErrPeerSources = errors.New("multiple discovery or bootstrap flags are set")
	// ErrAdvertiseClientURLs: clients would be told an address nobody listens
	// on.
	ErrAdvertiseClientURLs = errors.New("--advertise-client-urls is required when --listen-client-urls is set explicitly")
)

// Bounds of what an operator may ask for. The first is etcd's; the last is
// because the state file's address space, twice the quota, is reserved at once.
const (
	maxElectionTimeout = 50 * time.Second
	// minWatchProgress is etcd's bound too.
	minWatchProgress = 100 * time.Millisecond
	maxNameBytes     = 255
	maxQuota         = 1 << 40
)

// Validate checks the values as given, before WithDefaults. It opens the files
// named by TLS flags to see that they can be read, except the secret file,
// which pki checks more closely. Each error is one line that names the flag,
// the value and what to do.
func (c Config) Validate() error {
	for _, check := range []func() error{
		c.validateName, c.validateURLs, c.validatePeerSource, c.validateTimes,
		c.validateLimits, c.validateCompaction, c.validateTLS, c.validateAuth, c.validateOrigins, c.validateLog, c.validateAudit,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c Config) validateName() error {
	switch {
	case strings.ContainsAny(c.Name, "=,"):
		return fmt.Errorf("--name %q must not contain = or , (they separate members in --initial-cluster)", c.Name)
	case strings.ContainsFunc(c.Name, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return fmt.Errorf("--name %q must not contain spaces or control characters", c.Name)
	case len(c.Name) > maxNameBytes:
		return fmt.Errorf("--name is %d bytes long; use at most %d", len(c.Name), maxNameBytes)
	case c.DataDir == "" && (strings.ContainsAny(c.Name, `/\`) || c.Name == "." || c.Name == ".."):
		return fmt.Errorf("--name %q cannot name the default data directory: choose another name or give --data-dir", c.Name)
	}
	return nil
}

func (c Config) validateURLs() error {
	for _, l := range []struct {
		flag string
		urls URLs
	}{
		{"listen-peer-urls", c.ListenPeerURLs}, {"listen-client-urls", c.ListenClientURLs},
		{"listen-client-http-urls", c.ListenClientHTTPURLs},
		{"listen-metrics-urls", c.ListenMetricsURLs},
	} {
		if err := l.urls.checkBind(l.flag); err != nil {
			return err
		}
	}
	if err := cmp.Or(c.ListenPeerURLs.noSockets("listen-peer-urls"), c.AdvertisePeerURLs.noSockets("initial-advertise-peer-urls")); err != nil {
		return err
	}
	if err := c.AdvertisePeerURLs.checkHost("initial-advertise-peer-urls"); err != nil {
		return err
	}
	if err := c.AdvertiseClientURLs.checkHost("advertise-client-urls"); err != nil {
		return err
	}
	if len(c.ListenClientURLs) > 0 && len(c.AdvertiseClientURLs) == 0 && c.DiscoverySRV == "" {
		return fmt.Errorf("%w: add --advertise-client-urls with the URLs clients reach this member by", ErrAdvertiseClientURLs)
	}
	return c.validateDistinctListeners()
}

// validateDistinctListeners refuses one address for two ports, which would
// fail later with a message about a port in use.
func (c Config) validateDistinctListeners() error {
	taken := map[string]string{}
	for _, l := range []struct {
		flag string
		urls URLs
	}{
		{"--listen-peer-urls", c.ListenPeerURLs}, {"--listen-client-urls", c.ListenClientURLs},
		{"--listen-client-http-urls", c.ListenClientHTTPURLs}, {"--listen-metrics-urls", c.ListenMetricsURLs},
	} {
		for _, u := range l.urls {
			if u.Port() == "0" && !isSocket(u) {
				continue
			}
			addr, what := u.Host, "port"
			if isSocket(u) {
				addr, what = socketPath(u), "file"
			}
			// http and https may share the port of clients.
			if other, ok := taken[addr]; ok && (other != l.flag || l.flag == "--listen-peer-urls") {
				return fmt.Errorf("%s and %s both listen on %s: give each its own %s", other, l.flag, addr, what)
			}
			taken[addr] = l.flag
		}
	}
	return nil
}

func (c Config) validatePeerSource() error {
	if c.InitialCluster != "" && c.DiscoverySRV != "" {
		return fmt.Errorf(`%w. Choose one of "initial-cluster" or "discovery-srv" (given: --initial-cluster %q and --discovery-srv %q)`,
			ErrPeerSources, c.InitialCluster, c.DiscoverySRV)
	}
	if c.InitialClusterState != ClusterStateNew && c.InitialClusterState != ClusterStateExisting {
		return fmt.Errorf(`--initial-cluster-state %q: use "new" to form a cluster or "existing" to join one`, c.InitialClusterState)
	}
	if c.DiscoverySRV == "" {
		for _, f := range []struct{ flag, value string }{
			{"discovery-srv-name", c.DiscoverySRVName}, {"discovery-srv-server", c.DiscoverySRVServer},
		} {
			if f.value != "" {
				return fmt.Errorf("--%s %q needs --discovery-srv: add it with the domain that holds the records", f.flag, f.value)
			}
		}
		return nil
	}
	if strings.ContainsAny(c.DiscoverySRV, ":/ ,") {
		return fmt.Errorf("--discovery-srv %q is not a domain name: write the domain alone, as in example.com", c.DiscoverySRV)
	}
	if s := c.DiscoverySRVServer; s != "" {
		if host, port, err := net.SplitHostPort(s); err != nil || host == "" || port == "" {
			return fmt.Errorf("--discovery-srv-server %q is not host:port: write the DNS server's address and port, as in 10.0.0.2:53", s)
		}
	}
	if c.DiscoveryTimeout <= 0 {
		return fmt.Errorf("--discovery-timeout %s must be above zero, as in 5m", c.DiscoveryTimeout)
	}
	return nil
}

func (c Config) validateTimes() error {
	heartbeat, election := c.HeartbeatInterval, c.ElectionTimeout
	switch {
	case heartbeat <= 0:
		return fmt.Errorf("--heartbeat-interval must be >0 (set to %dms); etcd's default is 100", heartbeat.Milliseconds())
	case election <= 0:
		return fmt.Errorf("--election-timeout must be >0 (set to %dms); etcd's default is 1000", election.Milliseconds())
	case election < 5*heartbeat:
		return fmt.Errorf("--election-timeout[%vms] should be at least as 5 times as --heartbeat-interval[%vms]: raise it to %d or more",
			election.Milliseconds(), heartbeat.Milliseconds(), 5*heartbeat.Milliseconds())
	case election > maxElectionTimeout:
		return fmt.Errorf("--election-timeout[%vms] is too long, and should be set less than %vms",
			election.Milliseconds(), maxElectionTimeout.Milliseconds())
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{
		{"grpc-keepalive-min-time", c.KeepAliveMinTime}, {"grpc-keepalive-interval", c.KeepAliveInterval},
		{"grpc-keepalive-timeout", c.KeepAliveTimeout}, {"warning-unary-request-duration", c.WarnRequest},
	} {
		if d.value < 0 {
			return fmt.Errorf("--%s %s must not be negative; 0 turns it off", d.flag, d.value)
		}
	}
	return nil
}

// maxRequest is the largest --max-request-bytes: a batch of requests with one
// more of that size is one log entry, of raftstore.MaxEntry bytes at most.
const maxRequest = 60 << 20

func (c Config) validateLimits() error {
	switch {
	case c.MaxRequestBytes == 0:
		return errors.New("--max-request-bytes 0 would refuse every request; etcd's default is 1572864")
	case c.MaxRequestBytes > maxRequest:
		return fmt.Errorf("--max-request-bytes %d is more than one log entry can hold; use at most %d", c.MaxRequestBytes, maxRequest)
	case c.QuotaBackendBytes > maxQuota:
		return fmt.Errorf("--quota-backend-bytes %d is above the maximum of %d (1 TiB); etcd suggests at most 8 GiB", c.QuotaBackendBytes, int64(maxQuota))
	case c.SnapshotCatchUpEntries == 0:
		return errors.New("--snapshot-catchup-entries 0 would send the whole state to every member that is one entry behind; etcd's default is 5000")
	case c.MaxTxnOps == 0:
		return errors.New("--max-txn-ops 0 would refuse every transaction; etcd's default is 128")
	case c.WatchProgressInterval != 0 && c.WatchProgressInterval < minWatchProgress:
		return fmt.Errorf("--watch-progress-notify-interval %v is too short; use %v or more, or 0 for the default of 10m", c.WatchProgressInterval, minWatchProgress)
	case c.MaxConcurrentStreams == 0:
		return errors.New("--max-concurrent-streams 0 would refuse every request; etcd's default is 4294967295")
	}
	return nil
}

// certUserDefault is --client-cert-user, as in etcd.
const certUserDefault = "cn"

func (c Config) validateTLS() error {
	if c.ClientCertUser != "" && token.CertificateUser(c.ClientCertUser) == nil {
		return fmt.Errorf("--client-cert-user %q: use cn, uri or dns", c.ClientCertUser)
	}
	if c.ClusterSecretFile != "" {
		if c.PeerTLS.Given() || c.ClientTLS.Given() {
			return fmt.Errorf("--cluster-secret-file %q and certificates of your own (--cert-file, --peer-cert-file, ...) exclude each other: keep one of the two", c.ClusterSecretFile)
		}
	} else {
		if err := c.PeerTLS.validate("peer-"); err != nil {
			return err
		}
		if err := c.ClientTLS.validate(""); err != nil {
			return err
		}
	}
	if err := c.validateTLSVersions(); err != nil {
		return err
	}
	return c.validateSchemes()
}

// validateSchemes compares what the URLs promise with the certificates there
// are. Plain client URLs beside certificates are allowed, as in etcd (Warnings
// tells); plain peer URLs are not once a secret is given.
func (c Config) validateSchemes() error {
	for _, l := range []struct {
		flag, cert string
		urls       URLs
		files      TLSFiles
	}{
		{"listen-peer-urls", "--peer-cert-file, --peer-key-file", c.ListenPeerURLs, c.PeerTLS},
		{"initial-advertise-peer-urls", "--peer-cert-file, --peer-key-file", c.AdvertisePeerURLs, c.PeerTLS},
		{"listen-client-urls", "--cert-file, --key-file", c.ListenClientURLs, c.ClientTLS},
		{"listen-client-http-urls", "--cert-file, --key-file", c.ListenClientHTTPURLs, c.ClientTLS},
		{"listen-metrics-urls", "--cert-file, --key-file", c.ListenMetricsURLs, c.ClientTLS},
	} {
		if u, ok := l.urls.secure(); ok && l.files.CertFile == "" && c.ClusterSecretFile == "" {
			return fmt.Errorf("--%s: TLS key/cert (%s) must be provided for url %s with HTTPS scheme, or --cluster-secret-file to have conclave issue them", l.flag, l.cert, u.String())
		}
		if !strings.Contains(l.flag, "peer") {
			continue
		}
		if u, ok := l.urls.withScheme("http"); ok && c.ClusterSecretFile != "" {
			return fmt.Errorf("--%s %s is plain text, but members with --cluster-secret-file %s speak TLS: write https, or leave the secret out", l.flag, u.String(), c.ClusterSecretFile)
		}
	}
	return nil
}

func (c Config) validateOrigins() error {
	if err := api.CheckOrigins(c.CORS); err != nil {
		return fmt.Errorf("--cors %s: %w", strings.Join(c.CORS, ","), err)
	}
	for _, h := range c.HostWhitelist {
		if h == "" || strings.ContainsAny(h, "/: \t") && net.ParseIP(h) == nil {
			return fmt.Errorf("--host-whitelist %q: write host names or addresses alone, without scheme and port", h)
		}
	}
	return nil
}

func (c Config) validateLog() error {
	if _, err := logging.ParseLevel(c.LogLevel); err != nil {
		return err
	}
	if _, err := logging.ParseFormat(c.LogFormat); err != nil {
		return err
	}
	if c.Metrics != MetricsBasic && c.Metrics != MetricsExtensive {
		return fmt.Errorf("--metrics %q: use basic or extensive", c.Metrics)
	}
	if c.WarnApply < 0 {
		return fmt.Errorf("--warning-apply-duration %s must not be negative", c.WarnApply)
	}
	_, err := c.Rotation()
	return err
}

// Rotation is how the log file is rotated; nil: it is not.
func (c Config) Rotation() (*logging.Rotation, error) {
	if !c.EnableLogRotation {
		return nil, nil
	}
	return logging.ParseRotation(c.LogRotation, c.LogOutputs)
}

// Warnings returns what is allowed but worth a line in the log, one sentence
// each.
func (c Config) Warnings() []string {
	var out []string
	for _, l := range []struct {
		flag string
		urls URLs
		tls  bool
	}{
		{"--listen-peer-urls", c.ListenPeerURLs, c.PeerTLS.CertFile != ""},
		{"--listen-client-urls", c.ListenClientURLs, c.ClientTLS.CertFile != "" || c.ClusterSecretFile != ""},
		{"--listen-client-http-urls", c.ListenClientHTTPURLs, c.ClientTLS.CertFile != "" || c.ClusterSecretFile != ""},
	} {
		if u, ok := l.urls.plain(); ok && l.tls {
			out = append(out, fmt.Sprintf("%s %s is plain text: the certificates given are ignored there", l.flag, u.String()))
		}
	}
	if c.HeartbeatInterval < c.ElectionTimeout/10 {
		out = append(out, fmt.Sprintf("heartbeats follow --election-timeout %s: they are sent every %s to %s, not every --heartbeat-interval %s",
			c.ElectionTimeout, c.ElectionTimeout/20, c.ElectionTimeout/10, c.HeartbeatInterval))
	}
	if c.QuotaBackendBytes > 8<<30 {
		out = append(out, fmt.Sprintf("--quota-backend-bytes %d is above the suggested maximum of 8 GiB", c.QuotaBackendBytes))
	}
	if c.MaxRequestBytes > 10<<20 {
		out = append(out, fmt.Sprintf("--max-request-bytes %d is above the suggested maximum of 10 MiB", c.MaxRequestBytes))
	}
	if slices.Contains(c.CORS, "*") {
		out = append(out, "--cors * lets no page of another origin use the gateway, as without the flag: name the origins that may")
	}
	return out
}
