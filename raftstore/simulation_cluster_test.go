package raftstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// simElection is etcd's usual election timeout, in the time of the bubble.
const simElection = time.Second

// simulation is one cluster under one schedule, inside a bubble of
// testing/synctest: its time passes only while everybody waits.
type simulation struct {
	schedule schedule
	net      *faultNet
	history  *history
	members  []*simMember
	quiet    bool // no clients
	log      zerolog.Logger
	ended    atomic.Int64
	ghosts   sync.WaitGroup // processes that ended
	fatal    chan *simRun   // processes that have to end
	states   *simStates     // nil: the log is kept whole, and nothing installed
}

// simMember is an id with a disk, and the process that runs, if any.
type simMember struct {
	id uint64

	mu      sync.Mutex
	disk    *simDisk // as the next process will find it, or as the running one sees it
	run     *simRun
	spare   bool // nobody tried to add it yet
	removed bool
}

// simRun is one process of a member.
type simRun struct {
	sim     *simulation
	id      uint64
	disk    *simDisk
	node    *Node
	mesh    *Mesh
	down    func()
	machine *simMachine
	gone    atomic.Bool // it crashed: nothing that it says or does counts
	leaves  atomic.Bool // somebody ends its goroutines already
	serial  int
	// trapInstall is how many steps of an install may end until power fails.
	trapInstall atomic.Int64

	quit    context.CancelFunc
	clients sync.WaitGroup
}

func newSimulation(sch schedule, log zerolog.Logger) *simulation {
	s := &simulation{schedule: sch, net: newFaultNet(int64(sch.seed)), log: log, fatal: make(chan *simRun, 64)}
	s.history = newHistory(s)
	for id := range uint64(sch.members + sch.spares) {
		s.members = append(s.members, &simMember{
			id: id + 1, disk: newSimDisk(sch.seed<<8 + id), spare: id >= uint64(sch.members),
		})
	}
	if sch.installs {
		s.states = newSimStates()
		for _, m := range s.members {
			m.disk.files = s.states.directory()
		}
	}
	return s
}

func (s *simulation) member(id uint64) *simMember { return s.members[id-1] }

func (s *simulation) firstMembership() *conclavepb.Configuration {
	conf := &conclavepb.Configuration{}
	for _, m := range s.members[:s.schedule.members] {
		conf.Servers = append(conf.Servers, &conclavepb.Server{Id: m.id, PeerUrls: []string{memURL(m.id)}})
	}
	return conf
}

// disks are the disks as they would survive, and runs the processes that run.
func (s *simulation) disks() []*simDisk {
	var out []*simDisk
	for _, m := range s.members {
		m.mu.Lock()
		out = append(out, m.disk)
		m.mu.Unlock()
	}
	return out
}

func (s *simulation) runs() []*simRun {
	var out []*simRun
	for _, m := range s.members {
		m.mu.Lock()
		if m.run != nil {
			out = append(out, m.run)
		}
		m.mu.Unlock()
	}
	return out
}

// start runs a process on the member's disk, unless one runs.
func (s *simulation) start(id uint64) {
	m := s.member(id)
	m.mu.Lock() // a process that is removed ends by itself
	idle := m.run == nil && !m.spare && !m.removed
	m.mu.Unlock()
	if !idle {
		return
	}
	m.disk.release() // nobody is there to do it while this waits
	run := &simRun{sim: s, id: id, disk: m.disk, serial: int(simSerial.Add(1))}
	log := s.log.With().Uint64("member", id).Logger()
	if err := s.recoverInstall(m.disk, log); err != nil {
		s.history.fail("member %d does not recover: %v", id, err)
		return
	}
	run.machine = newSimMachine(run, m.disk.state)
	run.mesh, run.down = s.net.process(id, log, run.hook(s.net.hook(id)))
	m.disk.mu.Lock()
	m.disk.onTrap = func() { s.crash(run, true) }
	m.disk.mu.Unlock()
	recorded := m.disk.recorded()
	node, err := s.open(run, log)
	if err == nil && run.gone.Load() {
		err = node.Close()
	}
	if err != nil || run.gone.Load() {
		run.down()
		run.mesh.Close()
		if !run.gone.Load() && !errors.Is(err, errSimDisk) {
			s.history.fail("member %d does not start: %v", id, err)
		}
		return
	}
	if run.machine.Applied() < recorded {
		s.history.fail("member %d serves what it has up to %d, and its log says that %d is agreed", id, run.machine.Applied(), recorded)
	}
	if _, conf := node.Membership(); len(conf.Servers) == 0 { // it joins
		run.mesh.SetPeers(peerURLs(encodeConfiguration(s.agreedMembership()), id))
	}
	m.mu.Lock()
	run.node, m.run = node, run
	m.mu.Unlock()
	ctx, quit := context.WithCancel(context.Background())
	run.quit = quit
	run.clients.Go(func() { run.awaitRemoval(ctx) })
	if s.quiet {
		return
	}
	if s.states != nil {
		run.clients.Go(func() { run.commit(ctx) })
	}
	for w := range simWriters {
		run.clients.Go(func() { run.write(ctx, w) })
	}
	run.clients.Go(func() { run.read(ctx) })
}

var simSerial atomic.Int64

func (s *simulation) open(run *simRun, log zerolog.Logger) (*Node, error) {
	reg := prometheus.NewRegistry()
	logs, err := newLogStore(run.disk, reg, log)
	if err != nil {
		return nil, err
	}
	logs.async = s.schedule.async
	cfg := Config{
		Self: run.id, Mesh: run.mesh, Machine: run.machine,
		Bootstrap: s.firstMembership(), Join: run.id > uint64(s.schedule.members),
		OpenTerm:        func(term uint64) []byte { return fmt.Appendf(nil, "open %d by %d", term, run.id) },
		ElectionTimeout: simElection, RequestTimeout: 3 * time.Second,
		PreVote: true, Log: log, Registry: reg, logs: logs,
		Fatal: func(error) {
			select {
			case s.fatal <- run:
			default:
			}
		},
	}
	if s.states != nil {
		cfg.State = run.disk.files.path()
		cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = simTruncate, simCatchUp
		cfg.afterStep = run.afterStep
	}
	return Open(cfg)
}

// crash ends a process without its doing anything more: what it wrote and did
// not sync is lost. After a loss of power nobody hears of it; else the kernel
// closes its connections.
func (s *simulation) crash(run *simRun, power bool) {
	if !s.bury(run) {
		return
	}
	if power {
		s.net.vanish(run.id)
	}
	run.down()
	s.ghost(func() { s.end(run) })
}

// ghost goes on with a process that has ended. Processes end from several
// goroutines, and the first of them must be seen to come before the wait for all.
func (s *simulation) ghost(f func()) {
	s.ghosts.Go(f)
	s.ended.Add(1)
}

// bury takes the disk of a process away, and reports whether it still had it.
func (s *simulation) bury(run *simRun) bool {
	m := s.member(run.id)
	m.mu.Lock()
	defer m.mu.Unlock()
	if run.gone.Swap(true) {
		return false
	}
	m.disk = run.disk.crash()
	m.run = nil
	return true
}

// end has the goroutines of a process end.
func (s *simulation) end(run *simRun) {
	if run.node == nil {
		return // crashed while it was opened, and start ends it
	}
	run.disk.release()
	if run.leaves.Swap(true) {
		return // leave ends it
	}
	run.quit()
	_ = run.node.Close()
	run.mesh.Close()
	run.clients.Wait()
}

// awaitRemoval has the process end when it finds that its member was removed.
func (r *simRun) awaitRemoval(ctx context.Context) {
	select {
	case <-r.node.Gone():
	case <-ctx.Done():
		return
	}
	if serverOf(r.sim.agreedMembership(), r.id) != nil && !r.gone.Load() {
		r.sim.history.fail("member %d takes itself for removed, and is not", r.id)
	}
	m := r.sim.member(r.id)
	m.mu.Lock()
	m.removed = true
	m.mu.Unlock()
	r.sim.stop(r)
}

// stop ends a process in good order. It does not wait: a disk may hang.
func (s *simulation) stop(run *simRun) {
	if run.node != nil && !run.leaves.Swap(true) {
		s.ghost(func() { s.leave(run) })
	}
}

func (s *simulation) leave(run *simRun) {
	m := s.member(run.id)
	run.quit()
	run.clients.Wait()
	err := run.node.Close()
	run.mesh.Close()
	run.down()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.run != run {
		return // it crashed meanwhile
	}
	if err != nil && !errors.Is(err, errSimDisk) {
		s.history.fail("member %d stopped with: %v", run.id, err)
	}
	run.gone.Store(true)
	m.run = nil
}

// hook looks at what the process sends, and loses what it sends after its end.
func (r *simRun) hook(next frameHook) frameHook {
	return func(to uint64, raw []byte, inject func([]byte)) bool {
		if r.gone.Load() {
			return false
		}
		if m := appendIn(raw); m != nil {
			r.sim.history.told(r, m)
		}
		return next(to, raw, inject)
	}
}

// appendIn is the append or commit message in a frame, nil for other frames.
func appendIn(raw []byte) *raft.AppendEntriesRequest {
	kind := Kind(binary.BigEndian.Uint32(raw[13:]))
	if typ := frameType(raw[4]); typ != frameRequest && typ != frameOneWay || kind != kindAppend && kind != kindCommit {
		return nil
	}
	m, err := decodeRequest(kind, slices.Clone(raw[4+frameFixed:len(raw)-4]))
	if err != nil {
		return nil
	}
	request, _ := m.(*raft.AppendEntriesRequest)
	return request
}

// write proposes one value after the other while the process believes to lead.
func (r *simRun) write(ctx context.Context, writer int) {
	for k := 0; ctx.Err() == nil; k++ {
		lead, changed := r.node.Leadership()
		if lead.Leader != r.id {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		limit, cancel := context.WithTimeout(ctx, 2*simElection)
		value := fmt.Sprintf("%d/%d/%d/%d", r.id, r.serial, writer, k)
		err := r.node.Propose(limit, lead.Term, []byte(value))
		cancel()
		r.sim.history.proposed(r, value, errors.Is(err, ErrNotLeader), err)
		r.sim.pause(ctx, simWriters*simThink)
	}
}

// read reads again and again, from whatever role the process has.
func (r *simRun) read(ctx context.Context) {
	for ctx.Err() == nil {
		r.sim.pause(ctx, 4*simThink)
		floor := r.sim.history.beginRead()
		limit, cancel := context.WithTimeout(ctx, 3*simElection)
		if r.node.ReadIndex(limit) == nil {
			r.sim.history.endRead(r, floor, r.machine.Applied())
		}
		cancel()
	}
}

// A member is written to about every half of simThink, by several clients at once,
// so that a leader cut off gathers entries.
const (
	simThink   = 100 * time.Millisecond
	simWriters = 4
)

func (s *simulation) pause(ctx context.Context, most time.Duration) {
	sleepContext(ctx, time.Duration(rand.Int64N(int64(most))))
}
