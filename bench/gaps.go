package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// steady is how long writing goes on after the first success: what follows
// belongs to the gap too if it is another, longer one.
const steady = time.Second

// trouble is one way for a leader to fail.
type trouble struct {
	name  string
	begin func(*cluster, *member) error
	// end makes the member whole again; probe is a key that was written while it
	// was away, at a revision.
	end func(ctx context.Context, k *cluster, m *member, probe string, revision int64) error
}

var troubles = []trouble{
	{
		"death",
		func(_ *cluster, m *member) error { return m.proc.kill() },
		func(_ context.Context, k *cluster, m *member, _ string, _ int64) error { return k.start(m) },
	},
	{"pause", func(_ *cluster, m *member) error { return m.proc.signal(syscall.SIGSTOP) }, wakeUp},
	{"disk hang", hang, unhang},
}

// runGaps measures how long nobody can write after the leader's death, pause
// and disk hang.
func runGaps(ctx context.Context, args []string) error {
	var only string
	o, err := parseOptions("gaps", defaults{systems: led, rounds: 20, duration: time.Second, more: func(set *flag.FlagSet, o *options) {
		o.ownDisks = true
		set.StringVar(&only, "trouble", "", "death, pause or disk hang: this one only")
	}}, args)
	if err != nil {
		return err
	}
	chosen := slices.DeleteFunc(slices.Clone(troubles), func(t trouble) bool { return only != "" && t.name != only })
	if len(chosen) == 0 {
		return fmt.Errorf("-trouble %q: use death, pause or disk hang", only)
	}
	return withBench(ctx, o, func(ctx context.Context, b *bench) error {
		if err := b.startAll(ctx); err != nil {
			return err
		}
		gaps := map[string]map[string][]float64{}
		for _, t := range chosen {
			gaps[t.name] = map[string][]float64{}
		}
		for round := range b.rounds {
			for _, t := range chosen {
				for _, k := range b.clusters {
					d, err := k.trouble(ctx, t, fmt.Sprintf("bench/gap/%03d/%s/", round, t.name))
					if err != nil {
						return fmt.Errorf("%s, %s, round %d: %w", k.system, t.name, round+1, err)
					}
					gaps[t.name][k.system] = append(gaps[t.name][k.system], millis(d))
					fmt.Printf("round %2d: %-9s %-8s %5.0f ms\n", round+1, t.name, k.system, millis(d))
				}
			}
		}
		printGaps(chosen, b.systems, gaps)
		return nil
	})
}

// trouble has the leader fail once, measures, and leaves a whole cluster
// behind. It fails if an acknowledged write is lost or a read is stale.
func (k *cluster) trouble(ctx context.Context, t trouble, prefix string) (time.Duration, error) {
	leader, err := k.leader(ctx)
	if err != nil {
		return 0, err
	}
	for _, m := range k.members { // their connections are up before the clock runs
		if err := k.awaitWrite(ctx, m); err != nil {
			return 0, err
		}
	}
	w := newGapWriter(ctx, k.members, prefix)
	defer w.close()
	// It falls anywhere between two heartbeats.
	if err := pause(ctx, time.Second+halfSecond()); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := t.begin(k, leader); err != nil {
		return 0, err
	}
	if err := w.await(ctx, began); err != nil {
		return 0, err
	}
	if err := pause(ctx, steady); err != nil {
		return 0, err
	}
	acks, _ := w.since(began)
	w.close()
	probe, revision, err := k.probe(ctx, leader, prefix)
	if err != nil {
		return 0, err
	}
	if err := t.end(ctx, k, leader, probe, revision); err != nil {
		return 0, err
	}
	all, _ := w.since(time.Time{})
	return gap(began, acks), k.hold(ctx, all, prefix, revision)
}

// probe writes once more, through a member that is not in trouble.
func (k *cluster) probe(ctx context.Context, troubled *member, prefix string) (key string, revision int64, err error) {
	key = prefix + "probe"
	err = await(ctx, k.system+" to take a write without its former leader", func(ctx context.Context) error {
		for _, m := range k.members {
			if m == troubled {
				continue
			}
			answer, err := pb.NewKVClient(m.conn).Put(ctx, &pb.PutRequest{Key: []byte(key), Value: []byte(m.name)})
			if err == nil {
				revision = answer.Header.Revision
				return nil
			}
		}
		return errors.New("both others refuse")
	})
	return key, revision, err
}

// hold fails unless every member has every acknowledged write.
func (k *cluster) hold(ctx context.Context, acks []ack, prefix string, revision int64) error {
	for _, m := range k.members {
		if err := k.awaitRevision(ctx, m, revision); err != nil {
			return err
		}
		answer, err := pb.NewKVClient(m.conn).Range(ctx, &pb.RangeRequest{
			Key: []byte(prefix), RangeEnd: append([]byte(prefix[:len(prefix)-1]), prefix[len(prefix)-1]+1), Serializable: true,
		})
		if err != nil {
			return fmt.Errorf("read %s from %s: %w", prefix, m.name, err)
		}
		found := map[string]int64{}
		for _, kv := range answer.Kvs {
			found[string(kv.Key)] = kv.ModRevision
		}
		for _, a := range acks {
			if found[a.key] != a.revision {
				return fmt.Errorf("%s was acknowledged at revision %d and is at %d on %s", a.key, a.revision, found[a.key], m.name)
			}
		}
	}
	return nil
}

// wakeUp continues a paused member. A read that waits in its socket, or comes
// at once, must not be answered from before the probe.
func wakeUp(ctx context.Context, k *cluster, m *member, probe string, revision int64) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	const reads = 20
	answers := make(chan error, reads)
	for n := range reads {
		go func() { answers <- freshRead(ctx, m, probe, revision) }()
		if err := pause(ctx, attemptEvery); err != nil {
			return err
		}
		if n == 0 {
			if err := m.proc.signal(syscall.SIGCONT); err != nil {
				return err
			}
		}
	}
	var errs []error
	for range reads {
		errs = append(errs, <-answers)
	}
	return errors.Join(errs...)
}

// freshRead reads a key once through a member. No answer at all is no lie.
func freshRead(ctx context.Context, m *member, key string, revision int64) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	answer, err := pb.NewKVClient(m.conn).Range(ctx, &pb.RangeRequest{Key: []byte(key)})
	if err == nil && (len(answer.Kvs) != 1 || answer.Kvs[0].ModRevision != revision) {
		return fmt.Errorf("stale read: %s shows %v for %s, written at revision %d", m.name, answer.Kvs, key, revision)
	}
	return nil
}

// hang has every sync of the member's disk stand still. It may end by itself
// then.
func hang(_ *cluster, m *member) error {
	m.proc.expected.Store(true)
	_, err := m.disk.Do("hang", "sync")
	return err
}

func unhang(_ context.Context, k *cluster, m *member, _ string, _ int64) error {
	if _, err := m.disk.Do("release"); err != nil {
		return err
	}
	// It runs on, or has given up: both are right.
	if m.proc.running() {
		m.proc.expected.Store(false)
		return nil
	}
	return k.start(m)
}

func printGaps(chosen []trouble, systems []string, gaps map[string]map[string][]float64) {
	fmt.Println("\nLongest time without a successful write, clients trying without pause:")
	fmt.Println("| leader's  | system   | median ms | worst ms | min ms | ÷ etcd (median of pairs) |")
	fmt.Println("|-----------|----------|-----------|----------|--------|--------------------------|")
	for _, t := range chosen {
		for _, system := range systems {
			of := gaps[t.name][system]
			ratio := ""
			if theirs := gaps[t.name][etcdSystem]; system != etcdSystem && len(theirs) > 0 {
				ratio = fmt.Sprintf("%.2f", pairedRatio(of, theirs))
			}
			fmt.Printf("| %-9s | %-8s | %9.0f | %8.0f | %6.0f | %24s |\n", t.name, system, median(of), slices.Max(of), slices.Min(of), ratio)
		}
	}
}
