package daemon

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseURLs_sortedOnce(t *testing.T) {
	urls, err := ParseURLs(" http://10.0.0.2:2380,http://10.0.0.1:2380 ,http://10.0.0.2:2380")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"http://10.0.0.1:2380", "http://10.0.0.2:2380"}; !slices.Equal(urls.Strings(), want) {
		t.Errorf("got %q, want %q", urls.Strings(), want)
	}
	if urls, err := ParseURLs(""); err != nil || urls != nil {
		t.Errorf("empty list: got %v, %v", urls, err)
	}
}

func TestParseURLs_refused(t *testing.T) {
	for list, want := range map[string]string{
		"http://10.0.0.1":                      "http://10.0.0.1:2379 for clients",
		"http://10.0.0.1:":                     "http://10.0.0.1:2379 for clients",
		"http://[::1]":                         "http://[::1]:2379 for clients",
		"localhost:2379":                       "write scheme://host:port",
		"10.0.0.1:2379":                        "write scheme://host:port",
		"unix://":                              "names no socket file",
		"unix:///run/":                         "names no socket file",
		"unix:///run/x?y":                      "must not contain a query",
		"unixs:///" + strings.Repeat("x", 103): "has at most 103 bytes",
		"ftp://10.0.0.1:21":                    "scheme must be http, https, unix, or unixs",
		"http://10.0.0.1:65536":                "not a number from 0 to 65535",
		"http://10.0.0.1:x":                    "is not a URL",
		"http://10.0.0.1:1/a":                  "must not contain a path",
		"http://a:b@10.0.0.1:1":                `must not contain a path, a query or a user: "http://***@10.0.0.1:1"`,
		"http://a:b@c:d@10.0.0.1":              `"http://***@10.0.0.1"`,
		"x://a:b@10.0.0.1:1":                   `"x://***@10.0.0.1:1"`,
		"http://10.0.0.1:1,":                   "is not a URL",
		"http://10.0.0.1:1?x=y":                "must not contain a path",
		"http://10.0.0.1:1;http://b":           "is not a URL",
	} {
		if urls, err := ParseURLs(list); err == nil {
			t.Errorf("%s: got %s, want an error", list, urls)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %q, want it to say %q", list, err, want)
		}
	}
}

func TestConfig_defaults(t *testing.T) {
	cfg := NewConfig()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	cfg = cfg.WithDefaults()
	for what, got := range map[string][2]string{
		"name":             {cfg.Name, "default"},
		"data directory":   {cfg.DataDir, "default.conclave"},
		"listen peers":     {cfg.ListenPeerURLs.String(), "http://localhost:2380"},
		"listen clients":   {cfg.ListenClientURLs.String(), "http://localhost:2379"},
		"advertise peer":   {cfg.AdvertisePeerURLs.String(), "http://localhost:2380"},
		"advertise client": {cfg.AdvertiseClientURLs.String(), "http://localhost:2379"},
		"initial cluster":  {cfg.InitialCluster, "default=http://localhost:2380"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: got %q, want %q", what, got[0], got[1])
		}
	}
	if cfg.RequestTimeout() != 7*time.Second {
		t.Errorf("request timeout: got %s, want etcd's 7 s", cfg.RequestTimeout())
	}
}

func TestConfig_defaultsWithSecret(t *testing.T) {
	cfg := NewConfig()
	cfg.ClusterSecretFile = "/s"
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	cfg = cfg.WithDefaults()
	if got, want := cfg.InitialCluster, "default=https://localhost:2380"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := cfg.ListenClientURLs.String(); got != "https://localhost:2379" {
		t.Errorf("clients: got %q, want https", got)
	}
}

// What a member listens on is what others are told, except for "every
// address", which nobody can dial.
func TestConfig_defaultsFromListen(t *testing.T) {
	cfg := NewConfig()
	cfg.Name = "a"
	cfg.ListenPeerURLs = MustParseURLs("http://0.0.0.0:1380,http://10.0.0.1:1380")
	cfg = cfg.WithDefaults()
	if got, want := cfg.InitialCluster, "a=http://localhost:1380,a=http://10.0.0.1:1380"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if cfg.DataDir != "a.conclave" {
		t.Errorf("got directory %q", cfg.DataDir)
	}
}

// With SRV records the name and the URLs come from this host's record, but the
// directory must be known before.
func TestConfig_defaultsWithSRV(t *testing.T) {
	cfg := NewConfig()
	cfg.DiscoverySRV = "example.com"
	cfg.ListenClientURLs = MustParseURLs("http://10.0.0.1:2379")
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	cfg = cfg.WithDefaults()
	if cfg.Name != "" || cfg.InitialCluster != "" || cfg.ListenPeerURLs != nil || cfg.AdvertisePeerURLs != nil || cfg.AdvertiseClientURLs != nil {
		t.Errorf("filled in before discovery: %+v", cfg)
	}
	if cfg.DataDir != "default.conclave" {
		t.Errorf("got directory %q", cfg.DataDir)
	}
}

func TestConfig_refused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.pem")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"--name":                          func(c *Config) { c.Name = "a b" },
		"at most 255":                     func(c *Config) { c.Name = strings.Repeat("n", 256) },
		"cannot name the default data":    func(c *Config) { c.Name = ".." },
		"--listen-peer-urls: expected IP": func(c *Config) { c.ListenPeerURLs = MustParseURLs("http://m1.example.com:2380") },
		"unexpected empty host":           func(c *Config) { c.AdvertiseClientURLs = MustParseURLs("http://:2379") },
		"--listen-peer-urls and --listen-metrics-urls both listen on 10.0.0.1:2380": func(c *Config) {
			c.ListenPeerURLs = MustParseURLs("http://10.0.0.1:2380")
			c.ListenMetricsURLs = MustParseURLs("http://10.0.0.1:2380")
		},
		"--initial-cluster-state":              func(c *Config) { c.InitialClusterState = "" },
		"--discovery-srv-name":                 func(c *Config) { c.DiscoverySRVName = "x" },
		"--discovery-timeout 0s":               func(c *Config) { c.DiscoverySRV, c.DiscoveryTimeout = "example.com", 0 },
		"as in 10.0.0.2:53":                    func(c *Config) { c.DiscoverySRV, c.DiscoverySRVServer = "example.com", "10.0.0.2" },
		"--heartbeat-interval must be":         func(c *Config) { c.HeartbeatInterval = 0 },
		"--election-timeout must be":           func(c *Config) { c.ElectionTimeout = 0 },
		"at least as 5 times":                  func(c *Config) { c.ElectionTimeout = 499 * time.Millisecond },
		"less than 50000ms":                    func(c *Config) { c.ElectionTimeout = 51 * time.Second },
		"--grpc-keepalive-timeout":             func(c *Config) { c.KeepAliveTimeout = -1 },
		"--max-request-bytes":                  func(c *Config) { c.MaxRequestBytes = 0 },
		"--snapshot-catchup-entries":           func(c *Config) { c.SnapshotCatchUpEntries = 0 },
		"--max-txn-ops":                        func(c *Config) { c.MaxTxnOps = 0 },
		"--max-concurrent-streams":             func(c *Config) { c.MaxConcurrentStreams = 0 },
		"--watch-progress-notify":              func(c *Config) { c.WatchProgressInterval = time.Millisecond },
		"--peer-key-file":                      func(c *Config) { c.PeerTLS.KeyFile = file },
		"--client-crl-file needs":              func(c *Config) { c.ClientTLS.CRLFile = file },
		"--peer-client-cert-auth needs":        func(c *Config) { c.PeerTLS.ClientCertAuth = true },
		"--peer-cert-allowed-cn needs":         func(c *Config) { c.PeerTLS.AllowedCNs = []string{"m1"} },
		"--peer-cert-allowed-hostname n":       func(c *Config) { c.PeerTLS.AllowedHostnames = []string{"m1"} },
		"--client-cert-allowed-hostname needs": func(c *Config) { c.ClientTLS.AllowedHostnames = []string{"m1"} },
		"--peer-trusted-ca-file: open":         func(c *Config) { c.PeerTLS.TrustedCAFile = file + "x" },
		"--listen-client-urls: TLS key":        func(c *Config) { c.ListenClientURLs, c.AdvertiseClientURLs = https(2379), https(2379) },
		"--initial-advertise-peer-urls:":       func(c *Config) { c.AdvertisePeerURLs = https(2380) },
		"exclude each other":                   func(c *Config) { c.ClusterSecretFile, c.PeerTLS.AllowedCNs = "/s", []string{"a"} },
		"min version (TLS1.3)":                 func(c *Config) { c.TLSMinVersion, c.TLSMaxVersion = "TLS1.3", "TLS1.2" },
		"cipher suites cannot be":              func(c *Config) { c.TLSMinVersion, c.CipherSuites = "TLS1.3", []string{goodSuite} },
		"is insecure":                          func(c *Config) { c.CipherSuites = []string{"TLS_RSA_WITH_RC4_128_SHA"} },
		"unexpected TLS cipher suite":          func(c *Config) { c.CipherSuites = []string{"ROT13"} },
		"--log-level":                          func(c *Config) { c.LogLevel = "loud" },
		"--log-format":                         func(c *Config) { c.LogFormat = "xml" },
	} {
		cfg := NewConfig()
		change(&cfg)
		if err := cfg.Validate(); err == nil {
			t.Errorf("%s: accepted", want)
		} else if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %q, want one line that says %q", err, want)
		}
	}
}

const goodSuite = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"

func https(port int) URLs {
	if port == 2379 {
		return MustParseURLs("https://127.0.0.1:2379")
	}
	return MustParseURLs("https://127.0.0.1:2380")
}

func TestConfig_sentinels(t *testing.T) {
	cfg := NewConfig()
	cfg.InitialCluster, cfg.DiscoverySRV = "a=http://10.0.0.1:2380", "example.com"
	if err := cfg.Validate(); !errors.Is(err, ErrPeerSources) {
		t.Errorf("two sources: got %v", err)
	}
	cfg = NewConfig()
	cfg.ListenClientURLs = MustParseURLs("http://10.0.0.1:2379")
	if err := cfg.Validate(); !errors.Is(err, ErrAdvertiseClientURLs) {
		t.Errorf("nothing advertised: got %v", err)
	}
}

func TestConfig_ownCertificates(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.pem")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := NewConfig()
	cfg.ClientTLS = TLSFiles{CertFile: file, KeyFile: file, TrustedCAFile: file, ClientCertAuth: true}
	cfg.CipherSuites = []string{goodSuite}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	if ids, err := cfg.CipherSuiteIDs(); err != nil || !slices.Equal(ids, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}) {
		t.Errorf("suites: got %v, %v", ids, err)
	}
	if lo, hi := cfg.TLSVersions(); lo != tls.VersionTLS12 || hi != 0 {
		t.Errorf("versions: got %x to %x", lo, hi)
	}
	filled := cfg.WithDefaults()
	if filled.ListenClientURLs.String() != "https://localhost:2379" || filled.ListenPeerURLs.String() != "http://localhost:2380" {
		t.Errorf("got %s for clients and %s for peers", filled.ListenClientURLs, filled.ListenPeerURLs)
	}
	// Certificates beside a plain URL are allowed, but not silently.
	cfg.ListenClientURLs = MustParseURLs("http://127.0.0.1:2379")
	cfg.AdvertiseClientURLs = cfg.ListenClientURLs
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	if w := cfg.Warnings(); len(w) != 1 || !strings.Contains(w[0], "http://127.0.0.1:2379 is plain text") {
		t.Errorf("got warnings %q", w)
	}
}

// http and https clients may share a port, and socket files are listened on by
// one flag each.
func TestConfig_listeners(t *testing.T) {
	for _, e := range []struct{ clients, metrics, refusal string }{
		{"http://127.0.0.1:1,https://127.0.0.1:1", "http://127.0.0.1:2", ""},
		{"unix:///run/a,unixs:///run/a", "unix:///run/b", ""},
		{"http://127.0.0.1:1", "http://127.0.0.1:1", "--listen-client-urls and --listen-metrics-urls both listen on 127.0.0.1:1: give each its own port"},
		{"unix:///run/a", "unix:///run/a", "both listen on /run/a: give each its own file"},
		{"unixs:///run/a", "", "TLS key/cert (--cert-file, --key-file) must be provided for url unixs:///run/a"},
	} {
		c := NewConfig()
		c.ListenClientURLs, c.ListenMetricsURLs = MustParseURLs(e.clients), MustParseURLs(e.metrics)
		c.AdvertiseClientURLs = c.ListenClientURLs
		if !strings.Contains(e.refusal, "TLS") {
			c.ClusterSecretFile = "/s"
		}
		err := c.Validate()
		if e.refusal == "" && err != nil || e.refusal != "" && (err == nil || !strings.Contains(err.Error(), e.refusal)) {
			t.Errorf("%s, %s: %v", e.clients, e.metrics, err)
		}
	}
	c := NewConfig()
	c.AdvertisePeerURLs = MustParseURLs("unixs:///run/p")
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "--initial-advertise-peer-urls unixs:///run/p: members reach each other over the network; write https://host:port") {
		t.Errorf("peers: %v", err)
	}
}

// What the flags of reports and ports refuse.
func TestConfig_reports(t *testing.T) {
	for want, change := range map[string]func(*Config){
		`--metrics "all": use basic or extensive`: func(c *Config) { c.Metrics = "all" },
		"--warning-apply-duration -1s":            func(c *Config) { c.WarnApply = -time.Second },
		"--warning-unary-request-duration -1s":    func(c *Config) { c.WarnRequest = -time.Second },
		"--compaction-sleep-interval -1s":         func(c *Config) { c.CompactionSleepInterval = -time.Second },
		"--enable-log-rotation":                   func(c *Config) { c.EnableLogRotation = true },
	} {
		c := NewConfig()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// Two processes share a port if both ask for it.
func TestListener_reusePort(t *testing.T) {
	c := NewConfig()
	c.SocketReusePort = true
	first, err := c.listener().Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := c.listener().Listen(t.Context(), "tcp", first.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
	if third, err := NewConfig().listener().Listen(t.Context(), "tcp", first.Addr().String()); err == nil {
		third.Close()
		t.Error("a port is shared unasked")
	}
	file, err := c.listener().Listen(t.Context(), "unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatalf("a socket file: %v", err)
	}
	file.Close()
}
