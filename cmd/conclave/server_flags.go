package main

import (
	"sync"
	"time"

	"github.com/conclave-kv/conclave/daemon"
	"github.com/conclave-kv/conclave/internal/logging"
)

// serverFlags returns the flags the server form honours, in the order of the
// help text. All of them are etcd's, except --discovery-srv-server,
// --discovery-timeout and --cluster-secret-file.
var serverFlags = sync.OnceValue(func() []serverFlag {
	var out []serverFlag
	for _, g := range []struct {
		title string
		flags []serverFlag
	}{
		{"Member", memberFlags()},
		{"Finding the peers", clusteringFlags()},
		{"Security", append(securityFlags(), peerSecurityFlags()...)},
		{"Limits", limitFlags()},
		{"Integrity", integrityFlags()},
		{"Logging and profiling", loggingFlags()},
		{"Audit", auditFlags()},
	} {
		for _, f := range g.flags {
			f.group = g.title
			out = append(out, f)
		}
	}
	return out
})

func memberFlags() []serverFlag {
	return []serverFlag{
		textFlag("name", "name of this member (default: default)", func(c *daemon.Config) *string { return &c.Name }),
		textFlag("data-dir", "directory of all state (default: NAME.conclave)", func(c *daemon.Config) *string { return &c.DataDir }),
		textFlag("wal-dir", "directory of the log, if elsewhere", func(c *daemon.Config) *string { return &c.WalDir }),
		urlsFlag("listen-peer-urls", "URLs to listen on for members (default: http://localhost:2380)", func(c *daemon.Config) *daemon.URLs { return &c.ListenPeerURLs }),
		urlsFlag("listen-client-urls", "URLs to listen on for clients (default: http://localhost:2379)", func(c *daemon.Config) *daemon.URLs { return &c.ListenClientURLs }),
		urlsFlag("listen-client-http-urls", "URLs for HTTP clients; --listen-client-urls then serve gRPC only", func(c *daemon.Config) *daemon.URLs { return &c.ListenClientHTTPURLs }),
		urlsFlag("listen-metrics-urls", "further URLs for /metrics and /health", func(c *daemon.Config) *daemon.URLs { return &c.ListenMetricsURLs }),
		milliFlag("heartbeat-interval", "longest pause between heartbeats in milliseconds (default: 100)", func(c *daemon.Config) *time.Duration { return &c.HeartbeatInterval }),
		milliFlag("election-timeout", "milliseconds without a leader before an election (default: 1000)", func(c *daemon.Config) *time.Duration { return &c.ElectionTimeout }),
		boolFlag("socket-reuse-port", "let other processes listen on the same ports", func(c *daemon.Config) *bool { return &c.SocketReusePort }),
		boolFlag("socket-reuse-address", "listen on ports whose last connections are ending; always so", func(c *daemon.Config) *bool { return &c.SocketReuseAddress }),
		boolFlag("enable-grpc-gateway", "serve JSON clients below /v3/ (default: true)", func(c *daemon.Config) *bool { return &c.EnableGRPCGateway }),
		boolFlag("pre-vote", "ask before disturbing a term (default: true)", func(c *daemon.Config) *bool { return &c.PreVote }),
		{name: "config-file", usage: "YAML file with these settings; flags and environment are then ignored"},
		{name: "version", boolean: true, usage: "print the version and exit"},
	}
}

func clusteringFlags() []serverFlag {
	return []serverFlag{
		textFlag("discovery-srv", "domain whose SRV records name the peers", func(c *daemon.Config) *string { return &c.DiscoverySRV }),
		textFlag("discovery-srv-name", "suffix of the service name in the SRV records", func(c *daemon.Config) *string { return &c.DiscoverySRVName }),
		textFlag("discovery-srv-server", "host:port of the DNS server to ask (default: the system's)", func(c *daemon.Config) *string { return &c.DiscoverySRVServer }),
		durationFlag("discovery-timeout", "how long to look for peers (default: 5m)", func(c *daemon.Config) *time.Duration { return &c.DiscoveryTimeout }),
		textFlag("initial-cluster", "peers as NAME=URL,... (default: this member alone)", func(c *daemon.Config) *string { return &c.InitialCluster }),
		textFlag("initial-cluster-state", "new, or existing to join a running cluster after member add (default: new)", func(c *daemon.Config) *string { return &c.InitialClusterState }),
		textFlag("initial-cluster-token", "tells clusters apart (default: etcd-cluster)", func(c *daemon.Config) *string { return &c.InitialClusterToken }),
		boolFlag("strict-reconfig-check", "refuse membership changes that could cost the quorum (default: true)", func(c *daemon.Config) *bool { return &c.StrictReconfigCheck }),
		numberFlag("max-learners", "how many learners there may be (default: 1)", func(c *daemon.Config) *int64 { return &c.MaxLearners }),
		urlsFlag("initial-advertise-peer-urls", "URLs other members reach this one by", func(c *daemon.Config) *daemon.URLs { return &c.AdvertisePeerURLs }),
		urlsFlag("advertise-client-urls", "URLs clients reach this member by", func(c *daemon.Config) *daemon.URLs { return &c.AdvertiseClientURLs }),
	}
}

func securityFlags() []serverFlag {
	return []serverFlag{
		textFlag("cluster-secret-file", "secret shared by the members; conclave then issues all certificates (default: "+daemon.DefaultClusterSecretFile+" if present)", func(c *daemon.Config) *string { return &c.ClusterSecretFile }),
		textFlag("cert-file", "own certificate for clients", func(c *daemon.Config) *string { return &c.ClientTLS.CertFile }),
		textFlag("key-file", "key of --cert-file", func(c *daemon.Config) *string { return &c.ClientTLS.KeyFile }),
		textFlag("client-cert-file", "certificate for connections this process makes to itself", func(c *daemon.Config) *string { return &c.ClientTLS.ClientCertFile }),
		textFlag("client-key-file", "key of --client-cert-file", func(c *daemon.Config) *string { return &c.ClientTLS.ClientKeyFile }),
		boolFlag("client-cert-auth", "demand client certificates", func(c *daemon.Config) *bool { return &c.ClientTLS.ClientCertAuth }),
		textFlag("client-cert-user", "what of a client certificate names the user: cn, uri or dns (default: cn)", func(c *daemon.Config) *string { return &c.ClientCertUser }),
		textFlag("trusted-ca-file", "CA of client certificates", func(c *daemon.Config) *string { return &c.ClientTLS.TrustedCAFile }),
		textFlag("client-crl-file", "revoked client certificates (DER)", func(c *daemon.Config) *string { return &c.ClientTLS.CRLFile }),
		listFlag("client-cert-allowed-hostname", "SAN host names allowed in client certificates", func(c *daemon.Config) *[]string { return &c.ClientTLS.AllowedHostnames }),
		listFlag("cipher-suites", "TLS 1.2 cipher suites (default: Go's)", func(c *daemon.Config) *[]string { return &c.CipherSuites }),
		listFlag("cors", "origins whose web pages may use the JSON gateway (default: none but its own)", func(c *daemon.Config) *[]string { return &c.CORS }),
		listFlag("host-whitelist", "hosts that plaintext HTTP requests may name (default: any, browsers only this member's)", func(c *daemon.Config) *[]string { return &c.HostWhitelist }),
		textFlag("auth-token", "simple, or jwt,sign-method=M,priv-key=F,pub-key=F,ttl=D,audience=A (default: simple)", func(c *daemon.Config) *string { return &c.AuthToken }),
		numberFlag("auth-token-ttl", "seconds that a simple token lasts without being used (default: 300)", func(c *daemon.Config) *uint { return &c.AuthTokenTTL }),
		numberFlag("auth-min-password-length", "bytes that new passwords have at least (default: 0)", func(c *daemon.Config) *uint { return &c.AuthMinPasswordLength }),
		numberFlag("bcrypt-cost", "how slow passwords are checked, 4 to 31 (default: 10)", func(c *daemon.Config) *uint { return &c.BcryptCost }),
		textFlag("tls-min-version", "TLS1.2 or TLS1.3 (default: TLS1.2)", func(c *daemon.Config) *string { return &c.TLSMinVersion }),
		textFlag("tls-max-version", "TLS1.2 or TLS1.3 (default: Go's)", func(c *daemon.Config) *string { return &c.TLSMaxVersion }),
	}
}

func peerSecurityFlags() []serverFlag {
	return []serverFlag{
		textFlag("peer-cert-file", "own certificate towards members", func(c *daemon.Config) *string { return &c.PeerTLS.CertFile }),
		textFlag("peer-key-file", "key of --peer-cert-file", func(c *daemon.Config) *string { return &c.PeerTLS.KeyFile }),
		textFlag("peer-client-cert-file", "another certificate for dialling members", func(c *daemon.Config) *string { return &c.PeerTLS.ClientCertFile }),
		textFlag("peer-client-key-file", "key of --peer-client-cert-file", func(c *daemon.Config) *string { return &c.PeerTLS.ClientKeyFile }),
		boolFlag("peer-client-cert-auth", "demand certificates from members", func(c *daemon.Config) *bool { return &c.PeerTLS.ClientCertAuth }),
		textFlag("peer-trusted-ca-file", "CA of member certificates", func(c *daemon.Config) *string { return &c.PeerTLS.TrustedCAFile }),
		textFlag("peer-crl-file", "revoked member certificates (DER)", func(c *daemon.Config) *string { return &c.PeerTLS.CRLFile }),
		listFlag("peer-cert-allowed-cn", "common names allowed in member certificates", func(c *daemon.Config) *[]string { return &c.PeerTLS.AllowedCNs }),
		listFlag("peer-cert-allowed-hostname", "SAN host names allowed in member certificates", func(c *daemon.Config) *[]string { return &c.PeerTLS.AllowedHostnames }),
		boolFlag("peer-skip-client-san-verification", "do not compare a member's address with its certificate", func(c *daemon.Config) *bool { return &c.PeerTLS.SkipClientSANVerify }),
	}
}

func limitFlags() []serverFlag {
	return []serverFlag{
		numberFlag("quota-backend-bytes", "bytes in use of the state file at which writes are refused (default: 2 GiB; below 0: none)", func(c *daemon.Config) *int64 { return &c.QuotaBackendBytes }),
		boolFlag("background-defrag", "give free space in the state file back, one member at a time (default: true)", func(c *daemon.Config) *bool { return &c.BackgroundDefrag }),
		numberFlag("bootstrap-defrag-threshold-megabytes", "free MiB in the state file from which on it is defragmented at the start (default: 0, never)", func(c *daemon.Config) *uint { return &c.DefragAtStart }),
		textFlag("auto-compaction-mode", "periodic, or revision to keep a number of revisions (default: periodic)", func(c *daemon.Config) *string { return &c.AutoCompactionMode }),
		textFlag("auto-compaction-retention", "history to keep: hours or a duration, or revisions; 0: all (default: 1h)", func(c *daemon.Config) *string { return &c.AutoCompactionRetention }),
		numberFlag("compaction-batch-limit", "revisions that a step of removing history takes at most (default: 0, as many as are not felt)", func(c *daemon.Config) *uint { return &c.CompactionBatchLimit }),
		durationFlag("compaction-sleep-interval", "pause between these steps (default: 0, they are taken beside writes)", func(c *daemon.Config) *time.Duration { return &c.CompactionSleepInterval }),
		numberFlag("snapshot-count", "entries after which the log is shortened (default: 10000)", func(c *daemon.Config) *uint64 { return &c.SnapshotCount }),
		numberFlag("snapshot-catchup-entries", "entries that stay in the log for slow members, up to 64 MiB (default: 5000)", func(c *daemon.Config) *uint64 { return &c.SnapshotCatchUpEntries }),
		numberFlag("max-request-bytes", "size limit of a request (default: 1572864)", func(c *daemon.Config) *uint { return &c.MaxRequestBytes }),
		numberFlag("max-txn-ops", "operations in a transaction (default: 128)", func(c *daemon.Config) *uint { return &c.MaxTxnOps }),
		numberFlag("max-concurrent-streams", "streams of one client connection (default: 4294967295)", func(c *daemon.Config) *uint32 { return &c.MaxConcurrentStreams }),
		durationFlag("watch-progress-notify-interval", "pause between notifications of watches that ask for progress (default: 10m)", func(c *daemon.Config) *time.Duration { return &c.WatchProgressInterval }),
		durationFlag("grpc-keepalive-min-time", "shortest pause between a client's pings (default: 5s)", func(c *daemon.Config) *time.Duration { return &c.KeepAliveMinTime }),
		durationFlag("grpc-keepalive-interval", "pause between the server's pings (default: 2h)", func(c *daemon.Config) *time.Duration { return &c.KeepAliveInterval }),
		durationFlag("grpc-keepalive-timeout", "time for the answer to a ping (default: 20s)", func(c *daemon.Config) *time.Duration { return &c.KeepAliveTimeout }),
	}
}

func loggingFlags() []serverFlag {
	return []serverFlag{
		textFlag("log-level", "debug, info, warn, error, panic or fatal (default: info)", func(c *daemon.Config) *string { return &c.LogLevel }),
		textFlag("log-format", "json or console (default: json)", func(c *daemon.Config) *string { return &c.LogFormat }),
		listFlag("log-outputs", "stderr, stdout or files (default: stderr)", func(c *daemon.Config) *[]string { return &c.LogOutputs }),
		boolFlag("enable-log-rotation", "rotate the one file of --log-outputs", func(c *daemon.Config) *bool { return &c.EnableLogRotation }),
		textFlag("log-rotation-config-json", "when, and how many old files are kept (default: "+logging.DefaultRotation+")", func(c *daemon.Config) *string { return &c.LogRotation }),
		durationFlag("warning-unary-request-duration", "log requests that take longer; 0: none (default: 300ms)", func(c *daemon.Config) *time.Duration { return &c.WarnRequest }),
		durationFlag("warning-apply-duration", "log batches of entries that take longer to be applied (default: 100ms)", func(c *daemon.Config) *time.Duration { return &c.WarnApply }),
		textFlag("metrics", "basic, or extensive to have the time of each RPC too (default: basic)", func(c *daemon.Config) *string { return &c.Metrics }),
		boolFlag("enable-pprof", "serve /debug/pprof/ to clients", func(c *daemon.Config) *bool { return &c.EnablePprof }),
	}
}
