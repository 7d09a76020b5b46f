package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/conclave-kv/conclave/daemon"
	"github.com/conclave-kv/conclave/internal/version"
)

// integrityFlags say how members compare their data. etcd 3.5's names, which
// kubeadm still writes, mean the same.
func integrityFlags() []serverFlag {
	initial := func(c *daemon.Config) *bool { return &c.InitialCorruptCheck }
	compact := func(c *daemon.Config) *bool { return &c.CompactHashCheck }
	whole := func(c *daemon.Config) *time.Duration { return &c.CorruptCheckTime }
	every := func(c *daemon.Config) *time.Duration { return &c.CompactHashCheckTime }
	return []serverFlag{
		{name: "feature-gates", usage: "InitialCorruptCheck=false and CompactHashCheck=false switch comparisons of the members' data off", set: setGates},
		durationFlag("corrupt-check-time", "pause between comparisons of all data of the members (default: 0, never)", whole),
		durationFlag("compact-hash-check-time", "pause between looks for a compaction after which the members' data are compared (default: 1m)", every),
		{name: "experimental-enable-lease-checkpoint", boolean: true, usage: "as --feature-gates=LeaseCheckpoint=...", set: setGate("LeaseCheckpoint")},
		{name: "experimental-enable-lease-checkpoint-persist", boolean: true, usage: "as --feature-gates=LeaseCheckpointPersist=...", set: setGate("LeaseCheckpointPersist")},
		boolFlag("experimental-initial-corrupt-check", "as --feature-gates=InitialCorruptCheck=...", initial),
		boolFlag("experimental-compact-hash-check-enabled", "as --feature-gates=CompactHashCheck=...", compact),
	}
}

// featureGates are etcd 3.7's that conclave does not honour, with their
// defaults.
var featureGates = map[string]string{
	"AllAlpha": "false", "AllBeta": "false", "StopGRPCServiceOnDefrag": "false",
	"TxnModeWriteWithSharedBuffer": "true",
	"SetMemberLocalAddr":           "false", "FastLeaseKeepAlive": "true", "PriorityRequest": "false",
}

// setGate is a flag of an earlier etcd that a gate took the place of.
func setGate(name string) func(*daemon.Config, string) error {
	return func(c *daemon.Config, value string) error { return setGates(c, name+"="+value) }
}

// setGates is --feature-gates. Those that conclave does not honour may spell out
// their defaults.
func setGates(c *daemon.Config, list string) error {
	for gate := range strings.SplitSeq(list, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(gate), "=")
		def, known := featureGates[name]
		switch {
		case name == "":
		case name == "InitialCorruptCheck" || name == "CompactHashCheck":
			on, err := strconv.ParseBool(value)
			if err != nil {
				return errors.New("give " + name + "=true or " + name + "=false")
			}
			if name == "InitialCorruptCheck" {
				c.InitialCorruptCheck = on
			} else {
				c.CompactHashCheck = on
			}
		case name == "LeaseCheckpoint" || name == "LeaseCheckpointPersist":
			// What is left of a TTL is always agreed, and on disk.
			if _, err := strconv.ParseBool(value); err != nil {
				return errors.New("give " + name + "=true or " + name + "=false")
			}
		case !known:
			return fmt.Errorf("unrecognized feature gate: %s", name)
		case value != def:
			return &notSupported{fmt.Sprintf("--feature-gates=%s is not supported by conclave %s: leave that gate at its default, %s", strings.TrimSpace(gate), version.Conclave, def)}
		}
	}
	return nil
}
