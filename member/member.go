package member

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/auth/token"
	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/internal/version"
	"github.com/conclave-kv/conclave/kv"
	"github.com/conclave-kv/conclave/raftstore"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// Config is what a Member needs.
type Config struct {
	// ID is this member's id, ClusterID its cluster's.
	ID, ClusterID uint64
	// Name and ClientURLs are published to the cluster at each start.
	Name       string
	ClientURLs []string
	// RequestTimeout bounds how long a request may wait for its outcome.
	RequestTimeout time.Duration
	// MaxRequestBytes bounds one encoded request.
	MaxRequestBytes int
	// Quota is how many bytes of the state file may be in use before writes are
	// refused. Zero means 2 GiB, as in etcd; below zero there is none.
	Quota int64
	// Compaction is how much history a leader keeps.
	Compaction Compaction
	// CompactionSleep is the pause between two steps of removing what a compaction
	// made unreachable, CompactionBatch of how many revisions such a step is; 0 means
	// 1000. Without a pause it is done beside commits and writes.
	CompactionSleep time.Duration
	CompactionBatch uint
	// StrictReconfig refuses membership changes that could cost the quorum;
	// MaxLearners bounds how many learners there may be.
	StrictReconfig bool
	MaxLearners    int
	// HealthInterval is how long a peer must have been connected to count as
	// healthy for StrictReconfig. Zero means 5 s, as in etcd.
	HealthInterval time.Duration
	// MemberID names a member that is added: by its peer URLs and a text that
	// tells it from earlier members with the same.
	MemberID func(peerURLs []string, salt string) uint64
	// BackgroundDefrag has the member give free space in its state file back by
	// itself. DefragFree is from how many free bytes on; 0 means 64 MiB.
	BackgroundDefrag bool
	DefragFree       int64
	// DefragAtStart has it do so at the start from that many free bytes on; 0
	// for never.
	DefragAtStart int64
	// InitialCorruptCheck compares the data with the others' before serving,
	// CompactHashCheck what each compaction has left, looking every
	// CompactHashCheckTime (0: a minute), and CorruptCheckTime, if it is not 0, all
	// of it that often.
	InitialCorruptCheck, CompactHashCheck  bool
	CompactHashCheckTime, CorruptCheckTime time.Duration
	// ElectionTimeout bounds from below what TTLs of leases may be. Zero means 1 s.
	ElectionTimeout time.Duration
	// Passwords hashes and checks passwords. JWT signs and verifies tokens; nil for
	// random ones that the members remember, for TokenTTL after the last use (0: 5
	// min).
	Passwords *token.Passwords
	JWT       *token.JWT
	TokenTTL  time.Duration
	// MinPassword is how many bytes passwords that are given have at least.
	MinPassword int
	// Level is the feature level that the member says it understands; 0 means
	// fsm.NewestLevel. Less is for tests, with the same in its Machine.
	Level uint32
	// FirstBatch is a batch id to count from that is, as far as chance can
	// make it so, far from where any other member counts, and from where this
	// one did before a restart.
	FirstBatch uint64
	// Fatal is called from a goroutine of the Member when the member cannot go
	// on; the process must end. It must not block, and may be called again.
	Fatal    func(error)
	Log      zerolog.Logger
	Registry prometheus.Registerer
}

// Member is one member of a cluster.
type Member struct {
	cfg          Config
	node         *raftstore.Node
	mesh         *raftstore.Mesh
	machine      *fsm.Machine
	proposer     *proposer
	heavy        heavy
	answers      *answers
	forwarded    forwarded
	committer    *committer
	lessor       *lessor
	renewals     renewals
	passwords    *token.Passwords
	logins       *token.Logins
	throttle     *token.Throttle
	tokens       *usedTokens
	clockDue     chan struct{} // the lease clock may have to be agreed
	space        *space
	backlogLimit int64 // maxBacklog, less in tests
	defragmenter *defragmenter
	hasher       *hasher     // for comparing members
	turns        defragTurns // of members that defragment, as the leader
	metrics      *memberMetrics
	compactions  *compactions
	ctx          context.Context
	cancel       context.CancelFunc
	work         sync.WaitGroup

	snapshots atomic.Int32 // being read
	hashing   turns

	started atomic.Bool // node is there

	mu        sync.Mutex
	published *fsm.View     // the view changed was last closed for
	changed   chan struct{} // closed when ledger, members, alarms or rights change
}

// New makes a Member on an opened Machine. Start begins its work.
func New(cfg Config, mesh *raftstore.Mesh, machine *fsm.Machine) *Member {
	if cfg.HealthInterval == 0 {
		cfg.HealthInterval = healthInterval
	}
	m := &Member{
		cfg:       cfg,
		mesh:      mesh,
		machine:   machine,
		published: machine.View(),
		changed:   make(chan struct{}),

		backlogLimit: maxBacklog,
		hashing:      make(turns, 1),
		heavy:        make(heavy, 1),
		answers:      newAnswers(answerBytes),
		lessor:       newLessor(),
		clockDue:     make(chan struct{}, 1),
		passwords:    cfg.Passwords,
		logins:       token.NewLogins(cfg.Passwords),
		throttle:     token.NewThrottle(),
		tokens:       newUsedTokens(),
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.renewals.m = m
	m.proposer = newProposer(m, cfg.FirstBatch)
	m.committer = newCommitter(m)
	m.space = newSpace(m)
	m.defragmenter = newDefragmenter(m)
	m.hasher = &hasher{m: m, turn: make(turns, 1)}
	m.metrics = newMemberMetrics(m)
	m.compactions = newCompactions(m)
	machine.SetSink(sink{m})
	return m
}

// Start begins to take requests, on the node that feeds the member's Machine.
func (m *Member) Start(node *raftstore.Node) {
	m.node = node
	m.started.Store(true)
	m.mesh.Handle(raftstore.KindForward, m.answerForward) // needs the node
	m.mesh.Handle(raftstore.KindChange, m.answerChange)
	m.mesh.Handle(raftstore.KindDefragTurn, m.answerTurn)
	m.mesh.Handle(raftstore.KindHashKV, m.answerHash)
	m.mesh.Handle(raftstore.KindLeaseRenew, m.answerRenew)
	m.mesh.Handle(raftstore.KindLeaseTTL, m.answerTTL)
	for _, run := range []func(){m.proposer.run, m.committer.run, m.defragmenter.run, (&inspector{m: m}).run, m.introduce, m.raiseLevel, m.space.watch, m.compact, m.prune, m.lead, m.keepClock, m.endLeases, m.routeWatches, m.renewTokens} {
		m.work.Add(1)
		go func() {
			defer m.work.Done()
			run()
		}()
	}
}

// Stop answers what is waiting with ErrStopped and ends all goroutines of the
// Member. The node must be closed already, and so applies nothing any more.
func (m *Member) Stop() {
	m.cancel()
	m.work.Wait()
}

// ID is this member's id.
func (m *Member) ID() uint64 { return m.cfg.ID }

// Leader is the id of the leader as far as this member knows, 0 if none.
func (m *Member) Leader() uint64 {
	lead, _ := m.node.Leadership()
	return lead.Leader
}

// View is the newest state of this member.
func (m *Member) View() *fsm.View { return m.machine.View() }

// Changed returns a channel that is closed when the members, the alarms, the
// certificate ledger, or somebody's rights change. Take it before looking at View.
func (m *Member) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// LeaderChanged returns a channel that is closed when leadership changes.
func (m *Member) LeaderChanged() <-chan struct{} {
	_, changed := m.node.Leadership()
	return changed
}

// ProposeLedger has a command of the certificate ledger agreed. An error that
// wraps ledger.ErrRejected is the ledger's answer.
func (m *Member) ProposeLedger(ctx context.Context, cmd []byte) error {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.RequestTimeout)
	defer cancel()
	_, err := m.proposer.doRaw(ctx, fsm.KindLedger, cmd)
	return err
}

// OpenTerm makes the command that opens a leader's term.
func OpenTerm(self, term uint64) []byte {
	entry, err := fsm.AppendRequest(fsm.AppendHeader(nil, term, 0), fsm.KindTermOpen, fsm.ByMember, &conclavepb.TermOpen{Member: self})
	if err != nil {
		panic(fmt.Sprintf("member: encode the opening of a term: %v", err))
	}
	return entry
}

// retryIntroduce is the pause after an introduction that failed, unless
// something changes first.
const retryIntroduce = time.Second

// introduce publishes this member's name and client URLs, and as the leader has
// the cluster version agreed, each until it is done.
func (m *Member) introduce() {
	m.atChanges(func() (again time.Duration, done bool) {
		done, err := m.introduced()
		if err == nil || done {
			return 0, done
		}
		if m.ctx.Err() == nil {
			m.cfg.Log.Warn().Err(err).Msg("could not publish this member's name yet")
		}
		return retryIntroduce, false
	})
}

// atChanges calls do now, after each change of the state or the leader, and again
// after the time it names, until it is done or the member stops.
func (m *Member) atChanges(do func() (again time.Duration, done bool)) {
	for {
		changed, leaderChanged := m.Changed(), m.LeaderChanged()
		again, done := do()
		if done {
			return
		}
		var retry <-chan time.Time
		if again > 0 {
			retry = time.After(again)
		}
		select {
		case <-m.ctx.Done():
			return
		case <-changed:
		case <-leaderChanged:
		case <-retry:
		}
	}
}

func (m *Member) introduced() (done bool, err error) {
	ctx, cancel := context.WithTimeout(m.ctx, m.cfg.RequestTimeout)
	defer cancel()
	view := m.View()
	self, _ := view.Members.Get(m.cfg.ID)
	if self.Name != m.cfg.Name || !equal(self.ClientURLs, m.cfg.ClientURLs) || self.Level != m.level() {
		_, err = m.proposer.do(ctx, fsm.ByMember, fsm.KindAttributes, &conclavepb.Attributes{
			Member: m.cfg.ID, Name: m.cfg.Name, ClientUrls: m.cfg.ClientURLs, Level: m.level(),
		})
		return false, err
	}
	if view.ClusterVersion == "" {
		if m.Leader() == m.cfg.ID {
			_, err = m.proposer.do(ctx, fsm.ByMember, fsm.KindClusterVersion, &conclavepb.ClusterVersion{Version: version.Cluster})
		}
		return false, err
	}
	return true, nil
}

func equal(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// Header is a response header of this member, at a revision.
func (m *Member) Header(revision int64) *pb.ResponseHeader {
	return &pb.ResponseHeader{
		ClusterId: m.cfg.ClusterID,
		MemberId:  m.cfg.ID,
		Revision:  revision,
		RaftTerm:  m.node.Term(),
	}
}

// sink is the Member as its Machine sees it; it is called from the goroutine
// that applies.
type sink struct{ m *Member }

func (s sink) Wants(id uint64) bool { return s.m.proposer.flyingBatch(id) != nil }

func (s sink) Deliver(id, term uint64, results []fsm.Result) {
	b := s.m.proposer.flyingBatch(id)
	if b == nil {
		drop(results)
		return
	}
	if results == nil {
		b.lose(term)
		return
	}
	b.deliver(results)
}

func (s sink) Opened(term uint64) {
	s.m.proposer.termOpened(term)
	s.m.lessor.opened.Store(term)
	signal(s.m.lessor.wake)
}

func (s sink) LeasesChanged(changes []kv.LeaseChange) {
	s.m.metrics.leases.count(changes)
	s.m.lessor.changed(changes)
}

func (s sink) Published(view *fsm.View) {
	s.m.committer.kick()
	s.m.publish(view)
}

func (s sink) Installed(view *fsm.View) {
	s.m.proposer.installed(view.Term)
	s.m.lessor.drop() // what it knew is of another state
	s.m.committer.announce()
	s.m.compactions.compacted() // it may have to prune
	s.m.committer.kick()
	s.m.publish(view)
}

// publish wakes who waits for changes of members, alarms, ledger or rights.
func (m *Member) publish(view *fsm.View) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.published
	if old.KV.CompactRev() != view.KV.CompactRev() {
		m.compactions.compacted()
	}
	if old.Ledger != view.Ledger || old.Members != view.Members || old.Alarms != view.Alarms || old.ClusterVersion != view.ClusterVersion ||
		old.Auth.Revision() != view.Auth.Revision() || old.Auth.Enabled() != view.Auth.Enabled() {
		close(m.changed)
		m.changed = make(chan struct{})
	}
	m.published = view
}

// contextError says in the member's own errors why a wait ended.
func contextError(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ErrTimeout
	}
	return ctx.Err()
}

// timeoutError says why a request got no outcome in time.
func (m *Member) timeoutError() error {
	if m.ctx.Err() != nil {
		return ErrStopped
	}
	if m.Leader() == 0 {
		return ErrTimeoutLeaderFail
	}
	return ErrTimeout
}
