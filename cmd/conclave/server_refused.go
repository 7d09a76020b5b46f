package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/conclave-kv/conclave/daemon"
	"github.com/conclave-kv/conclave/internal/version"
)

// refusedFlag is a flag of etcd that conclave does not honour. Given with a
// value that asks for nothing it is accepted, with a line in the log, so that
// files which spell out etcd's defaults work; with any other value it is refused,
// because a setting that is silently ignored is worse than none.
type refusedFlag struct {
	name    string
	boolean bool
	accept  []string          // values that ask for nothing; "" always does
	fits    func(string) bool // the same as a rule; nil: none
	instead string            // what to do
}

// flag makes it one like the others.
func (r refusedFlag) flag() serverFlag {
	return serverFlag{name: r.name, boolean: r.boolean, meaningless: true, set: func(_ *daemon.Config, s string) error {
		if s == "" || slices.Contains(r.accept, s) || r.fits != nil && r.fits(s) {
			return nil
		}
		return &notSupported{fmt.Sprintf("--%s=%s is not supported by conclave %s: %s", r.name, s, version.Conclave, cmp.Or(r.instead, "remove it"))}
	}}
}

// meaninglessWarning is the one line about flags that were accepted for nothing.
func meaninglessWarning(names []string) string {
	slices.Sort(names)
	return "these settings of etcd change nothing here: --" + strings.Join(slices.Compact(names), ", --")
}

// notSupported is an error that already names the flag.
type notSupported struct{ text string }

func (e *notSupported) Error() string { return e.text }

// ignoredFlags are the flags etcd accepts and ignores.
var ignoredFlags = []string{
	"cluster-active-size", "cluster-remove-delay", "cluster-sync-interval", "config", "force",
	"max-result-buffer", "max-retry-attempts", "peer-heartbeat-interval", "peer-election-timeout",
	"retry-interval", "snapshot", "v", "vv", "test.coverprofile", "test.outputdir",
}

const (
	insteadDiscovery = "find the peers with --discovery-srv or --initial-cluster"
	insteadOwnCA     = "conclave issues its certificates itself; give every member the same --cluster-secret-file"
	insteadTracing   = "there are no traces; slow requests are logged, see --warning-unary-request-duration"
	insteadElection  = "connections between members end by --election-timeout; remove it"
	insteadFsync     = "conclave never acknowledges what is not on disk"
)

// isCount reports whether a value is a number of files to keep at most.
func isCount(s string) bool {
	_, err := strconv.ParseUint(s, 10, 64)
	return err == nil
}

// refusedFlags are the flags of etcd 3.7 that are not in serverFlags, and
// those of 3.5 and 3.6 that etcd removed.
var refusedFlags = slices.Concat([]refusedFlag{
	{name: "initial-election-tick-advance", boolean: true, accept: []string{"true"}, instead: "a member waits for a leader before it stands for election; remove it"},
	{name: "max-snapshots", fits: isCount, instead: "give a number; there is one state file, which is within any bound"},
	{name: "max-wals", fits: isCount, instead: "give a number; the log ends where the state file makes it unnecessary, see --snapshot-count"},
	{name: "backend-bbolt-freelist-type", accept: []string{"map"}, instead: "the free list is always a map, in memory; remove it"},
	{name: "backend-batch-interval", accept: []string{"0", "0s", "100ms"}, instead: "the log keeps what was acknowledged, and the state file follows within 100ms; remove it"},
	{name: "backend-batch-limit", accept: []string{"0", "10000"}, instead: "the log keeps what was acknowledged, and the state file follows within 10000 changes; remove it"},
	{name: "raft-read-timeout", accept: []string{"5s"}, instead: insteadElection},
	{name: "raft-write-timeout", accept: []string{"5s"}, instead: insteadElection},
	{name: "memory-mlock", boolean: true, accept: []string{"false"}, instead: "twice the quota is mapped, which would all be locked; switch swap off on the host, or set MemorySwapMax=0 in the unit"},
	{name: "downgrade-check-time", accept: []string{"5s"}, instead: "a downgrade is noted and changes nothing; remove it"},
	{name: "force-new-cluster", boolean: true, accept: []string{"false"}, instead: "make a cluster of one from the state file: conclave snapshot restore DATA-DIR/member/snap/db --skip-hash-check --data-dir NEW"},
	{name: "unsafe-no-fsync", boolean: true, accept: []string{"false"}, instead: insteadFsync},
	{name: "logger", accept: []string{"zap"}, instead: "conclave writes etcd's log format whatever the logger"},
	{name: "v2-deprecation", accept: []string{"write-only", "write-only-skip-check", "write-only-drop-data", "gone"}, instead: "there is no v2 store; remove it"},
	{name: "experimental-stop-grpc-service-on-defrag", boolean: true, accept: []string{"false"}, instead: "a defragmentation stops nothing; remove it"},
	{name: "experimental-txn-mode-write-with-shared-buffer", boolean: true, accept: []string{"true"}, instead: "a transaction reads what is in memory; remove it"},
}, discoveryFlags, selfSignedFlags, tracingFlags)

var discoveryFlags = []refusedFlag{
	{name: "discovery", instead: insteadDiscovery},
	{name: "discovery-proxy", instead: insteadDiscovery},
	{name: "discovery-fallback", accept: []string{"exit"}, instead: "there is no proxy to fall back to, in etcd 3.7 either; remove it"},
	{name: "discovery-token", instead: insteadDiscovery},
	{name: "discovery-endpoints", instead: insteadDiscovery},
	{name: "discovery-dial-timeout", accept: []string{"2s"}, instead: insteadDiscovery},
	{name: "discovery-request-timeout", accept: []string{"5s"}, instead: insteadDiscovery},
	{name: "discovery-keepalive-time", accept: []string{"2s"}, instead: insteadDiscovery},
	{name: "discovery-keepalive-timeout", accept: []string{"6s"}, instead: insteadDiscovery},
	{name: "discovery-insecure-transport", boolean: true, accept: []string{"true"}, instead: insteadDiscovery},
	{name: "discovery-insecure-skip-tls-verify", boolean: true, accept: []string{"false"}, instead: insteadDiscovery},
	{name: "discovery-cert", instead: insteadDiscovery},
	{name: "discovery-key", instead: insteadDiscovery},
	{name: "discovery-cacert", instead: insteadDiscovery},
	{name: "discovery-user", instead: insteadDiscovery},
	{name: "discovery-password", instead: insteadDiscovery},
}

var selfSignedFlags = []refusedFlag{
	{name: "auto-tls", boolean: true, accept: []string{"false"}, instead: insteadOwnCA},
	{name: "peer-auto-tls", boolean: true, accept: []string{"false"}, instead: insteadOwnCA},
	{name: "self-signed-cert-validity", accept: []string{"1"}, instead: insteadOwnCA},
}

var tracingFlags = []refusedFlag{
	{name: "enable-distributed-tracing", boolean: true, accept: []string{"false"}, instead: insteadTracing},
	{name: "distributed-tracing-address", accept: []string{"localhost:4317"}, instead: insteadTracing},
	{name: "distributed-tracing-service-name", accept: []string{"etcd"}, instead: insteadTracing},
	{name: "distributed-tracing-instance-id", instead: insteadTracing},
	{name: "distributed-tracing-sampling-rate", accept: []string{"0"}, instead: insteadTracing},
}

// experimentalPrefix began the names of flags that etcd 3.7 has without it.
const experimentalPrefix = "experimental-"

// experimentalFlags are those of etcd 3.4 to 3.6, without the prefix, that mean the
// same as the flag without it. Others stand where the flags are.
var experimentalFlags = []string{
	"bootstrap-defrag-threshold-megabytes", "compact-hash-check-time", "compaction-batch-limit", "compaction-sleep-interval",
	"corrupt-check-time", "distributed-tracing-address", "distributed-tracing-service-name", "distributed-tracing-instance-id",
	"distributed-tracing-sampling-rate", "downgrade-check-time", "enable-distributed-tracing", "memory-mlock",
	"peer-skip-client-san-verification", "snapshot-catchup-entries", "warning-apply-duration",
	"warning-unary-request-duration", "watch-progress-notify-interval",
}

// experimentalFlag finds a flag by its name with the prefix.
func experimentalFlag(name string) (serverFlag, bool) {
	plain, ok := strings.CutPrefix(name, experimentalPrefix)
	if !ok || !slices.Contains(experimentalFlags, plain) {
		return serverFlag{}, false
	}
	flag, ok := serverFlagNamed(plain)
	flag.name = name
	return flag, ok
}
