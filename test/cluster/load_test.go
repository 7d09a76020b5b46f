//go:build interop

package cluster_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// writers is how many clients write at the same time.
const writers = 4

// load is clients that write without pause, and what they were told.
type load struct {
	t      *testing.T
	prefix string // of all its keys
	stop   context.CancelFunc
	wait   sync.WaitGroup

	mu      sync.Mutex
	acked   map[string]int64 // by key: the revision the answer named
	highest int64            // of all answers
	since   time.Time        // see mark
	next    time.Time        // end of the first write begun after since
	woken   chan struct{}    // closed when next is set
}

var loads atomic.Int64

// newLoad starts writers through any of the group's members. Every key is
// written once.
func newLoad(t *testing.T, g *group) *load {
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{t: t, prefix: fmt.Sprintf("k/%d/", loads.Add(1)), stop: cancel, acked: map[string]int64{}, woken: make(chan struct{})}
	for w := range writers {
		client := g.dial(g.members...)
		l.wait.Go(func() { l.write(ctx, w, client) })
	}
	t.Cleanup(l.end)
	return l
}

// write puts one key after the other. A write that fails may have happened: it
// is forgotten.
func (l *load) write(ctx context.Context, writer int, client *clientv3.Client) {
	for n := 0; ctx.Err() == nil; n++ {
		key := fmt.Sprintf("%s%d/%06d", l.prefix, writer, n)
		began := time.Now()
		once, cancel := context.WithTimeout(ctx, 5*time.Second)
		resp, err := client.Put(once, key, key)
		cancel()
		if err == nil {
			l.note(key, resp.Header.Revision, began)
		}
		time.Sleep(5 * time.Millisecond) // leaves the machine to the members
	}
}

func (l *load) note(key string, revision int64, began time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[key] = revision
	l.highest = max(l.highest, revision)
	if l.next.IsZero() && began.After(l.since) {
		l.next = time.Now()
		close(l.woken)
	}
}

// mark has outage measure from now.
func (l *load) mark() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since, l.next, l.woken = time.Now(), time.Time{}, make(chan struct{})
}

// outage waits for a write that began after the mark and succeeded, and returns
// how long after the mark that was.
func (l *load) outage(within time.Duration) time.Duration {
	l.t.Helper()
	l.mu.Lock()
	woken := l.woken
	l.mu.Unlock()
	select {
	case <-woken:
	case <-time.After(within):
		l.t.Fatalf("no write has succeeded for %v", within)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next.Sub(l.since)
}

// soFar returns what was acknowledged, and the highest revision named.
func (l *load) soFar() (acked map[string]int64, highest int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	acked = make(map[string]int64, len(l.acked))
	for key, revision := range l.acked {
		acked[key] = revision
	}
	return acked, l.highest
}

// end stops the writers and waits for them.
func (l *load) end() {
	l.stop()
	l.wait.Wait()
}

// holds fails unless a read through client shows every acknowledged write, each
// at the revision its answer named. It returns the revision of the read.
func holds(t *testing.T, what string, client *clientv3.Client, acked map[string]int64, opts ...clientv3.OpOption) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	resp, err := client.Get(ctx, "k/", append(opts, clientv3.WithPrefix())...)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	found := make(map[string]int64, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		found[string(kv.Key)] = kv.ModRevision
		if string(kv.Value) != string(kv.Key) || kv.Version != 1 || kv.CreateRevision != kv.ModRevision {
			t.Errorf("%s: %v was written once, with its own name", what, kv)
		}
	}
	lost := 0
	for key, revision := range acked {
		if found[key] != revision {
			if lost++; lost <= 5 {
				t.Errorf("%s: %s was acknowledged at revision %d and is at %d (read at %d)", what, key, revision, found[key], resp.Header.Revision)
			}
		}
	}
	if lost > 0 {
		t.Errorf("%s: %d of %d acknowledged writes lost, or applied again later", what, lost, len(acked))
	}
	return resp.Header.Revision
}

// gauge reads one member's own state without pause, through its deaths: its
// revision must never go back.
type gauge struct {
	stop context.CancelFunc
	wait sync.WaitGroup
	mu   sync.Mutex
	max  int64
}

func newGauge(t *testing.T, m *member) *gauge {
	ctx, cancel := context.WithCancel(t.Context())
	g := &gauge{stop: cancel}
	client := m.dial()
	g.wait.Go(func() {
		for ctx.Err() == nil {
			once, cancel := context.WithTimeout(ctx, time.Second)
			resp, err := client.Get(once, "k/", clientv3.WithSerializable())
			cancel()
			if err == nil && !g.note(resp.Header.Revision) {
				t.Errorf("%s (pid %d) answered at revision %d after %d: it went back", m.name, m.proc.cmd.Process.Pid, resp.Header.Revision, g.highest())
			}
			time.Sleep(2 * time.Millisecond) // leaves the machine to the members
		}
	})
	t.Cleanup(g.end)
	return g
}

func (g *gauge) end() {
	g.stop()
	g.wait.Wait()
}

func (g *gauge) highest() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.max
}

func (g *gauge) note(revision int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if revision < g.max {
		return false
	}
	g.max = revision
	return true
}
