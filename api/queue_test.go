package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/conclave-kv/conclave/internal/lockpb"
	"github.com/conclave-kv/conclave/kv"
)

// A line of callers at a server with a real store.
type line struct {
	*fixture
	keys      *keyBackend
	locks     lockpb.LockClient
	elections lockpb.ElectionClient
}

func startLine(t *testing.T, change func(*Options)) *line {
	t.Helper()
	l := &line{keys: newKeyBackend(t)}
	l.fixture = start(t, "http", func(o *Options) {
		o.Backend = l.keys
		if change != nil {
			change(o)
		}
	})
	conn := l.dialPlain(t)
	l.locks, l.elections = lockpb.NewLockClient(conn), lockpb.NewElectionClient(conn)
	return l
}

// lease grants lease id.
func (l *line) lease(t *testing.T, id int64) int64 {
	t.Helper()
	_, err := l.keys.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{ID: id, TTL: 60})
	must(t, err)
	return id
}

// lock asks for the lock "a" and waits until its key is in the queue. The
// channel gets the outcome.
func (l *line) lock(ctx context.Context, t *testing.T, lease int64) <-chan error {
	t.Helper()
	out := make(chan error, 1)
	before := len(l.keys.keys(t, "a/"))
	go func() {
		_, err := l.locks.Lock(ctx, &lockpb.LockRequest{Name: []byte("a"), Lease: lease})
		out <- err
	}()
	waitFor(t, "the caller to be in the queue", func() bool { return len(l.keys.keys(t, "a/")) > before })
	return out
}

func soon(t *testing.T, what string, c <-chan error) error {
	t.Helper()
	select {
	case err := <-c:
		return err
	case <-time.After(time.Minute):
		t.Fatalf("%s: no answer", what)
		return nil
	}
}

// Of twenty that wait the one that came first is next, and the others are not
// even woken.
func TestQueue_firstComeFirstServed(t *testing.T) {
	l := startLine(t, nil)
	const callers = 20
	var outcomes []<-chan error
	for id := range int64(callers) {
		outcomes = append(outcomes, l.lock(t.Context(), t, l.lease(t, id+1)))
	}
	must(t, soon(t, "the first", outcomes[0]))
	for i := range callers - 1 {
		waitFor(t, "all to wait", func() bool { return l.keys.reads.Load() >= int64(callers-1-i) })
		l.keys.reads.Store(0)
		_, err := l.locks.Unlock(t.Context(), &lockpb.UnlockRequest{Key: fmt.Appendf(nil, "a/%x", i+1)})
		must(t, err)
		must(t, soon(t, fmt.Sprint("caller ", i+1), outcomes[i+1]))
		for j := i + 2; j < callers; j++ {
			select {
			case err := <-outcomes[j]:
				t.Fatalf("caller %d has the lock before caller %d has given it back: %v", j, i+1, err)
			default:
			}
		}
		// One look at the queue and one question whether its own key is there.
		if n := l.keys.reads.Load(); n > 2 {
			t.Errorf("%d reads when caller %d gave the lock back: others were woken too", n, i)
		}
		l.keys.reads.Store(callers)
	}
}

// Who gives up in the middle leaves no key, and no lease that it did not bring.
func TestQueue_giveUp(t *testing.T) {
	l := startLine(t, nil)
	must(t, soon(t, "the first", l.lock(t.Context(), t, l.lease(t, 1))))
	for name, lease := range map[string]int64{"with a lease": l.lease(t, 2), "without": 0} {
		ctx, cancel := context.WithCancel(t.Context())
		waiting := l.lock(ctx, t, lease)
		behind := l.lock(t.Context(), t, l.lease(t, 3))
		cancel()
		want(t, name, soon(t, name, waiting), codes.Canceled, "context canceled")
		waitFor(t, "its key to go", func() bool { return slices.Equal(l.keys.keys(t, "a/"), []string{"a/1", "a/3"}) })
		select {
		case err := <-behind:
			t.Errorf("%s: the one behind has got the lock by it: %v", name, err)
		default:
		}
		_, err := l.keys.LeaseRevoke(t.Context(), &pb.LeaseRevokeRequest{ID: 3})
		must(t, err)
		want(t, "the one behind", soon(t, "the one behind", behind), codes.Unknown, "mutex: session is expired")
	}
	if _, err := l.keys.LeaseRevoke(t.Context(), &pb.LeaseRevokeRequest{ID: 1001}); err == nil {
		t.Error("the lease that was granted for the call is still there")
	}
	_, err := l.keys.LeaseRevoke(t.Context(), &pb.LeaseRevokeRequest{ID: 2})
	must(t, err)
}

// Whose key comes to be deleted does not take what it waited for: neither the
// lock nor, other than in etcd, the lead.
func TestQueue_placeLost(t *testing.T) {
	l := startLine(t, nil)
	must(t, soon(t, "the first", l.lock(t.Context(), t, l.lease(t, 1))))
	lost := l.lock(t.Context(), t, l.lease(t, 2))
	candidate := make(chan error, 1)
	l.lease(t, 3)
	go func() {
		_, err := l.elections.Campaign(t.Context(), &lockpb.CampaignRequest{Name: []byte("a"), Lease: 3})
		candidate <- err
	}()
	waitFor(t, "all to wait", func() bool { return len(l.keys.keys(t, "a/")) == 3 })
	for id := int64(2); id <= 3; id++ {
		_, err := l.keys.LeaseRevoke(t.Context(), &pb.LeaseRevokeRequest{ID: id})
		must(t, err)
	}
	want(t, "lock", soon(t, "lock", lost), codes.Unknown, "mutex: session is expired")
	want(t, "campaign", soon(t, "campaign", candidate), codes.Unknown, "election: not leader")
}

// A lease that only the waiting call knows of is renewed by it, one that the
// caller has brought is the caller's to renew.
func TestQueue_renewsItsOwnLease(t *testing.T) {
	keys := newKeyBackend(t)
	q := &queue{
		kv:      &kvService{backend: keys, validate: validator{maxTxnOps: 128, maxRequestBytes: 1 << 20}},
		streams: newStreams(keys.Leader, time.Hour), cleanup: time.Minute, renewal: time.Millisecond,
	}
	s := &lockService{queue: q}
	_, err := s.Lock(t.Context(), &lockpb.LockRequest{Name: []byte("a")})
	must(t, err)
	if n := keys.renewed.Load(); n != 0 {
		t.Errorf("%d renewals of a lock that is held", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := s.Lock(ctx, &lockpb.LockRequest{Name: []byte("a")})
		done <- err
	}()
	waitFor(t, "renewals", func() bool { return keys.renewed.Load() > 2 })
	cancel()
	if err := soon(t, "canceled", done); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}

	keys.renewed.Store(0)
	_, err = keys.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{ID: 5, TTL: 60})
	must(t, err)
	short, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := s.Lock(short, &lockpb.LockRequest{Name: []byte("a"), Lease: 5}); err == nil || keys.renewed.Load() != 0 {
		t.Errorf("%v, %d renewals of the caller's lease", err, keys.renewed.Load())
	}
}

// A server that stops sends away who waits, with nothing left in the queue.
func TestQueue_endsAtClose(t *testing.T) {
	l := startLine(t, func(o *Options) { o.StopTimeout = time.Minute })
	must(t, soon(t, "the first", l.lock(t.Context(), t, l.lease(t, 1))))
	waiting := l.lock(t.Context(), t, l.lease(t, 2))
	began := time.Now()
	must(t, l.Close())
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %v to stop", took)
	}
	want(t, "waiting", soon(t, "waiting", waiting), codes.Unavailable, "etcdserver: server stopped")
	if got := l.keys.keys(t, "a/"); !slices.Equal(got, []string{"a/1"}) {
		t.Errorf("keys %q", got)
	}
}

// Without a leader those go that asked for one, and the others wait on.
func TestQueue_leaderless(t *testing.T) {
	l := startLine(t, func(o *Options) { o.ElectionTimeout = 10 * time.Millisecond })
	must(t, soon(t, "the first", l.lock(t.Context(), t, l.lease(t, 1))))
	patient := l.lock(t.Context(), t, l.lease(t, 2))
	wanting := l.lock(metadata.AppendToOutgoingContext(t.Context(), "hasleader", "true"), t, l.lease(t, 3))
	l.keys.leader.Store(0)
	want(t, "who wants a leader", soon(t, "who wants a leader", wanting), codes.Unavailable, "etcdserver: no leader")
	l.keys.leader.Store(7)
	_, err := l.locks.Unlock(t.Context(), &lockpb.UnlockRequest{Key: []byte("a/1")})
	must(t, err)
	must(t, soon(t, "who does not", patient))
}

// Members that may answer nothing about keys, or have no vote, keep no queue.
func TestQueue_unfitMembers(t *testing.T) {
	l := startLine(t, nil)
	ask := func(code codes.Code, text string) {
		t.Helper()
		_, err := l.locks.Lock(t.Context(), &lockpb.LockRequest{Name: []byte("a")})
		want(t, "lock", err, code, text)
		_, err = l.elections.Leader(t.Context(), &lockpb.LeaderRequest{Name: []byte("a")})
		want(t, "leader", err, code, text)
		stream, err := l.elections.Observe(t.Context(), &lockpb.LeaderRequest{Name: []byte("a")})
		must(t, err)
		_, err = stream.Recv()
		want(t, "observe", err, code, text)
	}
	l.keys.damaged.Store(true)
	ask(codes.DataLoss, "etcdserver: corrupt cluster")
	l.keys.damaged.Store(false)
	l.keys.fakeBackend.mu.Lock()
	l.keys.learner = true
	l.keys.fakeBackend.mu.Unlock()
	ask(codes.FailedPrecondition, "etcdserver: rpc not supported for learner")
}

// Waiting is not slowness.
func TestQueue_notLoggedAsSlow(t *testing.T) {
	l := startLine(t, func(o *Options) { o.SlowRequest = time.Nanosecond; o.Log = o.Log.Level(1) })
	must(t, soon(t, "the first", l.lock(t.Context(), t, l.lease(t, 1))))
	_, err := l.locks.Unlock(t.Context(), &lockpb.UnlockRequest{Key: []byte("a/1")})
	must(t, err)
	waitFor(t, "the log", func() bool { return l.log.has("/v3lockpb.Lock/Unlock") })
	if l.log.has("/v3lockpb.Lock/Lock") {
		t.Error("a call of Lock is logged as slow")
	}
}

// An observer whose next event is compacted away looks who leads now.
func TestObserve_compactedAway(t *testing.T) {
	l := startLine(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := l.elections.Observe(ctx, &lockpb.LeaderRequest{Name: []byte("a")})
	must(t, err)
	l.lease(t, 1)
	campaign, err := l.elections.Campaign(ctx, &lockpb.CampaignRequest{Name: []byte("a"), Lease: 1, Value: []byte("first")})
	must(t, err)
	resp, err := stream.Recv()
	must(t, err)
	if string(resp.Kv.Value) != "first" {
		t.Fatalf("%v", resp)
	}
	s := &observer{queue: &queue{kv: &kvService{backend: l.keys}}, stream: stoppedStream{ctx: ctx}}
	_, err = l.elections.Proclaim(ctx, &lockpb.ProclaimRequest{Leader: campaign.Leader, Value: []byte("second")})
	must(t, err)
	must(t, l.keys.apply(func(b *kv.Batch) error {
		_, err := b.Compact(&pb.CompactionRequest{Revision: b.Rev()}, kv.Full)
		return err
	}))
	must(t, s.follow(campaign.Leader.Key, campaign.Leader.Rev)) // returns, so that Observe looks again
	if resp, err := stream.Recv(); err != nil || string(resp.Kv.Value) != "second" {
		t.Errorf("%v, %v", resp, err)
	}
}

type stoppedStream struct {
	lockpb.Election_ObserveServer
	ctx context.Context
}

func (s stoppedStream) Context() context.Context { return s.ctx }
