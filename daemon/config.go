package daemon

import (
	"context"
	"math"
	"net"
	"time"

	"github.com/conclave-kv/conclave/audit"
	"github.com/conclave-kv/conclave/internal/logging"
)

// DefaultClusterSecretFile is used as Config.ClusterSecretFile by the command
// line when the file exists and no other TLS settings are given. Config itself
// never looks for it.
const DefaultClusterSecretFile = "/etc/conclave/cluster.secret"

// The values of Config.InitialClusterState.
const (
	ClusterStateNew      = "new"
	ClusterStateExisting = "existing"
)

// The values of Config.Metrics.
const (
	MetricsBasic     = "basic"
	MetricsExtensive = "extensive"
)

// defaultName names a member that was given no name; its data directory is
// default.conclave even when SRV records name the member otherwise, because
// the directory must be known before anything is looked up.
const defaultName = "default"

// defaultQuota is what a quota of 0 means, in bytes.
const defaultQuota = 2 << 30

// Config is what one process needs to run. Start from NewConfig, whose numbers
// are etcd's defaults. Names, directories and URL lists that were not given
// are left empty; Validate checks the values as given, WithDefaults then fills
// in what does not depend on discovery.
type Config struct {
	// Name is this member's name. Empty: not given.
	Name string
	// DataDir holds all state of the member; WalDir, if set, its log.
	DataDir, WalDir string

	// URLs to listen on. Hosts are IP addresses or localhost.
	ListenPeerURLs, ListenClientURLs, ListenMetricsURLs URLs
	// ListenClientHTTPURLs, if any, take the HTTP clients; ListenClientURLs then
	// serve gRPC only.
	ListenClientHTTPURLs URLs
	// URLs told to others. Empty: not given. With DiscoverySRV they stay
	// empty after WithDefaults and come from this host's own record.
	AdvertisePeerURLs, AdvertiseClientURLs URLs

	// InitialCluster is name=URL[,name=URL...], the static peer list.
	InitialCluster      string
	InitialClusterState string
	InitialClusterToken string

	// StrictReconfigCheck refuses changes of the membership that could cost the
	// quorum; MaxLearners bounds the learners there may be.
	StrictReconfigCheck bool
	MaxLearners         int64

	// DiscoverySRV is the domain whose SRV records list the peers;
	// DiscoverySRVName is the optional suffix of the service name;
	// DiscoverySRVServer is the host:port of the DNS server to ask instead of
	// the system's.
	DiscoverySRV, DiscoverySRVName, DiscoverySRVServer string
	// DiscoveryTimeout bounds the search for peers. Above zero.
	DiscoveryTimeout time.Duration

	// ClusterSecretFile turns on conclave's own CA. Empty: no secret.
	ClusterSecretFile string
	// ClientTLS and PeerTLS are certificates of one's own for the client and
	// the peer port.
	ClientTLS, PeerTLS TLSFiles
	// ClientCertUser is what of a client's certificate names the user: cn, uri or
	// dns; empty is cn.
	ClientCertUser string
	// CipherSuites names the TLS 1.2 suites offered; empty leaves them to Go.
	CipherSuites []string
	// TLSMinVersion and TLSMaxVersion are "", "TLS1.2" or "TLS1.3".
	TLSMinVersion, TLSMaxVersion string

	// ElectionTimeout times the consensus: how long a member waits for a leader
	// before it looks for another; at most 50 s. HeartbeatInterval is the
	// longest pause between a leader's heartbeats, at most a fifth of it.
	HeartbeatInterval, ElectionTimeout time.Duration
	// InitialCorruptCheck and CompactHashCheck are the feature gates of those
	// names, which are on here: a member compares its data with the others' before
	// it serves, and the leader what each compaction has left, looking every
	// CompactHashCheckTime. CorruptCheckTime compares everything that often; 0
	// for never.
	InitialCorruptCheck, CompactHashCheck  bool
	CompactHashCheckTime, CorruptCheckTime time.Duration
	// BackgroundDefrag has members give free space in their state files back by
	// themselves, one at a time; DefragAtStart from how many free MiB on a member
	// does so at its start, 0 for never.
	BackgroundDefrag bool
	DefragAtStart    uint
	// PreVote has a member ask whether it could win before it disturbs a term.
	PreVote bool

	// MaxRequestBytes bounds one client request, MaxTxnOps the operations of
	// one transaction, MaxConcurrentStreams the streams of one connection.
	MaxRequestBytes, MaxTxnOps uint
	MaxConcurrentStreams       uint32
	// QuotaBackendBytes is how much of the state file may be in use before
	// writes are refused, at most 1 TiB; 0 is the default of 2 GiB, below 0 is no
	// limit.
	QuotaBackendBytes int64
	// CompactionBatchLimit is how many revisions a step of removing history takes
	// at most, CompactionSleepInterval the pause between two steps; 0 leaves them to
	// the member.
	CompactionBatchLimit    uint
	CompactionSleepInterval time.Duration
	// AutoCompactionMode is periodic or revision; AutoCompactionRetention how
	// much history is kept: hours or a duration, or a number of revisions. "0"
	// turns compaction off, "" is the default of an hour.
	AutoCompactionMode, AutoCompactionRetention string
	// SnapshotCount is how many entries the state file may gain before what it
	// has is cut off the log; 0 is the default of 10000. SnapshotCatchUpEntries
	// of them stay for members that are a little behind, at least 1.
	SnapshotCount, SnapshotCatchUpEntries uint64

	// AuthToken says what users get who log in: simple, or jwt with options as in
	// etcd. AuthTokenTTL is how many seconds a simple one lasts without being used,
	// BcryptCost how slow passwords are checked, from 4 to 31.
	AuthToken    string
	AuthTokenTTL uint
	BcryptCost   uint
	// AuthMinPasswordLength is how many bytes new passwords have at least, up to 72.
	AuthMinPasswordLength uint

	// KeepAliveMinTime is the shortest interval at which a client may ping;
	// the server pings an idle connection after KeepAliveInterval and closes
	// it after KeepAliveTimeout without an answer (0: no pings).
	KeepAliveMinTime, KeepAliveInterval, KeepAliveTimeout time.Duration

	// WatchProgressInterval is how often watches that ask for it are told how far
	// they are, at least 100 ms; 0 is the default of 10 minutes.
	WatchProgressInterval time.Duration

	// EnableGRPCGateway serves JSON clients below /v3/.
	EnableGRPCGateway bool
	// CORS are the origins, scheme://host[:port], whose web pages may use the
	// gateway besides its own; "*" names none. HostWhitelist, if any and not
	// "*", are the only hosts that plaintext HTTP requests may name.
	CORS, HostWhitelist []string

	// SocketReusePort lets other processes listen on the same ports (SO_REUSEPORT).
	// SocketReuseAddress is what Go does anyway (SO_REUSEADDR).
	SocketReusePort, SocketReuseAddress bool

	// WarnRequest and WarnApply are how long a unary request, or applying a batch
	// of entries, may take before that is logged; 0 logs no request, and every
	// batch.
	WarnRequest, WarnApply time.Duration
	// Metrics is basic, or extensive to have the time of each RPC as well.
	Metrics string
	// EnablePprof serves /debug/pprof/ on the client URLs.
	EnablePprof bool

	// Dial connects to peers; nil resolves names as DiscoverySRVServer says. It
	// is where tests put faults.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Now is the clock of certificates, time.Now where nil.
	Now func() time.Time

	// LogLevel is debug, info, warn, error, panic or fatal; LogFormat json or
	// console; LogOutputs are default, stderr, stdout or file names.
	LogLevel, LogFormat string
	LogOutputs          []string
	// EnableLogRotation rotates the one file of LogOutputs, as LogRotation says in
	// etcd's JSON.
	EnableLogRotation bool
	LogRotation       string

	// AuditLog is where requests of clients are recorded: a file, - for the standard
	// output, or syslog. Empty: nowhere. AuditLevel is none, denied, writes or all;
	// AuditFailClosed refuses requests that cannot be recorded; AuditLogRotation says
	// when the file is rotated, as LogRotation.
	AuditLog, AuditLevel string
	AuditFailClosed      bool
	AuditLogRotation     string
	// AuditAnchorInterval is how often the cluster is told the end of the audit log, at
	// least 100 ms.
	AuditAnchorInterval time.Duration
}

const defaultSnapshotCount = 10000

// NewConfig returns the defaults. They are etcd's, except for DiscoveryTimeout,
// which etcd has not.
func NewConfig() Config {
	return Config{
		InitialClusterState:    ClusterStateNew,
		InitialClusterToken:    "etcd-cluster",
		StrictReconfigCheck:    true,
		MaxLearners:            1,
		DiscoveryTimeout:       5 * time.Minute,
		TLSMinVersion:          "TLS1.2",
		HeartbeatInterval:      100 * time.Millisecond,
		ElectionTimeout:        time.Second,
		PreVote:                true,
		BackgroundDefrag:       true,
		InitialCorruptCheck:    true,
		CompactHashCheck:       true,
		CompactHashCheckTime:   time.Minute,
		MaxRequestBytes:        1536 * 1024,
		MaxTxnOps:              128,
		MaxConcurrentStreams:   math.MaxUint32,
		SnapshotCount:          defaultSnapshotCount,
		SnapshotCatchUpEntries: 5000,
		AuthToken:              defaultAuthToken,
		AuthTokenTTL:           300,
		BcryptCost:             10,
		KeepAliveMinTime:       5 * time.Second,
		KeepAliveInterval:      2 * time.Hour,
		KeepAliveTimeout:       20 * time.Second,
		EnableGRPCGateway:      true,
		WarnRequest:            300 * time.Millisecond,
		WarnApply:              100 * time.Millisecond,
		Metrics:                MetricsBasic,
		LogLevel:               "info",
		LogFormat:              "json",
		LogOutputs:             []string{"default"},
		LogRotation:            logging.DefaultRotation,
		AuditLevel:             audit.Writes.String(),
		AuditLogRotation:       logging.DefaultRotation,
		AuditAnchorInterval:    audit.DefaultAnchorEvery,
	}
}

// The state file may outgrow the quota: deletes pass, and space that readers
// still look at is not reused. Half of the address space reserved for it is at
// least leastBound, and unlimitedBound where there is no quota; a file that grows
// beyond it is mapped anew, for which commits wait until readers end.
const (
	leastBound     = 4 << 30
	unlimitedBound = 128 << 30
)

// stateFileBound is what the state file is meant to stay below, in bytes.
func (c Config) stateFileBound() int64 {
	if c.QuotaBackendBytes < 0 {
		return unlimitedBound
	}
	return max(c.QuotaBackendBytes, leastBound)
}

// RequestTimeout bounds a client request from its proposal to its answer:
// etcd's 5 s for the disk and two elections that may come between.
func (c Config) RequestTimeout() time.Duration {
	return 5*time.Second + 2*c.ElectionTimeout
}

// WithDefaults returns c with the values that were not given filled in. With
// DiscoverySRV the name and the URLs stay as given: what is missing comes from
// the record that describes this host. The data directory is always named.
func (c Config) WithDefaults() Config {
	if c.DataDir == "" {
		c.DataDir = orDefault(c.Name, defaultName) + ".conclave"
	}
	if c.QuotaBackendBytes == 0 {
		c.QuotaBackendBytes = defaultQuota
	}
	if c.SnapshotCount == 0 {
		c.SnapshotCount = defaultSnapshotCount
	}
	if c.DiscoverySRV != "" {
		return c
	}
	c.Name = orDefault(c.Name, defaultName)
	if len(c.ListenPeerURLs) == 0 {
		c.ListenPeerURLs = localhostURLs(c.PeerTLS.scheme(c.ClusterSecretFile), "2380")
	}
	if len(c.ListenClientURLs) == 0 {
		c.ListenClientURLs = localhostURLs(c.ClientTLS.scheme(c.ClusterSecretFile), "2379")
	}
	if len(c.AdvertisePeerURLs) == 0 {
		c.AdvertisePeerURLs = c.ListenPeerURLs.advertised()
	}
	if len(c.AdvertiseClientURLs) == 0 {
		c.AdvertiseClientURLs = c.ListenClientURLs.advertised()
	}
	if c.InitialCluster == "" {
		c.InitialCluster = c.AdvertisePeerURLs.assigned(c.Name)
	}
	return c
}

func orDefault(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
