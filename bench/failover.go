package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// The attempts to write after a kill.
const (
	attemptEvery   = 5 * time.Millisecond
	attemptTimeout = time.Second // so at most 200 are in flight
	failoverLimit  = 30 * time.Second
)

// led are the systems that have leaders.
const led = etcdSystem + "," + conclaveSystem

// runFailover kills the leader of each system in turn and measures the time to
// the next successful write through the survivors.
func runFailover(ctx context.Context, args []string) error {
	o, err := parseOptions("failover", defaults{systems: led, rounds: 10, duration: time.Second}, args)
	if err != nil {
		return err
	}
	return withBench(ctx, o, func(ctx context.Context, b *bench) error {
		if err := b.startAll(ctx); err != nil {
			return err
		}
		took := map[string][]float64{}
		for round := range b.rounds {
			for _, k := range b.clusters {
				t, err := k.failover(ctx, round)
				if err != nil {
					return err
				}
				took[k.system] = append(took[k.system], millis(t))
				fmt.Printf("round %2d: %-8s %5.0f ms\n", round+1, k.system, millis(t))
			}
		}
		printFailover(b.systems, took)
		return nil
	})
}

// failover kills the leader once, measures, and leaves a whole cluster behind.
func (k *cluster) failover(ctx context.Context, round int) (time.Duration, error) {
	leader, err := k.leader(ctx)
	if err != nil {
		return 0, err
	}
	survivors := slices.DeleteFunc(slices.Clone(k.members), func(m *member) bool { return m == leader })
	for _, m := range survivors { // their connections are up before the clock runs
		if err := k.awaitWrite(ctx, m); err != nil {
			return 0, err
		}
	}
	// The kill falls anywhere between two heartbeats.
	if err := pause(ctx, time.Second+halfSecond()); err != nil {
		return 0, err
	}
	killed := time.Now()
	if err := leader.proc.kill(); err != nil {
		return 0, err
	}
	revision, err := firstWrite(ctx, survivors, round)
	took := time.Since(killed)
	if err != nil {
		return 0, fmt.Errorf("%s after a kill of its leader: %w", k.system, err)
	}
	if err := k.start(leader); err != nil {
		return 0, err
	}
	return took, k.awaitRevision(ctx, leader, revision)
}

// halfSecond is any time up to half a second: more than a heartbeat.
func halfSecond() time.Duration { return rand.N(500 * time.Millisecond) }

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// firstWrite starts a write every attemptEvery, at the survivors in turn, and
// returns the revision of the first that succeeds. Attempts overlap, because
// one sent too early may be lost with the old leader and hang.
func firstWrite(ctx context.Context, survivors []*member, round int) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, failoverLimit)
	defer cancel()
	var attempts sync.WaitGroup
	defer attempts.Wait()
	defer cancel()

	done := make(chan int64, 1)
	tick := time.NewTicker(attemptEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		m := survivors[n%len(survivors)]
		attempts.Go(func() {
			once, stop := context.WithTimeout(ctx, attemptTimeout)
			defer stop()
			answer, err := pb.NewKVClient(m.conn).Put(once, &pb.PutRequest{
				Key: []byte("bench/failover"), Value: fmt.Appendf(nil, "%d/%d", round, n),
			})
			if err != nil {
				return // the next attempt is on its way
			}
			select {
			case done <- answer.Header.Revision:
			default: // an earlier one succeeded
			}
		})
		select {
		case revision := <-done:
			return revision, nil
		case <-ctx.Done():
			return 0, fmt.Errorf("no write succeeded: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// awaitRevision waits until a restarted member has caught up with a revision
// and serves writes.
func (k *cluster) awaitRevision(ctx context.Context, m *member, revision int64) error {
	err := await(ctx, fmt.Sprintf("%s %s to catch up", k.system, m.name), func(ctx context.Context) error {
		status, err := m.status(ctx)
		switch {
		case err != nil:
			return err
		case status.Leader == 0:
			return errors.New("it knows no leader")
		case status.Header.Revision < revision:
			return fmt.Errorf("it is at revision %d of %d", status.Header.Revision, revision)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return k.awaitWrite(ctx, m)
}

func printFailover(systems []string, took map[string][]float64) {
	fmt.Println("\nTime from kill -9 of the leader to the next successful write:")
	fmt.Println("| system   | median ms | min ms | max ms | ÷ etcd (median of pairs) |")
	fmt.Println("|----------|-----------|--------|--------|--------------------------|")
	for _, system := range systems {
		of := took[system]
		ratio := ""
		if theirs := took[etcdSystem]; system != etcdSystem && len(theirs) > 0 {
			ratio = fmt.Sprintf("%.2f", pairedRatio(of, theirs))
		}
		fmt.Printf("| %-8s | %9.0f | %6.0f | %6.0f | %24s |\n", system, median(of), slices.Min(of), slices.Max(of), ratio)
	}
	if theirs := took[etcdSystem]; len(theirs) > 0 && len(took[conclaveSystem]) > 0 {
		fmt.Printf("ratio of the medians: %s\n", strings.TrimSpace(fmt.Sprintf("%.2f", median(took[conclaveSystem])/median(theirs))))
	}
}
