package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// toyMachine keeps the commands it was given. It syncs when told to.
type toyMachine struct {
	mu       sync.Mutex
	commands []string
	pending  []string
	at       toyPosition
	applied  toyPosition
	synced   toyPosition
	opened   int

	path      string   // of the state file; may be empty
	kept      []string // the commands in the state file
	padding   []byte   // in the state file
	preparing func()   // runs while a file is loaded; may be nil
	installed int
	drained   int // files that were replaced, and closed
}

type toyPosition struct {
	index, term, confIndex uint64
	conf                   *conclavepb.Configuration
}

func (p toyPosition) Position() (uint64, uint64) { return p.index, p.term }
func (p toyPosition) Membership() (uint64, *conclavepb.Configuration) {
	return p.confIndex, p.conf
}

func (m *toyMachine) Command(index, term uint64, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at.index, m.at.term = index, term
	if string(data) == "open" {
		m.opened++
		return
	}
	m.pending = append(m.pending, string(data))
}

func (m *toyMachine) Configure(index, term uint64, conf *conclavepb.Configuration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at = toyPosition{index, term, index, conf}
}

func (m *toyMachine) Publish() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.commands = append(m.commands, m.pending...)
	m.pending = nil
	m.applied = m.at
}

func (m *toyMachine) Applied() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.applied.index
}

func (m *toyMachine) Synced() Synced {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.synced
}

func (m *toyMachine) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.commands...)
}

// crash is the machine as its state file would bring it back.
func (m *toyMachine) crash() *toyMachine {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &toyMachine{commands: nil, at: m.synced, applied: m.synced, synced: m.synced}
}

// sync is what a commit of the state file does; commands up to it come back.
func (m *toyMachine) sync() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.synced = m.applied
	m.kept = append([]string(nil), m.commands...)
	m.save()
}

func loneMember() *conclavepb.Configuration {
	return &conclavepb.Configuration{Servers: []*conclavepb.Server{{Id: 1, PeerUrls: []string{"http://127.0.0.1:1"}}}}
}

// openLone opens a node of a cluster of one.
func openLone(t *testing.T, dir string, machine Machine) *Node {
	t.Helper()
	reg := prometheus.NewRegistry()
	mesh := NewMesh(MeshConfig{Self: 1, ClusterID: 1, Instance: "i", ElectionTimeout: 100 * time.Millisecond, Log: zerolog.Nop(), Registry: reg})
	n, err := Open(Config{
		Dir: dir, Self: 1, Mesh: mesh, Machine: machine, Bootstrap: loneMember(),
		OpenTerm:        func(uint64) []byte { return []byte("open") },
		ElectionTimeout: 100 * time.Millisecond, RequestTimeout: 5 * time.Second,
		PreVote: true, Log: zerolog.Nop(), Registry: reg,
	})
	if err != nil {
		mesh.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close(); mesh.Close() })
	return n
}

// lead waits until the node leads an open term and returns the term.
func lead(t *testing.T, n *Node) uint64 {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		now, changed := n.Leadership()
		if now.Leader == n.cfg.Self && n.openTerm.Load() == now.Term {
			return now.Term
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatal("no leadership")
		}
	}
}

func propose(t *testing.T, n *Node, term uint64, data string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := n.Propose(ctx, term, []byte(data)); err != nil {
		t.Fatalf("propose %q: %v", data, err)
	}
}

func TestNode_proposeApplies(t *testing.T) {
	machine := &toyMachine{}
	n := openLone(t, t.TempDir(), machine)
	term := lead(t, n)
	for i := range 5 {
		propose(t, n, term, fmt.Sprint(i))
	}
	if got := fmt.Sprint(machine.all()); got != "[0 1 2 3 4]" {
		t.Fatalf("applied %s", got)
	}
	if machine.opened != 1 {
		t.Fatalf("the term was opened %d times", machine.opened)
	}
}

// A proposal for a term that is not the node's is definitely not made.
func TestNode_proposeOtherTerm(t *testing.T) {
	machine := &toyMachine{}
	n := openLone(t, t.TempDir(), machine)
	term := lead(t, n)
	if err := n.Propose(context.Background(), term+1, []byte("x")); !errors.Is(err, ErrNotLeader) {
		t.Fatalf("got %v", err)
	}
	propose(t, n, term, "after")
	if got := fmt.Sprint(machine.all()); got != "[after]" {
		t.Fatalf("applied %s", got)
	}
}

// After a crash everything known to be agreed is applied before Open returns,
// and what the state file holds is not applied again.
func TestOpen_replaysToRecordedCommit(t *testing.T) {
	dir := t.TempDir()
	machine := &toyMachine{}
	n := openLone(t, dir, machine)
	term := lead(t, n)
	propose(t, n, term, "synced")
	machine.sync()
	propose(t, n, term, "replayed")
	propose(t, n, term, "last") // records that "replayed" is agreed
	n.Close()
	n.cfg.Mesh.Close()

	again := machine.crash()
	n = openLone(t, dir, again)
	if got := again.all(); len(got) == 0 || got[0] != "replayed" {
		t.Fatalf("applied before serving: %v", got)
	}
	term = lead(t, n)
	propose(t, n, term, "new")
	if got := fmt.Sprint(again.all()); got != "[replayed last new]" {
		t.Fatalf("applied %s", got)
	}
}

// The commit index counts, not the end of the log: an entry that may not be
// agreed is not applied before raft says so.
func TestReplay_stopsAtCommit(t *testing.T) {
	b := newMemoryBackend()
	conf := raft.EncodeConfiguration(encodeConfiguration(loneMember()))
	for _, l := range []*raft.Log{
		{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: conf},
		{Index: 2, Term: 2, Type: raft.LogNoop},
		{Index: 3, Term: 2, Data: []byte("a"), Extensions: recordCommit(1)},
		{Index: 4, Term: 2, Data: []byte("b"), Extensions: recordCommit(3)},
		{Index: 5, Term: 3, Data: []byte("c"), Extensions: recordCommit(2)}, // a new leader knows less
	} {
		if err := b.StoreLog(l); err != nil {
			t.Fatal(err)
		}
	}
	machine := &toyMachine{}
	if err := replay(machine, openMemory(t, b, false), func(uint64, *conclavepb.Configuration) {}, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(machine.all()); got != "[a]" || machine.Applied() != 3 {
		t.Fatalf("applied %s up to %d", got, machine.Applied())
	}
}

func TestReplay_logBehindState(t *testing.T) {
	machine := &toyMachine{synced: toyPosition{index: 7, term: 1}}
	if err := replay(machine, openMemory(t, newMemoryBackend(), false), func(uint64, *conclavepb.Configuration) {}, zerolog.Nop()); !errors.Is(err, ErrLogBehindState) {
		t.Fatalf("got %v", err)
	}
}

// A bootstrap that was interrupted between its two writes is done again.
func TestBootstrap_interrupted(t *testing.T) {
	dir := t.TempDir()
	logs, err := openLogStore(dir, prometheus.NewRegistry(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if err := logs.SetUint64(keyCurrentTerm, 1); err != nil {
		t.Fatal(err)
	}
	logs.Close()
	n := openLone(t, dir, &toyMachine{})
	lead(t, n)
	index, conf := n.Membership()
	if index != 1 || len(conf.Servers) != 1 || conf.Servers[0].Id != 1 {
		t.Fatalf("membership %v", conf)
	}
}

func TestBootstrap_emptyWithoutMembership(t *testing.T) {
	logs, err := openLogStore(t.TempDir(), prometheus.NewRegistry(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	if err := bootstrap(logs, &toyMachine{}, nil, false); !errors.Is(err, ErrEmptyLog) {
		t.Fatalf("got %v", err)
	}
}

// A member that lost its log but not its state begins no new log.
func TestBootstrap_logLost(t *testing.T) {
	logs, err := openLogStore(t.TempDir(), prometheus.NewRegistry(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	machine := &toyMachine{synced: toyPosition{index: 7, term: 2}}
	if err := bootstrap(logs, machine, loneMember(), false); !errors.Is(err, ErrLogBehindState) {
		t.Fatalf("got %v", err)
	}
	if last, _ := logs.LastIndex(); last != 0 {
		t.Fatal("an entry was written")
	}
}

// The first entry is the same whatever the order in which members were found.
func TestEncodeConfiguration_order(t *testing.T) {
	a := &conclavepb.Server{Id: 0xa, PeerUrls: []string{"http://a:1", "http://a:2"}}
	b := &conclavepb.Server{Id: 0xb, PeerUrls: []string{"http://b:1"}, Pending: true}
	c := &conclavepb.Server{Id: 0xc, PeerUrls: []string{"http://c:1"}, Learner: true}
	x := encodeConfiguration(&conclavepb.Configuration{Servers: []*conclavepb.Server{a, b, c}})
	y := encodeConfiguration(&conclavepb.Configuration{Servers: []*conclavepb.Server{c, a, b}})
	if string(raft.EncodeConfiguration(x)) != string(raft.EncodeConfiguration(y)) {
		t.Fatal("the order of the members shows")
	}
	back, err := decodeConfiguration(x)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []*conclavepb.Server{a, b, c} {
		got := back.Servers[i]
		if got.Id != want.Id || fmt.Sprint(got.PeerUrls) != fmt.Sprint(want.PeerUrls) || got.Pending != want.Pending || got.Learner != want.Learner {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	if got := voters(x); len(got) != 1 || got[0] != 0xa {
		t.Errorf("voters %x", got)
	}
}

// Reads that begin while a round is held share the next one.
func TestNode_readsShareRounds(t *testing.T) {
	n := openLone(t, t.TempDir(), &toyMachine{})
	propose(t, n, lead(t, n), "x")
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := n.ReadIndex(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// A read waits for the machine, not for raft.
func TestReadRounds_awaitsMachine(t *testing.T) {
	machine := &toyMachine{}
	r := newReadRounds(&Node{ctx: t.Context(), cfg: Config{Machine: machine}, metrics: newNodeMetrics(&Config{})})
	done := make(chan error, 1)
	go func() { done <- r.await(context.Background(), 5) }()
	machine.Command(4, 1, nil)
	machine.Publish()
	r.applied(4)
	select {
	case <-done:
		t.Fatal("the read did not wait")
	case <-time.After(20 * time.Millisecond):
	}
	machine.Command(5, 1, nil)
	machine.Publish()
	r.applied(5)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// A proposal does not wait for room in the library's queue when its time is over: it
// is sent by who sends the next one, too.
func TestNode_proposalsOfAFullQueue(t *testing.T) {
	m := &toyMachine{}
	n := openLone(t, t.TempDir(), m)
	term := lead(t, n)
	propose := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		return n.Propose(ctx, term, []byte("x"))
	}
	m.mu.Lock() // nothing is applied
	defer m.mu.Unlock()
	eventually(t, "the queue is full", func() bool { return errors.Is(propose(), ErrNotLeader) })
	const times = 20
	began := time.Now()
	for range times {
		if err := propose(); err == nil {
			t.Fatal("it was applied")
		}
	}
	if took, limit := time.Since(began), times*n.cfg.ElectionTimeout/2; took > limit {
		t.Errorf("%d proposals of a millisecond took %v", times, took)
	}
}
