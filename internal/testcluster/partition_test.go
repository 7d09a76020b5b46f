package testcluster_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclave-kv/conclave/internal/testcluster"
)

var (
	rounds = flag.Int("rounds", 10, "rounds of the partition test; at most 4 with -short")
	seed   = flag.Uint64("seed", 1, "seed of the partition test's first round")
)

// register is one key with one writer, whose values only grow. Every read has
// to return at least what was acknowledged, or read by anybody, before it began.
type register struct {
	key   string
	acked atomic.Int64 // newest value acknowledged or read
	tried atomic.Int64 // newest value that may be in the store
}

func (r *register) seen(v int64) {
	for {
		old := r.acked.Load()
		if v <= old || r.acked.CompareAndSwap(old, v) {
			return
		}
	}
}

// write tries the next value through one member. The comparison keeps a write
// of unknown outcome from taking effect after a later one.
func (r *register) write(ctx context.Context, c *clientv3.Client) {
	next := r.tried.Add(1)
	value := fmt.Sprintf("%020d", next)
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	resp, err := c.Txn(ctx).If(clientv3.Compare(clientv3.Value(r.key), "<", value)).
		Then(clientv3.OpPut(r.key, value)).Commit()
	if err == nil && resp.Succeeded {
		r.seen(next)
	}
}

// read checks one linearizable read; it returns false when there was none.
func (r *register) read(ctx context.Context, c *clientv3.Client) (ok bool, err error) {
	least := r.acked.Load()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	resp, err := c.Get(ctx, r.key)
	if err != nil || len(resp.Kvs) == 0 {
		return false, nil
	}
	got, err := strconv.ParseInt(string(resp.Kvs[0].Value), 10, 64)
	if err != nil {
		return false, err
	}
	if most := r.tried.Load(); got < least || got > most {
		return true, fmt.Errorf("stale read of %s: %d, after %d was acknowledged (newest tried %d)", r.key, got, least, most)
	}
	r.seen(got)
	return true, nil
}

// Rounds of partition and heal under concurrent writes and reads: no read is
// stale, nothing acknowledged is lost, and after each healing all members have
// the same history. A failing round is repeated with -seed. Rounds wait more
// than they compute, so that two clusters run beside each other.
func TestCluster_partitionRounds(t *testing.T) {
	n := *rounds
	if testing.Short() {
		n = min(n, 4)
	}
	half := uint64(n+1) / 2
	for _, seeds := range [][2]uint64{{*seed, *seed + half}, {*seed + half, *seed + uint64(n)}} {
		t.Run(fmt.Sprintf("seeds from %d", seeds[0]), func(t *testing.T) {
			t.Parallel()
			partitionRounds(t, seeds[0], seeds[1])
		})
	}
}

// partitionRounds plays the rounds of the seeds from first to before end.
func partitionRounds(t *testing.T, first, end uint64) {
	if first >= end {
		return
	}
	c := testcluster.Start(t, 3, testcluster.Options{ElectionTimeout: 200 * time.Millisecond})
	clients := perMember(t, c)
	registers := make([]*register, 4)
	for i := range registers {
		registers[i] = &register{key: fmt.Sprintf("register-%d", i)}
		if _, err := clients[0].Put(within(t), registers[i].key, fmt.Sprintf("%020d", 0)); err != nil {
			t.Fatal(err)
		}
	}
	for seed := first; seed < end; seed++ {
		reads, err := partitionRound(c, clients, registers, rand.New(rand.NewPCG(seed, 0)))
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		awaitEqual(t, c, clients, registers)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		t.Logf("seed %d: %d reads checked", seed, reads)
	}
}

func perMember(t *testing.T, c *testcluster.Cluster) []*clientv3.Client {
	t.Helper()
	var out []*clientv3.Client
	for _, m := range c.Members {
		out = append(out, client(t, m.ClientURL))
	}
	return out
}

// partitionRound cuts links while writers and readers run, and heals them.
func partitionRound(c *testcluster.Cluster, clients []*clientv3.Client, registers []*register, rng *rand.Rand) (reads int64, err error) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var work sync.WaitGroup
	var checked atomic.Int64
	failed := make(chan error, 1)
	for i, r := range registers {
		via := rand.New(rand.NewPCG(rng.Uint64(), 1))
		work.Go(func() {
			for ctx.Err() == nil {
				r.write(ctx, clients[via.IntN(len(clients))])
			}
		})
		reader := clients[i%len(clients)]
		work.Go(func() {
			for ctx.Err() == nil {
				ok, err := r.read(ctx, reader)
				if ok {
					checked.Add(1)
				}
				if err != nil {
					select {
					case failed <- err:
					default:
					}
				}
			}
		})
	}
	for range 1 + rng.IntN(3) {
		cut(c, rng)
		pause(ctx, time.Duration(50+rng.IntN(400))*time.Millisecond)
		c.Heal()
		pause(ctx, time.Duration(rng.IntN(150))*time.Millisecond)
	}
	stop()
	work.Wait()
	select {
	case err = <-failed:
	default:
	}
	return checked.Load(), err
}

// cut takes down one link, or all links of one member, most often the leader's.
func cut(c *testcluster.Cluster, rng *rand.Rand) {
	n := len(c.Members)
	switch i := rng.IntN(n); rng.IntN(4) {
	case 0:
		c.Cut(i, (i+1)%n)
	case 1:
		c.Isolate(i)
	default:
		if leader := c.Leader(); leader >= 0 {
			i = leader
		}
		c.Isolate(i)
	}
}

// pause lets a fault act for a while; how long is part of the schedule.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// awaitEqual waits until every member reads every register's acknowledged
// value, then compares their histories.
func awaitEqual(t *testing.T, c *testcluster.Cluster, clients []*clientv3.Client, registers []*register) {
	t.Helper()
	ctx := within(t)
	for i := range clients {
		for _, r := range registers {
			for {
				ok, err := r.read(ctx, clients[i])
				if err != nil {
					t.Fatal(err)
				}
				if ok {
					break
				}
				if ctx.Err() != nil {
					t.Fatalf("member %d does not answer after healing", i)
				}
			}
		}
	}
	for {
		equal, state := c.Equal()
		if equal {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("members differ after healing: %s", state)
		}
	}
}

// A leader that is cut off and does not know it yet confirms no read: what the
// others agree on meanwhile must never be missed.
func TestCluster_cutOffLeaderConfirmsNothing(t *testing.T) {
	c := testcluster.Start(t, 3, testcluster.Options{ElectionTimeout: time.Second})
	clients := perMember(t, c)
	if _, err := clients[0].Put(within(t), "k", "old"); err != nil {
		t.Fatal(err)
	}
	var old int
	for old = c.Leader(); old < 0; old = c.Leader() {
		if within(t).Err() != nil {
			t.Fatal("no leader")
		}
	}
	c.Isolate(old)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if resp, err := clients[old].Get(ctx, "k"); err == nil {
		t.Fatalf("a leader without a majority confirmed a read: %v", resp.Kvs)
	}
	if _, err := clients[old].Get(within(t), "k", clientv3.WithSerializable()); err != nil {
		t.Fatalf("serializable read without a majority: %v", err)
	}
	if _, err := clients[(old+1)%3].Put(within(t), "k", "new"); err != nil {
		t.Fatalf("write through the majority: %v", err)
	}
	read := make(chan string, 1)
	go func() {
		resp, err := clients[old].Get(within(t), "k")
		if err != nil {
			read <- err.Error()
			return
		}
		read <- string(resp.Kvs[0].Value)
	}()
	c.Heal()
	if got := <-read; got != "new" {
		t.Fatalf("the healed leader read %q", got)
	}
}
