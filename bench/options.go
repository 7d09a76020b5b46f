package main

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/conclave-kv/conclave/test/faultdisk"
)

// The systems that can be measured.
const (
	etcdSystem     = "etcd"
	conclaveSystem = "conclave"
	earlierSystem  = "earlier" // another build of conclave; see -earlier
	emptySystem    = "empty"
)

// options are the flags that the measuring commands share.
type options struct {
	systems  []string      // in the order they take turns
	etcd     string        // path of the etcd binary
	conclave string        // path of the conclave binary; empty: build it
	earlier  string        // path of another conclave binary; empty: none
	dir      string        // parent of the data directories; empty: the system's
	mtls     bool          // certificates on both ports, for every system
	mtlsOnly string        // the same for one system only; empty: see mtls
	rounds   int           // how often each system is measured
	duration time.Duration // of one measured load
	warmup   time.Duration // of each load, before it is measured
	loads    string        // names of loads to run, comma separated; empty: all
	conns    int           // most connections of one load
	keys     int           // size of the key space
	value    int           // bytes of a value

	ownDisks   bool          // every member's data is on a disk of its own, of test/faultfs
	fsyncDelay time.Duration // added to every fsync; positive only with disks of their own
	state      int           // install: MiB that the cluster holds
	clients    int           // install: writers beside it
	leases     int           // leases: how many
}

// defaults are what one measuring command does without flags.
type defaults struct {
	systems  string // also all that can be measured
	rounds   int
	duration time.Duration
	keys     int                           // 0: 10,000
	more     func(*flag.FlagSet, *options) // flags of this command only; may be nil
}

// parseOptions reads the flags of a measuring command.
func parseOptions(name string, d defaults, args []string) (options, error) {
	o := options{state: 1, clients: 1, leases: 1}
	var systems string
	set := flag.NewFlagSet("bench "+name, flag.ContinueOnError)
	set.StringVar(&systems, "systems", d.systems, "systems to measure, in turn")
	set.StringVar(&o.etcd, "etcd", "bin/interop/etcd", "etcd binary (make interop-programs builds it)")
	set.StringVar(&o.conclave, "conclave", "", "conclave binary (default: build ./cmd/conclave)")
	set.StringVar(&o.earlier, "earlier", "", "another conclave binary, to compare with: measured as system \"earlier\", in turn with the others")
	set.StringVar(&o.dir, "dir", "", "directory for the data directories, on the disk to measure (default: the temporary directory)")
	set.BoolVar(&o.mtls, "mtls", false, "mutual TLS on client and peer ports of every system")
	set.StringVar(&o.mtlsOnly, "mtls-only", "", "mutual TLS on the ports of this system, the others without")
	set.IntVar(&o.rounds, "rounds", d.rounds, "rounds; in each, every system is measured once")
	set.DurationVar(&o.duration, "duration", d.duration, "measured time of one load, or of one look")
	set.DurationVar(&o.warmup, "warmup", time.Second, "time each load runs before it is measured")
	set.StringVar(&o.loads, "loads", "", "loads to run, comma separated (default: all)")
	set.IntVar(&o.conns, "conns", 100, "most connections of one load; its clients share them")
	set.IntVar(&o.keys, "keys", cmp.Or(d.keys, 10_000), "number of keys")
	set.IntVar(&o.value, "value", 256, "bytes of a value")
	if d.more != nil {
		d.more(set, &o)
	}
	if err := set.Parse(args); err != nil {
		return o, err
	}
	if set.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q: %s takes flags only", set.Arg(0), name)
	}
	o.systems = strings.Split(systems, ",")
	known := strings.Split(d.systems, ",")
	if o.earlier != "" {
		o.systems, known = append(o.systems, earlierSystem), append(known, earlierSystem)
	}
	return o, o.validate(known)
}

// validate refuses what cannot be measured; known are the systems that can.
func (o options) validate(known []string) error {
	for i, s := range o.systems {
		if !slices.Contains(known, s) || slices.Contains(o.systems[:i], s) {
			return fmt.Errorf("-systems %q: name each of %s at most once", strings.Join(o.systems, ","), strings.Join(known, ", "))
		}
	}
	for name, n := range map[string]int{"rounds": o.rounds, "conns": o.conns, "keys": o.keys, "value": o.value, "state": o.state, "clients": o.clients, "leases": o.leases} {
		if n < 1 {
			return fmt.Errorf("-%s %d: use 1 or more", name, n)
		}
	}
	if o.duration <= 0 || o.warmup < 0 {
		return fmt.Errorf("-duration %s -warmup %s: a load needs a positive duration", o.duration, o.warmup)
	}
	if o.mtlsOnly != "" && (o.mtls || !slices.Contains(o.systems, o.mtlsOnly)) {
		return fmt.Errorf("-mtls-only %q: name one of -systems, without -mtls", o.mtlsOnly)
	}
	if o.fsyncDelay < 0 {
		return fmt.Errorf("-fsync-delay %s: use 0 or more", o.fsyncDelay)
	}
	if o.needsDisks() {
		if err := faultdisk.Available(); err != nil {
			return fmt.Errorf("members need disks of their own here: %w", err)
		}
	}
	if slices.Contains(o.systems, etcdSystem) {
		if _, err := os.Stat(o.etcd); err != nil {
			return fmt.Errorf("-etcd %q: %w; build it with make interop-programs", o.etcd, err)
		}
	}
	return nil
}

// needsDisks says whether members' data is on disks of their own.
func (o options) needsDisks() bool { return o.ownDisks || o.fsyncDelay > 0 }

// secured says whether a system has mutual TLS on its ports.
func (o options) secured(system string) bool { return o.mtls || o.mtlsOnly == system }
