package pki

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/bbolt"

	"github.com/conclave-kv/conclave/pki/ledger"
)

// clock is a clock under the test's hand.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: start} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// agreed is the replicated ledger of a cluster, with a log that never fails
// unless told so.
type agreed struct {
	mu        sync.Mutex
	l         *ledger.Ledger
	view      *ledger.View
	changed   chan struct{}
	leader    uint64
	err       error // answer to proposals while set
	proposals int
}

func newAgreed(t testing.TB) *agreed {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	a := &agreed{changed: make(chan struct{}), leader: 1}
	if err := db.View(func(tx *bbolt.Tx) (err error) {
		a.l, err = ledger.Open(tx)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	a.view = a.l.View()
	return a
}

// seat is one member's view of the cluster.
type seat struct {
	*agreed
	id uint64
}

func (s seat) Ledger() *ledger.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view
}

func (s seat) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s seat) IsLeader() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leader == s.id
}

func (s seat) Propose(_ context.Context, cmd []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proposals++; s.err != nil {
		return s.err
	}
	changed, err := s.l.Apply(cmd)
	s.view, _ = s.l.Freeze()
	if changed {
		close(s.changed)
		s.changed = make(chan struct{})
	}
	return err
}

// fail makes proposals end with err from now on.
func (a *agreed) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
}

// world is a secret, a clock, a ledger, and the ids that are members.
type world struct {
	t      testing.TB
	secret *Secret
	clock  *clock
	log    *agreed

	mu      sync.Mutex
	members map[uint64]bool
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return &world{t: t, secret: newSecret(t), clock: newClock(), log: newAgreed(t), members: map[uint64]bool{1: true, 2: true, 3: true}}
}

func (w *world) known(id uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.members[id]
}

func (w *world) seat(id uint64) seat { return seat{w.log, id} }

// options are those of member id with data in dir.
func (w *world) options(id uint64, dir string) RenewerOptions {
	return RenewerOptions{
		Secret: w.secret, SecretFile: "F", DataDir: dir, Member: id, PeerHosts: []string{"127.0.0.1"},
		ServerHosts: []string{"n.example.com"}, Known: w.known, Now: w.clock.now, Log: zerolog.Nop(),
	}
}

func (w *world) start(id uint64, dir string) *Renewer {
	w.t.Helper()
	r, err := NewRenewer(w.options(id, dir))
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// join attaches a member to the cluster and does its part until settled.
func (w *world) join(r *Renewer) {
	w.t.Helper()
	var c Cluster = w.seat(r.o.Member)
	r.cluster.Store(&c)
	for range 3 {
		if _, err := r.step(context.Background(), c, c.Ledger()); err != nil {
			w.t.Fatal(err)
		}
	}
	select {
	case <-r.Certified():
	default:
		w.t.Fatalf("member %x is not certified", r.o.Member)
	}
}

// formed starts and joins members 1 to n.
func (w *world) formed(n uint64) (members []*Renewer, dirs []string) {
	w.t.Helper()
	for id := uint64(1); id <= n; id++ {
		dir := w.t.TempDir()
		r := w.start(id, dir)
		w.join(r)
		members, dirs = append(members, r), append(dirs, dir)
	}
	return members, dirs
}
