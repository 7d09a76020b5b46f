package member

import (
	"errors"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/raftstore"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// next returns the channel that the committer closes after its next commit.
func (c *committer) next() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.committed
}

// runCommitter runs the committer of a member that has no node.
func runCommitter(t *testing.T, m *Member) {
	done := make(chan struct{})
	go func() { defer close(done); m.committer.run() }()
	t.Cleanup(func() { m.cancel(); <-done })
}

// applyPut applies a put to a member's machine, as raft would.
func applyPut(t *testing.T, m *Member, index uint64, size int) {
	t.Helper()
	data, err := fsm.AppendRequest(fsm.AppendHeader(nil, 2, index), fsm.KindPut, fsm.Origin{},
		&pb.PutRequest{Key: []byte("k"), Value: make([]byte, size)})
	if err != nil {
		t.Fatal(err)
	}
	m.machine.Command(index, 2, data)
	m.machine.Publish()
}

func configure(m *Member, conf *conclavepb.Configuration) {
	m.machine.Configure(1, 1, conf)
	m.machine.Publish()
}

// The committer writes soon after a change, and sleeps while there is none.
func TestCommitter_sleepsWhenIdle(t *testing.T) {
	f := newFixtures(t, 1)[0]
	configure(f.Member, f.conf)
	runCommitter(t, f.Member)
	for index := uint64(2); index < 5; index++ {
		applyPut(t, f.Member, index, 1)
		if err := f.committer.await(limited(t), func() bool { i, _ := f.machine.Synced().Position(); return i == index }); err != nil {
			t.Fatal(err)
		}
	}
	select { // one more round may have been asked for meanwhile
	case <-f.committer.next():
	case <-time.After(2 * commitInterval):
	}
	select {
	case <-f.committer.next():
		t.Fatal("the committer woke for nothing")
	case <-time.After(5 * commitInterval):
	}
}

// A commit that is due does not wait for the time.
func TestCommitter_dueCommitsAtOnce(t *testing.T) {
	f := newFixtures(t, 1)[0]
	configure(f.Member, f.conf)
	for index := uint64(2); index < 40; index++ {
		applyPut(t, f.Member, index, 1<<20)
	}
	if len(f.committer.full) != 1 {
		t.Fatal("38 MiB do not hurry the committer")
	}
}

// A commit that hangs ends the process, though nobody can end the commit.
func TestCommitter_hangEndsTheProcess(t *testing.T) {
	f := newFixtures(t, 1)[0]
	configure(f.Member, f.conf)
	fatal := make(chan error, 1)
	f.cfg.Fatal = func(err error) { fatal <- err }
	release := make(chan struct{})
	f.committer.stuck = 20 * time.Millisecond
	f.committer.write = func() error { <-release; return nil }
	runCommitter(t, f.Member)
	select {
	case err := <-fatal:
		t.Log(err)
	case <-time.After(10 * time.Second):
		t.Error("nothing happened")
	}
	close(release)
}

// While the state file is far behind, requests are refused before anything of
// them waits in memory, also those that come from other members; and taken again
// when it has come up.
func TestMember_refusesWhileTheDiskIsBehind(t *testing.T) {
	all := newFixtures(t, 3)
	slow := make(chan struct{})
	release := sync.OnceFunc(func() { close(slow) })
	for _, f := range all {
		f.backlogLimit = 1 << 20
		f.committer.write = func() error { <-slow; return f.machine.Commit() }
		f.begin(t)
	}
	t.Cleanup(release)
	put := func(f *fixture) error {
		_, err := f.Put(limited(t), &pb.PutRequest{Key: []byte("k"), Value: make([]byte, 100<<10)})
		return err
	}
	if err := put(all[0]); err != nil {
		t.Fatal(err)
	}
	leader, other := leaderAndOther(t, all)
	var err error
	for n := 0; err == nil; n++ {
		if err = put(leader); n > 100 {
			t.Fatal("never refused")
		}
	}
	if !errors.Is(err, ErrTooManyRequests) {
		t.Fatalf("refused with %v", err)
	}
	payload, err := proto.Marshal(&conclavepb.Forward{Term: leader.node.Term(), Batch: 1 << 40, Payload: entry(t, leader.node.Term(), 1<<40, "f")})
	if err != nil {
		t.Fatal(err)
	}
	var refused *raftstore.CallError
	if _, err := other.peer.Call(limited(t), leader.ID(), raftstore.KindForward, payload); !errors.As(err, &refused) || refused.Code != raftstore.CodeBusy {
		t.Fatalf("a forwarded batch: %v", err)
	}
	release()
	for _, f := range all {
		if err := f.committer.await(limited(t), func() bool { return !f.behind() }); err != nil {
			t.Fatal(err)
		}
	}
	// What is applied late may keep a member behind for a little longer.
	ctx, err := limited(t), ErrTooManyRequests
	for errors.Is(err, ErrTooManyRequests) && ctx.Err() == nil {
		err = put(other)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What is applied is in the state file soon, also after a time in which nothing
// was; a member that applies nothing rests.
func TestCommitter_restsAndWakes(t *testing.T) {
	f := startCluster(t, 1)[0]
	synced := func() uint64 {
		index, _ := f.machine.Synced().Position()
		return index
	}
	for range 3 {
		if _, err := f.Put(limited(t), &pb.PutRequest{Key: []byte("k")}); err != nil {
			t.Fatal(err)
		}
		written := time.Now()
		for synced() < f.View().Applied {
			if time.Since(written) > 5*time.Second {
				t.Fatalf("synced to %d of %d", synced(), f.View().Applied)
			}
			time.Sleep(time.Millisecond)
		}
		rests(t, f)
	}
}

// rests waits until the committer has done nothing for three of its intervals.
func rests(t *testing.T, f *fixture) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for time.Now().Before(deadline) {
		f.committer.mu.Lock()
		next := f.committer.committed
		f.committer.mu.Unlock()
		select {
		case <-next:
		case <-time.After(3 * commitInterval):
			return
		}
	}
	t.Fatal("the committer of an idle member never rests")
}
