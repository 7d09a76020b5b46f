//go:build interop

package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	keptLeases = 1000 // renewed all the time
	leftLeases = 300  // renewed by nobody
	// leaseLate is how late a lease may end beside the time without a leader: a
	// look every 250 ms, 1,000 ends a second, and what a busy machine takes.
	leaseLate = 2 * time.Second
	// leaseChange is what each change of the leader may add.
	leaseChange = 3 * time.Second
	// outageOfLeases is a write that takes so long that there was no leader.
	outageOfLeases = time.Second
)

// leaseTTL is the TTL of the n-th lease, from 5 to 15 seconds, or to 9 for those
// that nobody renews, so that the test ends.
func leaseTTL(n int, kept bool) time.Duration {
	if kept {
		return time.Duration(5+n%11) * time.Second
	}
	return time.Duration(5+2*(n%3)) * time.Second
}

// leaseKey is one key and its lease.
type leaseKey struct {
	key         string
	id          clientv3.LeaseID
	ttl         time.Duration
	from, until time.Time // the grant was sent and answered
	revision    int64
	givenUp     atomic.Bool // by the client
}

// renewable says whether a client that renews each third of the TTL could keep the
// lease through a time without a leader. etcd's gives it up when there is no answer
// for a TTL by its own clock, though the members count no such time.
func (l *leaseKey) renewable(outage time.Duration) bool { return outage < l.ttl*2/3-time.Second }

// leaseBed is leases, the key of each, and a watch of those, through two members
// to whom nothing happens.
type leaseBed struct {
	t          *testing.T
	ctx        context.Context
	client     *clientv3.Client
	kept, left []*leaseKey
	renewed    atomic.Int64
	outage     atomic.Int64  // how long writes waited for a leader, in nanoseconds
	writing    atomic.Int64  // when the write that is under way began, in nanoseconds; 0: none is
	slow       time.Duration // what a slow disk adds to the end of a lease
	term       uint64

	mu   sync.Mutex
	gone map[string]time.Time // when the watch saw it
}

// newLeaseBed grants the leases, renews those that are kept, and writes now and
// then, through these members.
func newLeaseBed(t *testing.T, g *group, renew func(*leaseBed, *leaseKey), through ...*member) *leaseBed {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	var work sync.WaitGroup
	t.Cleanup(func() { cancel(); work.Wait() })
	b := &leaseBed{t: t, ctx: ctx, client: g.dial(through...), gone: map[string]time.Time{}}
	b.term = b.raftTerm(through[0])
	work.Go(b.watch)
	work.Go(b.write)
	b.kept = b.grant("l/kept/", keptLeases, true, func(l *leaseKey) { work.Go(func() { renew(b, l) }) })
	b.left = b.grant("l/left/", leftLeases, false, func(*leaseKey) {})
	return b
}

// grant grants leases, and tells of each as soon as it is there: on a busy machine
// all of them together may take longer than the shortest one lasts.
func (b *leaseBed) grant(prefix string, n int, kept bool, granted func(*leaseKey)) []*leaseKey {
	b.t.Helper()
	all := make([]*leaseKey, n)
	var wg sync.WaitGroup
	for w := range 50 {
		wg.Go(func() {
			for i := w; i < n; i += 50 {
				l := &leaseKey{key: fmt.Sprint(prefix, i), ttl: leaseTTL(i, kept), from: time.Now()}
				resp, err := b.client.Grant(b.ctx, int64(l.ttl/time.Second))
				if err != nil {
					b.t.Error(err)
					return
				}
				l.id, l.until = resp.ID, time.Now()
				put, err := b.client.Put(b.ctx, l.key, "v", clientv3.WithLease(l.id))
				if err != nil {
					b.t.Error(err)
					return
				}
				l.revision = put.Header.Revision
				all[i] = l
				granted(l)
			}
		})
	}
	wg.Wait()
	if b.t.Failed() {
		b.t.FailNow()
	}
	return all
}

func (b *leaseBed) raftTerm(m *member) uint64 {
	b.t.Helper()
	s, err := b.client.Status(b.ctx, m.clientURL())
	if err != nil {
		b.t.Fatal(err)
	}
	return s.RaftTerm
}

// renew renews a lease over the stream that all share.
func (b *leaseBed) renew(l *leaseKey) {
	ch, err := b.client.KeepAlive(b.ctx, l.id)
	if err != nil {
		b.t.Error(err)
		return
	}
	for range ch {
		b.renewed.Add(1)
	}
	if b.ctx.Err() == nil {
		l.givenUp.Store(true)
	}
}

// renewAgain renews a lease each third of its TTL, over a stream each, and does
// not give up by a clock of its own as etcd's client does.
func (b *leaseBed) renewAgain(l *leaseKey) {
	for b.ctx.Err() == nil {
		if _, err := b.client.KeepAliveOnce(b.ctx, l.id); errors.Is(err, rpctypes.ErrLeaseNotFound) {
			b.t.Errorf("%s: its lease of %v is not there any more", l.key, l.ttl)
			return
		} else if err == nil {
			b.renewed.Add(1)
		}
		select {
		case <-time.After(l.ttl / 3):
		case <-b.ctx.Done():
		}
	}
}

// watch notes when keys go.
func (b *leaseBed) watch() {
	for resp := range b.client.Watch(b.ctx, "l/", clientv3.WithPrefix(), clientv3.WithFilterPut(), clientv3.WithRev(1)) {
		if err := resp.Err(); err != nil && b.ctx.Err() == nil {
			b.t.Errorf("the watch has ended: %v", err)
		}
		b.mu.Lock()
		for _, ev := range resp.Events {
			b.gone[string(ev.Kv.Key)] = time.Now()
		}
		b.mu.Unlock()
	}
}

// write writes again and again, to see for how long there is no leader.
func (b *leaseBed) write() {
	for b.ctx.Err() == nil {
		began := time.Now()
		b.writing.Store(began.UnixNano())
		ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
		_, _ = b.client.Put(ctx, "other", "v") // what counts is how long it takes
		cancel()
		if took := time.Since(began); took > outageOfLeases {
			b.outage.Add(int64(took))
		}
		b.writing.Store(0)
		time.Sleep(50 * time.Millisecond) // leaves the machine to the members
	}
}

// leaderless is how long writes waited for a leader so far.
func (b *leaseBed) leaderless() time.Duration {
	waited := time.Duration(b.outage.Load())
	if began := b.writing.Load(); began != 0 {
		if takes := time.Since(time.Unix(0, began)); takes > outageOfLeases {
			waited += takes
		}
	}
	return waited
}

// verdict waits until the leases that nobody renews have ended, and looks at when
// they did; the others must be there.
func (b *leaseBed) verdict(witness *member) {
	b.t.Helper()
	eventually(b.t, time.Minute, "leases that nobody renews to end", func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		n := 0
		for _, l := range b.left {
			if b.gone[l.key].IsZero() {
				n++
			}
		}
		if n > 0 {
			return fmt.Errorf("%d of %d are there", n, len(b.left))
		}
		return nil
	})
	changes := b.raftTerm(witness) - b.term
	outage := b.leaderless()
	late := leaseLate + b.slow + time.Duration(changes)*leaseChange + outage
	b.mu.Lock()
	defer b.mu.Unlock()
	var latest time.Duration
	for _, l := range b.left {
		gone := b.gone[l.key]
		if lived := gone.Sub(l.from); lived < l.ttl {
			b.t.Errorf("%s went %v after its lease of %v was asked for", l.key, lived, l.ttl)
		}
		over := gone.Sub(l.until) - l.ttl
		if latest = max(latest, over); over > late {
			b.t.Errorf("%s went %v after the end of its lease of %v, %v are allowed", l.key, over, l.ttl, late)
		}
	}
	resp, err := b.client.Get(b.ctx, "l/kept/", clientv3.WithPrefix())
	if err != nil {
		b.t.Fatal(err)
	}
	there := map[string]int64{}
	for _, kv := range resp.Kvs {
		there[string(kv.Key)] = kv.ModRevision
	}
	excused := 0
	for _, l := range b.kept {
		if l.givenUp.Load() && !l.renewable(outage) {
			excused++
			continue
		}
		if l.givenUp.Load() {
			b.t.Errorf("%s: its lease of %v could not be renewed any more", l.key, l.ttl)
		}
		if !b.gone[l.key].IsZero() || there[l.key] != l.revision {
			b.t.Errorf("%s, of a lease of %v that was renewed, is gone", l.key, l.ttl)
		}
	}
	b.t.Logf("%d renewals; %d changes of the leader, %v without one, for which a client gave up %d leases; leases ended up to %v late, of %v that are allowed",
		b.renewed.Load(), changes, outage.Round(time.Millisecond), excused, latest.Round(time.Millisecond), late.Round(time.Millisecond))
}

// leaderAndOthers waits until a member leads.
func (g *group) leaderAndOthers() (leader *member, others []*member) {
	g.t.Helper()
	var clients []*clientv3.Client
	for _, m := range g.members {
		clients = append(clients, m.dial())
	}
	eventually(g.t, serveTimeout, "a leader", func() error {
		if leader = g.leader(clients); leader == nil {
			return errors.New("nobody leads")
		}
		return nil
	})
	for _, m := range g.members {
		if m != leader {
			others = append(others, m)
		}
	}
	return leader, others
}
