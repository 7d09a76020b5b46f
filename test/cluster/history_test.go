package cluster_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/conclave-kv/conclave/daemon"
)

var (
	histories   = flag.Int("histories", 1, "how many histories of events TestHistory makes, with all faults in each")
	historySeed = flag.Uint64("historyseed", 0, "seed of the first history; 0: a new one, which is printed")
)

const (
	// historyPrefix is where all writes of a history go: so no revision is
	// another's.
	historyPrefix  = "h/"
	historyWriters = 3
	// historyLimit bounds one history.
	historyLimit = 3 * time.Minute
)

// history is what clients wrote, what watches on all members saw meanwhile, and
// the faults in between.
type history struct {
	t   *testing.T
	ctx context.Context
	sys faulty
	rng *rand.Rand

	first     int64 // revision before it
	members   []*clientv3.Client
	all       *clientv3.Client
	writers   *writerSet
	followers []*follower
	scribe    *follower // of everything, through all members
	stalled   *gate     // closed: those that read streams by themselves do not
	compacted int64     // newest compaction asked for
}

// faulty is a system whose members can be cut off.
type faulty interface {
	system
	// cutOff keeps a member from the others until rejoin; it may notice or not.
	cutOff(member int)
	rejoin(member int)
	// installs is how often a member has logged that it got the leader's state.
	installs() int
}

func (s *inProcess) cutOff(member int) { s.Isolate(member) }
func (s *inProcess) rejoin(int)        { s.Heal() }
func (s *inProcess) installs() int     { return int(s.log.installs.Load()) }

// installedState is what a member logs then.
const installedState = "installed a state from the leader"

// Watches on every member see the same history, whole and once and in order,
// while members end, leaders change, states are installed, history is compacted,
// members are cut off and clients do not read.
func TestHistory_sameOnAllMembers(t *testing.T) {
	playHistories(t, func(t *testing.T) faulty {
		return startInProcess(t, func(cfg *daemon.Config) { cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = 100, 20 })
	})
}

// playHistories makes the histories of the flags, each on a cluster of its own.
func playHistories(t *testing.T, start func(*testing.T) faulty) {
	seed := *historySeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	for end := seed + uint64(*histories); seed < end; seed++ {
		if !t.Run(fmt.Sprintf("historyseed=%d", seed), func(t *testing.T) { playHistory(t, start(t), seed) }) {
			return
		}
	}
}

func playHistory(t *testing.T, sys faulty, seed uint64) {
	ctx, cancel := context.WithTimeout(t.Context(), historyLimit)
	defer cancel()
	h := &history{t: t, ctx: ctx, sys: sys, rng: rand.New(rand.NewPCG(seed, 2)), stalled: newGate()}
	h.all = h.dial()
	for i := range 3 {
		h.members = append(h.members, h.dial(i))
	}
	_, err := h.all.Delete(ctx, historyPrefix, clientv3.WithPrefix()) // the model begins with nothing
	h.ok(err)
	resp, err := h.all.Get(ctx, historyPrefix)
	h.ok(err)
	h.first = resp.Header.Revision
	following, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stop()
	h.follow(following, &watching)
	h.writers = startWriters(h, seed)
	defer h.writers.end()
	h.install()
	for _, i := range h.rng.Perm(len(faults)) {
		began := time.Now()
		faults[i].play(h)
		t.Logf("%s: %v", faults[i].name, time.Since(began).Round(time.Millisecond))
	}
	h.writers.end()
	h.writers.settle()
	last := h.conclude()
	h.check(last)
	h.sameHash(last)
}

// ok fails at once where there is an error.
func (h *history) ok(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// dial makes a client of these members, or of all.
func (h *history) dial(members ...int) *clientv3.Client {
	h.t.Helper()
	cfg := h.sys.config(members...)
	cfg.DialTimeout, cfg.Logger = 10*time.Second, zap.NewNop()
	// A member that is back is not to wait for the client.
	cfg.DialOptions = []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.2, MaxDelay: 300 * time.Millisecond},
		MinConnectTimeout: 3 * time.Second,
	})}
	c, err := clientv3.New(cfg)
	h.ok(err)
	h.t.Cleanup(func() { c.Close() })
	return c
}

// conclude writes every key once more, so that each watch has something to see
// at the end, and waits until they have. It returns the last revision.
func (h *history) conclude() (last int64) {
	h.t.Helper()
	var all []write
	for _, key := range historyKeys {
		all = append(all, write{key: key})
	}
	eventually(h.t, historyLimit, "the last write", func() (err error) {
		last, err = h.writers.commit(h.ctx, h.all, h.writers.name("last"), all)
		return err
	})
	eventually(h.t, historyLimit, "all watches to see the last write", func() error {
		for _, f := range h.followers {
			if at := f.at(); at < last {
				return fmt.Errorf("%s is at revision %d of %d", f.name, at, last)
			}
		}
		return nil
	})
	return last
}

// sameHash fails unless all members have the same history.
func (h *history) sameHash(at int64) {
	h.t.Helper()
	var want uint32
	cfg := h.sys.config()
	for i, c := range h.members {
		_, err := c.Get(h.ctx, historyPrefix) // and so it has everything
		h.ok(err)
		resp, err := c.HashKV(h.ctx, cfg.Endpoints[i], at)
		h.ok(err)
		if i == 0 {
			want = resp.Hash
		}
		if resp.Hash != want {
			h.t.Errorf("member %d has the hash %d at revision %d, member 0 %d", i, resp.Hash, at, want)
		}
	}
}

// A gate is open, or keeps who waits at it.
type gate struct {
	mu   sync.Mutex
	open chan struct{}
}

func newGate() *gate {
	g := &gate{open: make(chan struct{})}
	close(g.open)
	return g
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

func (g *gate) unshut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
}

// pass waits until the gate is open.
func (g *gate) pass(ctx context.Context) error {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	select {
	case <-open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errNobody: no member leads.
var errNobody = errors.New("nobody leads")
