package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/conclave-kv/conclave/daemon"
)

// flagValues gives every flag that reaches daemon.Config a value other than
// its default.
var flagValues = map[string]string{
	"name": "m1", "data-dir": "/d", "wal-dir": "/w",
	"listen-peer-urls": "https://10.0.0.1:2380", "listen-client-urls": "https://10.0.0.1:2379,https://127.0.0.1:2379",
	"listen-metrics-urls": "http://10.0.0.1:2381", "heartbeat-interval": "50", "election-timeout": "500", "pre-vote": "false",
	"discovery-srv": "example.com", "discovery-srv-name": "blue", "discovery-srv-server": "10.0.0.2:53", "discovery-timeout": "90s",
	"initial-cluster": "m1=https://10.0.0.1:2380", "initial-cluster-state": "existing", "initial-cluster-token": "t",
	"strict-reconfig-check": "false", "max-learners": "3",
	"initial-advertise-peer-urls": "https://m1.example.com:2380", "advertise-client-urls": "https://m1.example.com:2379",
	"cluster-secret-file": "/s",
	"cert-file":           "1", "key-file": "2", "client-cert-file": "3", "client-key-file": "4", "client-cert-auth": "true", "client-cert-user": "uri",
	"trusted-ca-file": "5", "client-crl-file": "6", "client-cert-allowed-hostname": "a,b",
	"cipher-suites": "c", "tls-min-version": "TLS1.3", "tls-max-version": "TLS1.3",
	"auth-token": "jwt", "auth-token-ttl": "19", "bcrypt-cost": "20", "auth-min-password-length": "21",
	"peer-cert-file": "7", "peer-key-file": "8", "peer-client-cert-file": "9", "peer-client-key-file": "10",
	"peer-client-cert-auth": "true", "peer-trusted-ca-file": "11", "peer-crl-file": "12", "peer-cert-allowed-cn": "e",
	"peer-cert-allowed-hostname": "f,g", "peer-skip-client-san-verification": "true",
	"quota-backend-bytes": "-1", "max-request-bytes": "9", "max-txn-ops": "10", "max-concurrent-streams": "11",
	"watch-progress-notify-interval": "18s", "compaction-batch-limit": "19", "compaction-sleep-interval": "20ms",
	"socket-reuse-port": "true", "socket-reuse-address": "true", "metrics": "extensive",
	"warning-apply-duration": "21ms", "warning-unary-request-duration": "22ms",
	"enable-log-rotation": "true", "log-rotation-config-json": `{"maxsize": 1}`,
	"feature-gates":      "InitialCorruptCheck=false,CompactHashCheck=false,AllBeta=false",
	"corrupt-check-time": "15s", "compact-hash-check-time": "16s",
	"experimental-enable-lease-checkpoint": "true", "experimental-enable-lease-checkpoint-persist": "true",
	"experimental-initial-corrupt-check": "false", "experimental-compact-hash-check-enabled": "false",
	"auto-compaction-mode": "revision", "auto-compaction-retention": "17",
	"background-defrag": "false", "bootstrap-defrag-threshold-megabytes": "14",
	"snapshot-count": "12", "snapshot-catchup-entries": "13",
	"grpc-keepalive-min-time": "1s", "grpc-keepalive-interval": "2s", "grpc-keepalive-timeout": "3s",
	"log-level": "debug", "log-format": "console", "log-outputs": "stdout,/l", "enable-pprof": "true",
	"audit-log": "/a", "audit-level": "all", "audit-fail-closed": "true", "audit-rotation-config-json": `{"maxsize": 2}`, "audit-anchor-interval": "23s",
	"listen-client-http-urls": "https://10.0.0.1:2382", "enable-grpc-gateway": "false",
	"cors": "https://a.example,https://b.example", "host-whitelist": "c.example",
}

// wantConfig is what flagValues describe. A field left at its default fails
// the test below.
var wantConfig = daemon.Config{
	Name: "m1", DataDir: "/d", WalDir: "/w",
	ListenPeerURLs:      daemon.MustParseURLs("https://10.0.0.1:2380"),
	ListenClientURLs:    daemon.MustParseURLs("https://10.0.0.1:2379,https://127.0.0.1:2379"),
	ListenMetricsURLs:   daemon.MustParseURLs("http://10.0.0.1:2381"),
	AdvertisePeerURLs:   daemon.MustParseURLs("https://m1.example.com:2380"),
	AdvertiseClientURLs: daemon.MustParseURLs("https://m1.example.com:2379"),
	InitialCluster:      "m1=https://10.0.0.1:2380", InitialClusterState: "existing", InitialClusterToken: "t", MaxLearners: 3,
	DiscoverySRV: "example.com", DiscoverySRVName: "blue", DiscoverySRVServer: "10.0.0.2:53", DiscoveryTimeout: 90 * time.Second,
	ClusterSecretFile: "/s",
	ClientTLS: daemon.TLSFiles{CertFile: "1", KeyFile: "2", ClientCertFile: "3", ClientKeyFile: "4", ClientCertAuth: true,
		TrustedCAFile: "5", CRLFile: "6", AllowedHostnames: []string{"a", "b"}},
	PeerTLS: daemon.TLSFiles{CertFile: "7", KeyFile: "8", ClientCertFile: "9", ClientKeyFile: "10", ClientCertAuth: true,
		TrustedCAFile: "11", CRLFile: "12", AllowedCNs: []string{"e"}, AllowedHostnames: []string{"f", "g"}, SkipClientSANVerify: true},
	ClientCertUser: "uri",
	CipherSuites:   []string{"c"}, TLSMinVersion: "TLS1.3", TLSMaxVersion: "TLS1.3",
	AuthToken: "jwt", AuthTokenTTL: 19, BcryptCost: 20, AuthMinPasswordLength: 21,
	HeartbeatInterval: 50 * time.Millisecond, ElectionTimeout: 500 * time.Millisecond,
	MaxRequestBytes: 9, MaxTxnOps: 10, MaxConcurrentStreams: 11, QuotaBackendBytes: -1,
	AutoCompactionMode: "revision", AutoCompactionRetention: "17", DefragAtStart: 14, CorruptCheckTime: 15 * time.Second, CompactHashCheckTime: 16 * time.Second,
	SnapshotCount: 12, SnapshotCatchUpEntries: 13, WatchProgressInterval: 18 * time.Second,
	KeepAliveMinTime: time.Second, KeepAliveInterval: 2 * time.Second, KeepAliveTimeout: 3 * time.Second,
	CompactionBatchLimit: 19, CompactionSleepInterval: 20 * time.Millisecond,
	SocketReusePort: true, SocketReuseAddress: true, Metrics: daemon.MetricsExtensive,
	WarnApply: 21 * time.Millisecond, WarnRequest: 22 * time.Millisecond,
	EnableLogRotation: true, LogRotation: `{"maxsize": 1}`,
	EnablePprof: true, LogLevel: "debug", LogFormat: "console", LogOutputs: []string{"stdout", "/l"},
	AuditLog: "/a", AuditLevel: "all", AuditFailClosed: true, AuditLogRotation: `{"maxsize": 2}`, AuditAnchorInterval: 23 * time.Second,
	ListenClientHTTPURLs: daemon.MustParseURLs("https://10.0.0.1:2382"),
	CORS:                 []string{"https://a.example", "https://b.example"}, HostWhitelist: []string{"c.example"},
}

// Flags, environment and file are three ways to say the same; each must reach
// every field, and no two flags the same one.
func TestServerSettings_threeWays(t *testing.T) {
	var flags []givenFlag
	var environ []string
	var file strings.Builder
	for _, f := range serverFlags() {
		if f.set == nil {
			continue
		}
		value, ok := flagValues[f.name]
		if !ok {
			t.Fatalf("--%s has no value here", f.name)
		}
		flags = append(flags, givenFlag{name: f.name, value: value})
		environ = append(environ, variable(serverPrefixes[len(environ)%2], f.name)+"="+value)
		file.WriteString(f.name + ": '" + value + "'\n")
	}
	path := filepath.Join(t.TempDir(), "conclave.yaml")
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for way, input := range map[string]struct {
		flags   []givenFlag
		environ []string
	}{
		"flags":       {flags: flags},
		"environment": {environ: environ},
		"file":        {flags: []givenFlag{{name: "config-file", value: path}}},
	} {
		s, err := newServerSettings(input.flags, input.environ)
		if err != nil {
			t.Errorf("%s: %v", way, err)
		} else if !reflect.DeepEqual(s.cfg, wantConfig) {
			t.Errorf("%s: got\n%+v, want\n%+v", way, s.cfg, wantConfig)
		}
	}
}

func TestServerSettings_warnings(t *testing.T) {
	s, err := newServerSettings(nil, []string{
		"ETCD_INITAL_CLUSTER=x", "CONCLAVE_ENDPOINTS=y", "ETCD_UNSUPPORTED_ARCH=arm", "ETCD_SNAPSHOT=1", "PATH=/bin",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "unrecognized environment variable ETCD_INITAL_CLUSTER; did you mean ETCD_INITIAL_CLUSTER?"
	if len(s.warnings) != 1 || s.warnings[0] != want {
		t.Errorf("got %q, want only %q", s.warnings, want)
	}
}

func TestServerSettings_unknownKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "etcd.yaml")
	text := "proxy: 'off'\nnme: m1\nclient-transport-security:\n  cert-fil: x\npeer-transport-security:\nmax-wals: 5\ncors:\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := newServerSettings([]givenFlag{{name: "config-file", value: path}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	said := strings.Join(s.warnings, "\n")
	for _, want := range []string{"ignoring unknown key proxy", "nme; did you mean name?", "cert-fil in client-transport-security; did you mean cert-file?"} {
		if !strings.Contains(said, want) {
			t.Errorf("no warning says %q: %s", want, said)
		}
	}
	if !reflect.DeepEqual(s.cfg, daemon.NewConfig()) {
		t.Errorf("unknown keys changed the settings: %+v", s.cfg)
	}
}

// Spelling out etcd's defaults asks for nothing and is accepted.
func TestRefusedFlags_defaultsAccepted(t *testing.T) {
	for _, r := range refusedFlags {
		flag, _ := serverFlagNamed(r.name)
		for _, value := range append(r.accept, "") {
			s := &serverSettings{given: map[string]bool{}}
			if err := s.set(flag, value); err != nil {
				t.Errorf("--%s=%s: %v", r.name, value, err)
			}
		}
		s := &serverSettings{given: map[string]bool{}}
		if err := s.set(flag, "something-else"); err == nil {
			t.Errorf("--%s takes any value", r.name)
		} else if !strings.Contains(err.Error(), "something-else") {
			t.Errorf("--%s: the refusal does not show the value: %v", r.name, err)
		}
	}
}

// The page about flags has every one that is not honoured.
func TestRefusedFlags_documented(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "flags.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range refusedFlags {
		if !strings.Contains(string(page), "`--"+r.name+"`") {
			t.Errorf("docs/flags.md says nothing about --%s", r.name)
		}
		if flag, ok := serverFlagNamed(r.name); !ok || !flag.meaningless {
			t.Errorf("--%s is honoured, too", r.name)
		}
	}
}

// The secret in its usual place is used where it is, also where it cannot be read:
// then the start fails, rather than do without.
func TestServerSettings_defaultSecret(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "cluster.secret")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, path, want string
		flags            []givenFlag
	}{
		{"there", secret, secret, nil},
		{"not there", filepath.Join(dir, "none", "cluster.secret"), "", nil},
		{"out of reach", filepath.Join(secret, "cluster.secret"), filepath.Join(secret, "cluster.secret"), nil},
		{"another given", secret, "/other", []givenFlag{{name: "cluster-secret-file", value: "/other"}}},
		{"none wanted", secret, "", []givenFlag{{name: "cluster-secret-file", value: ""}}},
		{"certificates given", secret, "", []givenFlag{{name: "cert-file", value: "c.pem"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := newServerSettings(tt.flags, nil)
			if err != nil {
				t.Fatal(err)
			}
			s.useDefaultSecret(tt.path)
			if got := s.cfg.ClusterSecretFile; got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// Names of earlier etcds mean what the flags mean that took their place.
func TestServerSettings_experimentalNames(t *testing.T) {
	s, err := newServerSettings([]givenFlag{
		{name: "experimental-watch-progress-notify-interval", value: "5s"}, {name: "experimental-compaction-batch-limit", value: "7"},
		{name: "experimental-memory-mlock", value: "false"}, {name: "experimental-enable-lease-checkpoint", value: "true"},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.cfg.WatchProgressInterval != 5*time.Second || s.cfg.CompactionBatchLimit != 7 {
		t.Errorf("got %+v", s.cfg)
	}
	if got := strings.Join(s.warnings, "\n"); got != "these settings of etcd change nothing here: --experimental-memory-mlock" {
		t.Errorf("warnings: %s", got)
	}
	if _, err := newServerSettings([]givenFlag{{name: "experimental-memory-mlock", value: "true"}}, nil); err == nil {
		t.Error("--experimental-memory-mlock=true is taken")
	}
}
