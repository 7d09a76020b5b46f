package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/conclave-kv/conclave/test/faultdisk"
)

// shape is one load of the comparison.
type shape struct {
	name    string
	op      string
	clients int
	leader  bool // all clients at the leader, else spread over the members
	writers int  // more clients, which put meanwhile and are not measured
	content bool // the answer is what is measured: not for the empty server
}

// shapes are the loads, in the order they run.
var shapes = []shape{
	{name: "put-1", op: opPut, clients: 1, leader: true},
	{name: "put-100", op: opPut, clients: 100, leader: true},
	{name: "put-1000", op: opPut, clients: 1000},
	{name: "get-1", op: opGet, clients: 1, leader: true},
	{name: "get-1000", op: opGet, clients: 1000},
	{name: "get-100-put-100", op: opGet, clients: 100, writers: 100},
	{name: "serialget-1000", op: opGetSerial, clients: 1000},
	{name: "txn-100", op: opTxn, clients: 100, leader: true},
	{name: "range-1", op: opRange, clients: 1, leader: true, content: true},
	{name: "stream-1", op: opStream, clients: 1, leader: true, content: true},
}

// bench is one run: the started systems and what they share.
type bench struct {
	options
	dir         string
	self        string            // this program, for load and empty-server processes
	binaries    map[string]string // by system
	diskProgram string            // of test/faultfs; empty: members use the real disk
	certs       *certs
	clusters    []*cluster
	audited     *cluster                // with an audit log; nil until it is needed
	fail        context.CancelCauseFunc // ends the run
}

// runLoads measures every load on every system, in rounds.
func runLoads(ctx context.Context, args []string) error {
	o, err := parseOptions("run", defaults{systems: "etcd,conclave,empty", rounds: 5, duration: 4 * time.Second, more: func(set *flag.FlagSet, o *options) {
		set.DurationVar(&o.fsyncDelay, "fsync-delay", 0, "time added to every fsync of every server; needs root and FUSE")
	}}, args)
	if err != nil {
		return err
	}
	chosen, err := choose(o.loads, shapes, func(s shape) string { return s.name })
	if err != nil {
		return err
	}
	return withFilled(ctx, o, func(ctx context.Context, b *bench) error {
		if err := b.printIdle(ctx); err != nil {
			return err
		}
		return b.measure(ctx, chosen)
	})
}

// choose finds the loads that -loads names, or all for no name.
func choose[L any](names string, loads []L, nameOf func(L) string) ([]L, error) {
	if names == "" {
		return loads, nil
	}
	var chosen []L
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(loads, func(l L) bool { return nameOf(l) == name })
		if i < 0 {
			var known []string
			for _, l := range loads {
				known = append(known, nameOf(l))
			}
			return nil, fmt.Errorf("-loads %q: unknown load; use %s", name, strings.Join(known, ", "))
		}
		chosen = append(chosen, loads[i])
	}
	return chosen, nil
}

// withFilled is withBench with all systems started and filled.
func withFilled(ctx context.Context, o options, measure func(context.Context, *bench) error) error {
	return withBench(ctx, o, func(ctx context.Context, b *bench) error {
		if err := b.startAll(ctx); err != nil {
			return err
		}
		for _, k := range b.clusters {
			if err := b.fill(ctx, k); err != nil {
				return err
			}
		}
		return measure(ctx, b)
	})
}

// withBench builds what is needed, runs the measurement, and stops and removes
// everything, however it ends.
func withBench(ctx context.Context, o options, measure func(context.Context, *bench) error) (err error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	b := &bench{options: o, fail: fail}
	if b.dir, err = os.MkdirTemp(o.dir, "conclave-bench-"); err != nil {
		return fmt.Errorf("-dir %q: %w", o.dir, err)
	}
	defer os.RemoveAll(b.dir)
	defer func() {
		for _, k := range b.clusters {
			k.stop()
		}
	}()
	if err := b.prepare(ctx); err != nil {
		return orCause(ctx, err)
	}
	return orCause(ctx, measure(ctx, b))
}

// orCause prefers why everything was stopped to what failed because of it.
func orCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// prepare builds what has to be built.
func (b *bench) prepare(ctx context.Context) (err error) {
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.mtls || b.mtlsOnly != "" {
		if b.certs, err = newCerts(b.dir); err != nil {
			return fmt.Errorf("make certificates: %w", err)
		}
	}
	if b.needsDisks() {
		if b.diskProgram, err = faultdisk.Build(ctx, ".", b.dir); err != nil {
			return fmt.Errorf("%w (run this from the top of the repository)", err)
		}
	}
	b.binaries = map[string]string{etcdSystem: b.etcd, conclaveSystem: b.conclave, earlierSystem: b.earlier, emptySystem: b.self}
	if slices.Contains(b.systems, conclaveSystem) && b.conclave == "" {
		b.binaries[conclaveSystem] = filepath.Join(b.dir, "conclave")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", b.binaries[conclaveSystem], "./cmd/conclave")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build ./cmd/conclave (run this from the top of the repository): %w", err)
		}
	}
	return b.printMachine()
}

// startAll starts every system, to run beside each other.
func (b *bench) startAll(ctx context.Context) error {
	for _, system := range b.systems {
		if _, err := b.startCluster(ctx, system); err != nil {
			return err
		}
	}
	return nil
}

// fill writes every key once, so that gets find values.
func (b *bench) fill(ctx context.Context, k *cluster) error {
	spec := b.spec(k, opFill, 100)
	spec.Endpoints = k.endpoints()
	_, err := b.drive(ctx, k, spec)
	return err
}

func (b *bench) spec(k *cluster, op string, clients int) loadSpec {
	spec := loadSpec{
		Op: op, Clients: clients, Conns: b.conns, Warmup: b.warmup, Duration: b.duration,
		Keys: b.keys, Value: b.value, Pids: k.pids(),
	}
	if k.certs != nil {
		spec.CA, spec.Cert, spec.Key = k.certs.ca, k.certs.cert, k.certs.key
	}
	return spec
}

// measure runs each load in rounds of all systems and prints its rows when its
// rounds are done.
func (b *bench) measure(ctx context.Context, chosen []shape) error {
	printHeader()
	for _, s := range chosen {
		results := map[string][]loadResult{}
		for round := range b.rounds {
			for _, k := range b.clusters {
				if s.content && k.system == emptySystem {
					continue
				}
				result, err := b.once(ctx, k, s, uint64(round))
				if err != nil {
					return err
				}
				results[k.system] = append(results[k.system], result)
			}
		}
		printRows(s, b.systems, results)
	}
	return nil
}

// once measures one load on one system; the seed decides its keys.
func (b *bench) once(ctx context.Context, k *cluster, s shape, seed uint64) (loadResult, error) {
	leader, err := k.leader(ctx)
	if err != nil {
		return loadResult{}, err
	}
	spec := b.spec(k, s.op, s.clients)
	spec.Seed, spec.Writers = seed, s.writers
	spec.Endpoints = k.endpoints()
	if s.leader {
		spec.Endpoints = []string{leader.client}
	}
	return b.drive(ctx, k, spec)
}

// drive runs one load in a process of its own, so that the client's garbage
// and scheduling are not this process's.
func (b *bench) drive(ctx context.Context, k *cluster, spec loadSpec) (loadResult, error) {
	var result loadResult
	input, err := json.Marshal(spec)
	if err != nil {
		return result, err
	}
	ctx, cancel := context.WithTimeout(ctx, spec.Warmup+spec.Duration+2*time.Minute)
	defer cancel()
	var out, complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, b.self, "load")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &out, &complaint
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Run(); err != nil {
		return result, fmt.Errorf("load %s on %s: %w: %s", spec.Op, k.system, err, strings.TrimSpace(complaint.String()))
	}
	if err := json.Unmarshal(out.Bytes(), &result); err != nil {
		return result, fmt.Errorf("load %s on %s: read its result: %w", spec.Op, k.system, err)
	}
	return result, nil
}
