package member

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/raftstore"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

const testElection = 200 * time.Millisecond

// fixture is one member of a cluster in this process, with real connections.
type fixture struct {
	*Member
	listener net.Listener
	peer     *raftstore.Mesh
	reg      *prometheus.Registry
	dir      string
	conf     *conclavepb.Configuration
	joins    bool // was added to a running cluster

	mu    sync.Mutex
	conns map[net.Conn]bool // dialled by this member
}

// newFixtures lays out n members that have sessions but no log yet.
func newFixtures(t testing.TB, n int) []*fixture {
	t.Helper()
	conf := &conclavepb.Configuration{}
	var listeners []net.Listener
	for i := range n {
		ln, url := reserve(t)
		listeners = append(listeners, ln)
		conf.Servers = append(conf.Servers, &conclavepb.Server{Id: uint64(i + 1), PeerUrls: []string{url}})
	}
	var all []*fixture
	for i, ln := range listeners {
		all = append(all, newFixture(t, uint64(i+1), ln, conf))
	}
	return all
}

// reserve is a place for a member that has no id yet.
func reserve(t testing.TB) (net.Listener, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln, "http://" + ln.Addr().String()
}

// newFixture makes a member of id that has sessions with those of conf.
func newFixture(t testing.TB, id uint64, ln net.Listener, conf *conclavepb.Configuration) *fixture {
	t.Helper()
	f := &fixture{listener: ln, reg: prometheus.NewRegistry(), dir: t.TempDir(), conf: conf, conns: map[net.Conn]bool{}}
	f.peer = raftstore.NewMesh(raftstore.MeshConfig{
		Self: id, ClusterID: 7, Instance: fmt.Sprintf("i%d", id), ElectionTimeout: testElection,
		Dial: f.dial, Log: zerolog.Nop(), Registry: f.reg,
	})
	t.Cleanup(f.peer.Close)
	f.peer.Serve(f.listener)
	peers := map[uint64][]string{}
	for _, s := range conf.Servers {
		if s.Id != id {
			peers[s.Id] = s.PeerUrls
		}
	}
	f.peer.SetPeers(peers)
	machine, err := fsm.Open(fsm.Options{Path: filepath.Join(f.dir, "db"), Quota: 64 << 20, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { machine.Close() })
	f.peer.KnowRemoved(func(id uint64) bool { return machine.View().Members.Removed(id) })
	f.Member = New(Config{
		ID: id, ClusterID: 7, Name: fmt.Sprintf("m%d", id), RequestTimeout: 5 * time.Second,
		MaxRequestBytes: 1 << 20, FirstBatch: id << 48,
		StrictReconfig: true, MaxLearners: 1, HealthInterval: time.Nanosecond, MemberID: testMemberID,
		Fatal: func(err error) { t.Errorf("member %d: %v", id, err) },
		Log:   zerolog.Nop(), Registry: f.reg,
	}, f.peer, machine)
	return f
}

func (f *fixture) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err == nil {
		f.mu.Lock()
		f.conns[conn] = true
		f.mu.Unlock()
	}
	return conn, err
}

// hangUp breaks every connection that this member dialled.
func (f *fixture) hangUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for conn := range f.conns {
		conn.Close()
		delete(f.conns, conn)
	}
}

// begin opens the member's log and starts it.
func (f *fixture) begin(t testing.TB) {
	t.Helper()
	node, err := raftstore.Open(raftstore.Config{
		Dir: filepath.Join(f.dir, "wal"), Self: f.ID(), Mesh: f.peer, Machine: f.machine, Bootstrap: f.conf, Join: f.joins,
		OpenTerm:        func(term uint64) []byte { return OpenTerm(f.ID(), term) },
		ElectionTimeout: testElection, RequestTimeout: f.cfg.RequestTimeout, PreVote: true,
		Log: zerolog.Nop(), Registry: f.reg,
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Start(node)
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
		f.Stop()
	})
}

// startCluster starts n members and waits until a write is agreed.
func startCluster(t testing.TB, n int) []*fixture {
	t.Helper()
	all := newFixtures(t, n)
	for _, f := range all {
		f.begin(t)
	}
	for _, f := range all {
		if _, err := f.Put(limited(t), &pb.PutRequest{Key: []byte("started")}); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// leaderAndOther returns the leader and a member that follows it.
func leaderAndOther(t testing.TB, all []*fixture) (leader, other *fixture) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		id := all[0].Leader()
		for i, f := range all {
			if f.ID() == id && f.Leader() == id {
				return f, all[(i+1)%len(all)]
			}
		}
	}
	t.Fatal("no leader")
	return nil, nil
}

// moveLeader hands leadership over. Who lacks entries, which another member may
// for a moment, is refused: it is asked again.
func moveLeader(t testing.TB, from, to *fixture) {
	t.Helper()
	ctx, err := limited(t), ErrBadTransferee
	for errors.Is(err, ErrBadTransferee) && ctx.Err() == nil {
		err = from.MoveLeader(ctx, to.ID())
	}
	if err != nil {
		t.Fatal(err)
	}
}
