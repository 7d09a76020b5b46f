package main

import (
	"fmt"
	"slices"

	"github.com/conclave-kv/conclave/daemon"
	"github.com/conclave-kv/conclave/internal/version"
)

// refusedFlag is a flag of etcd that conclave does not honour. Given with a
// value that asks for nothing it is accepted, so that files which spell out
// etcd's defaults work; with any other value it is refused, because a setting
// that is silently ignored is worse than none.
type refusedFlag struct {
	name    string
	boolean bool
	accept  []string // values that ask for nothing; "" always does
	instead string   // what to do
}

// flag makes it one like the others.
func (r refusedFlag) flag() serverFlag {
	return serverFlag{name: r.name, boolean: r.boolean, set: func(_ *daemon.Config, s string) error {
		if s == "" || slices.Contains(r.accept, s) {
			return nil
		}
		instead := r.instead
		if instead == "" {
			instead = "remove it"
		}
		return &notSupported{fmt.Sprintf("--%s=%s is not supported by conclave %s: %s", r.name, s, version.Conclave, instead)}
	}}
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
	insteadSteps     = "remove it; history is removed in small steps beside the writes"
	insteadFsync     = "conclave never acknowledges what is not on disk"
)

// refusedFlags are the flags of etcd 3.7 that are not in serverFlags, and
// those of 3.5 and 3.6 that etcd removed.
var refusedFlags = slices.Concat([]refusedFlag{
	{name: "initial-election-tick-advance", boolean: true, accept: []string{"true"}},
	{name: "max-snapshots", accept: []string{"5"}},
	{name: "max-wals", accept: []string{"5"}},
	{name: "backend-bbolt-freelist-type", accept: []string{"map"}},
	{name: "backend-batch-interval", accept: []string{"0", "0s", "100ms"}},
	{name: "backend-batch-limit", accept: []string{"0", "10000"}},
	{name: "socket-reuse-port", boolean: true, accept: []string{"false"}},
	{name: "socket-reuse-address", boolean: true, accept: []string{"false"}},
	{name: "raft-read-timeout", accept: []string{"5s"}},
	{name: "raft-write-timeout", accept: []string{"5s"}},
	{name: "memory-mlock", boolean: true, accept: []string{"false"}},
	{name: "warning-apply-duration", accept: []string{"100ms"}},
	{name: "warning-unary-request-duration", accept: []string{"300ms"}},
	{name: "downgrade-check-time", accept: []string{"5s"}},
	{name: "force-new-cluster", boolean: true, accept: []string{"false"}},
	{name: "unsafe-no-fsync", boolean: true, accept: []string{"false"}, instead: insteadFsync},
	{name: "metrics", accept: []string{"basic"}},
	{name: "logger", accept: []string{"zap"}, instead: "conclave writes etcd's log format whatever the logger"},
	{name: "enable-log-rotation", boolean: true, accept: []string{"false"}, instead: "rotate the file with logrotate (copytruncate)"},
	{name: "log-rotation-config-json", accept: []string{`{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}`}},
	{name: "v2-deprecation", accept: []string{"write-only", "write-only-skip-check", "write-only-drop-data", "gone"}},
}, discoveryFlags, selfSignedFlags, compactionFlags, tracingFlags, experimentalFlags())

var discoveryFlags = []refusedFlag{
	{name: "discovery", instead: insteadDiscovery},
	{name: "discovery-proxy", instead: insteadDiscovery},
	{name: "discovery-fallback", accept: []string{"exit"}, instead: "there is no proxy to fall back to"},
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

var compactionFlags = []refusedFlag{
	{name: "compaction-batch-limit", accept: []string{"0", "1000"}, instead: insteadSteps},
	{name: "compaction-sleep-interval", accept: []string{"0", "0s", "10ms"}, instead: insteadSteps},
}

var tracingFlags = []refusedFlag{
	{name: "enable-distributed-tracing", boolean: true, accept: []string{"false"}},
	{name: "distributed-tracing-address", accept: []string{"localhost:4317"}},
	{name: "distributed-tracing-service-name", accept: []string{"etcd"}},
	{name: "distributed-tracing-instance-id"},
	{name: "distributed-tracing-sampling-rate", accept: []string{"0"}},
}

// experimentalFlags are the flags etcd 3.7 removed in favour of a name without
// the prefix or of a feature gate; true marks those without a value.
func experimentalFlags() []refusedFlag {
	names := map[string]bool{
		"bootstrap-defrag-threshold-megabytes": false,
		"compaction-batch-limit":               false, "compaction-sleep-interval": false,
		"distributed-tracing-address": false, "distributed-tracing-service-name": false,
		"distributed-tracing-instance-id": false, "distributed-tracing-sampling-rate": false,
		"downgrade-check-time": false, "enable-distributed-tracing": true, "enable-lease-checkpoint": true,
		"enable-lease-checkpoint-persist": true, "memory-mlock": true,
		"peer-skip-client-san-verification": true, "snapshot-catchup-entries": false,
		"stop-grpc-service-on-defrag": true, "txn-mode-write-with-shared-buffer": true,
		"warning-apply-duration": false, "warning-unary-request-duration": false,
	}
	var out []refusedFlag
	for name, boolean := range names {
		out = append(out, refusedFlag{
			name: "experimental-" + name, boolean: boolean,
			instead: "etcd 3.7 removed the experimental flags; use --" + name + " or its feature gate",
		})
	}
	return out
}
