package member

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/raftstore"
)

func testMemberID(urls []string, salt string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(strings.Join(urls, "") + salt))
	return binary.BigEndian.Uint64(h.Sum(nil))
}

// join starts a member that was added.
func join(t testing.TB, ln net.Listener, id uint64, members []*pb.Member) *fixture {
	t.Helper()
	conf := &conclavepb.Configuration{}
	for _, e := range members {
		conf.Servers = append(conf.Servers, &conclavepb.Server{Id: e.ID, PeerUrls: e.PeerURLs})
	}
	f := newFixture(t, id, ln, conf)
	f.joins = true
	f.begin(t)
	return f
}

// awaitTable waits until a member's own table satisfies the condition.
func awaitTable(t testing.TB, f *fixture, what string, holds func([]*pb.Member) bool) {
	t.Helper()
	ctx := limited(t)
	for {
		changed := f.Changed()
		resp, err := f.MemberList(ctx, false)
		if err != nil {
			t.Fatal(err)
		}
		if holds(resp.Members) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("member %x never saw %s: %v", f.ID(), what, resp.Members)
		}
	}
}

func row(members []*pb.Member, id uint64) *pb.Member {
	i := slices.IndexFunc(members, func(e *pb.Member) bool { return e.ID == id })
	if i < 0 {
		return nil
	}
	return members[i]
}

func hasStarted(id uint64) func([]*pb.Member) bool {
	return func(members []*pb.Member) bool { return row(members, id) != nil && row(members, id).Name != "" }
}

// grow adds a member through f, which has to know that itself has started, starts
// it, and waits until it has published its name there.
func grow(t testing.TB, f *fixture, learner bool) *fixture {
	t.Helper()
	awaitTable(t, f, "its own name", hasStarted(f.ID()))
	ln, url := reserve(t)
	resp, err := f.MemberAdd(limited(t), &pb.MemberAddRequest{PeerURLs: []string{url}, IsLearner: learner})
	if err != nil {
		t.Fatal(err)
	}
	if got := row(resp.Members, resp.Member.ID); got == nil || got.IsLearner != learner || got.Name != "" || got.PeerURLs[0] != url {
		t.Fatalf("added %v, listed %v", resp.Member, resp.Members)
	}
	added := join(t, ln, resp.Member.ID, resp.Members)
	awaitTable(t, f, "the name of the new member", hasStarted(added.ID()))
	return added
}

// One member becomes three, of which one was a learner; the leader is removed,
// and what was written is with those who stay.
func TestMembership_growAndShrink(t *testing.T) {
	one := startCluster(t, 1)[0]
	two := grow(t, one, false)
	three := grow(t, two, true) // added through whoever it is
	awaitTable(t, three, "itself", func(members []*pb.Member) bool { return row(members, three.ID()) != nil })
	if !three.IsLearner() || two.IsLearner() {
		t.Fatal("who is a learner?")
	}
	if _, err := two.MemberPromote(limited(t), &pb.MemberPromoteRequest{ID: three.ID()}); err != nil {
		t.Fatal(err)
	}
	all := []*fixture{one, two, three}
	for _, f := range all {
		if _, err := f.Put(limited(t), &pb.PutRequest{Key: []byte("k")}); err != nil {
			t.Fatal(err)
		}
		awaitTable(t, f, "three voters", func(members []*pb.Member) bool {
			return len(members) == 3 && !slices.ContainsFunc(members, func(e *pb.Member) bool { return e.IsLearner })
		})
	}
	awaitVotes(t, one, 3)
	leader, other := leaderAndOther(t, all)
	if leader.Leader() != leader.ID() {
		t.Fatal("no leader")
	}
	term := leader.node.Term()
	resp, err := other.MemberRemove(limited(t), &pb.MemberRemoveRequest{ID: leader.ID()})
	if err != nil || len(resp.Members) != 2 || row(resp.Members, leader.ID()) != nil {
		t.Fatalf("after the removal: %v, %v", resp, err)
	}
	if now := other.node.Term(); now != term+1 {
		t.Errorf("term %d became %d: leadership was not handed over", term, now)
	}
	awaitGone(t, leader)
	if _, err := other.Put(limited(t), &pb.PutRequest{Key: []byte("after")}); err != nil {
		t.Fatal(err)
	}
	if _, err := other.MemberRemove(limited(t), &pb.MemberRemoveRequest{ID: leader.ID()}); !errors.Is(err, ErrMemberNotFound) {
		t.Errorf("removed twice: %v", err)
	}
}

func awaitGone(t testing.TB, f *fixture) {
	t.Helper()
	select {
	case <-f.node.Gone():
	case <-limited(t).Done():
		t.Errorf("member %x does not know that it was removed", f.ID())
	}
}

// awaitVotes waits until that many members have a vote in raft.
func awaitVotes(t testing.TB, f *fixture, want int) {
	t.Helper()
	ctx := limited(t)
	for {
		changed := f.Changed()
		have := 0
		for _, e := range f.View().Members.All() {
			if !e.Learner && !e.Pending {
				have++
			}
		}
		if have == want {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%d votes, want %d: %+v", have, want, f.View().Members.All())
		}
	}
}

// A leader that is asked to remove itself hands leadership over, answers, and
// learns that it is gone.
func TestMembership_leaderRemovesItself(t *testing.T) {
	all := startCluster(t, 3)
	leader, other := leaderAndOther(t, all)
	resp, err := leader.MemberRemove(limited(t), &pb.MemberRemoveRequest{ID: leader.ID()})
	if err != nil || len(resp.Members) != 2 {
		t.Fatalf("%v, %v", resp, err)
	}
	awaitGone(t, leader)
	if _, err := other.Put(limited(t), &pb.PutRequest{Key: []byte("after")}); err != nil {
		t.Fatal(err)
	}
}

// Changes asked of all members at once are made one after the other; none is
// lost, and none is made twice.
func TestMembership_concurrentChanges(t *testing.T) {
	all := startCluster(t, 3)
	for _, f := range all {
		f.cfg.MaxLearners = 9
	}
	var wg sync.WaitGroup
	for i := range 9 {
		wg.Go(func() {
			url := "http://127.0.0.1:" + string(rune('1'+i))
			if _, err := all[i%3].MemberAdd(limited(t), &pb.MemberAddRequest{PeerURLs: []string{url}, IsLearner: true}); err != nil {
				t.Errorf("learner %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	resp, err := all[0].MemberList(limited(t), true)
	if err != nil || len(resp.Members) != 12 {
		t.Fatalf("%v, %v", resp, err)
	}
}

// Answers that are lost on the way leave no change in doubt for long: the table
// tells.
func TestMembership_lostAnswers(t *testing.T) {
	all := startCluster(t, 3)
	_, other := leaderAndOther(t, all)
	other.cfg.MaxLearners = 100
	for _, f := range all {
		f.cfg.MaxLearners = 100
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(30 * time.Millisecond):
				for _, f := range all {
					f.hangUp()
				}
			}
		}
	})
	added := 0
	for i := range 10 {
		url := "http://127.0.0.1:" + string(rune('1'+i%9)) + "0"[:i/9]
		_, err := other.MemberAdd(limited(t), &pb.MemberAddRequest{PeerURLs: []string{url}, IsLearner: true})
		if err == nil {
			added++
		} else if !errors.Is(err, ErrTimeout) && !errors.Is(err, ErrTimeoutLeaderFail) && !errors.Is(err, ErrUnhealthy) {
			t.Errorf("learner %d: %v", i, err)
		}
	}
	close(stop)
	wg.Wait()
	resp, err := other.MemberList(limited(t), true)
	if err != nil || len(resp.Members) < 3+added {
		t.Fatalf("%d were added, listed are %v, %v", added, resp, err)
	}
	if added == 0 {
		t.Error("no change was made at all")
	}
}

// The answer of a leader that made the change may be lost for good: whoever asked
// finds the change in its own table, for each kind of change.
func TestMembership_tableTellsTheOutcome(t *testing.T) {
	all := startCluster(t, 3)
	leader, other := leaderAndOther(t, all)
	leader.peer.Handle(raftstore.KindChange, func(ctx context.Context, from uint64, payload []byte) ([]byte, error) {
		if _, err := leader.answerChange(ctx, from, payload); err != nil {
			return nil, err
		}
		return nil, errors.New("lost")
	})
	_, url := reserve(t)
	added, err := other.MemberAdd(limited(t), &pb.MemberAddRequest{PeerURLs: []string{url}, IsLearner: true})
	if err != nil || row(added.Members, added.Member.ID) == nil {
		t.Fatalf("add: %v, %v", added, err)
	}
	_, moved := reserve(t)
	updated, err := other.MemberUpdate(limited(t), &pb.MemberUpdateRequest{ID: added.Member.ID, PeerURLs: []string{moved}})
	if err != nil || row(updated.Members, added.Member.ID).PeerURLs[0] != moved {
		t.Fatalf("update: %v, %v", updated, err)
	}
	removed, err := other.MemberRemove(limited(t), &pb.MemberRemoveRequest{ID: added.Member.ID})
	if err != nil || len(removed.Members) != 3 {
		t.Fatalf("remove: %v, %v", removed, err)
	}
}

func TestMembership_refusals(t *testing.T) {
	all := startCluster(t, 3)
	f := all[0]
	add := func(url string, learner bool) (*pb.MemberAddResponse, error) {
		return f.MemberAdd(limited(t), &pb.MemberAddRequest{PeerURLs: []string{url}, IsLearner: learner})
	}
	_, busy := reserve(t)
	learner, err := add(busy, true)
	if err != nil {
		t.Fatal(err)
	}
	first := f.View().Members.All()[0].PeerURLs[0]
	_, free := reserve(t)
	for what, got := range map[string]struct{ err, want error }{
		"same URL":          {second(add(first, false)), ErrPeerURLExists},
		"second learner":    {second(add(free, true)), ErrTooManyLearners},
		"promote unknown":   {second(f.MemberPromote(limited(t), &pb.MemberPromoteRequest{ID: 99})), ErrMemberNotFound},
		"promote voter":     {second(f.MemberPromote(limited(t), &pb.MemberPromoteRequest{ID: 2})), ErrNotLearner},
		"promote unstarted": {second(f.MemberPromote(limited(t), &pb.MemberPromoteRequest{ID: learner.Member.ID})), ErrLearnerNotReady},
		"update unknown":    {second(f.MemberUpdate(limited(t), &pb.MemberUpdateRequest{ID: 99, PeerURLs: []string{free}})), ErrMemberNotFound},
		"update to taken":   {second(f.MemberUpdate(limited(t), &pb.MemberUpdateRequest{ID: 2, PeerURLs: []string{first}})), ErrPeerURLExists},
		"remove unknown":    {second(f.MemberRemove(limited(t), &pb.MemberRemoveRequest{ID: 99})), ErrMemberNotFound},
	} {
		if !errors.Is(got.err, got.want) {
			t.Errorf("%s: %v, want %v", what, got.err, got.want)
		}
	}
	if _, err := f.MemberRemove(limited(t), &pb.MemberRemoveRequest{ID: learner.Member.ID}); err != nil {
		t.Fatal(err)
	}
	// The same URL comes back under another id, even within the second.
	again, err := add(busy, true)
	if err != nil || again.Member.ID == learner.Member.ID {
		t.Errorf("added again: %v, %v", again, err)
	}
}

func second[T any](_ T, err error) error { return err }

// What strict-reconfig-check holds back, and what it lets through.
func TestMembership_strictCheck(t *testing.T) {
	all := startCluster(t, 3)
	f, down := all[0], all[2]
	for _, e := range all {
		awaitTable(t, f, "all names", hasStarted(e.ID()))
	}
	_, url := reserve(t)
	f.cfg.HealthInterval = time.Hour
	if _, err := f.MemberAdd(limited(t), &pb.MemberAddRequest{PeerURLs: []string{url}}); !errors.Is(err, ErrUnhealthy) {
		t.Errorf("added while nobody has been connected for long: %v", err)
	}
	if _, err := f.MemberRemove(limited(t), &pb.MemberRemoveRequest{ID: down.ID()}); !errors.Is(err, ErrUnhealthy) {
		t.Errorf("removed while nobody has been connected for long: %v", err)
	}
	f.cfg.HealthInterval = time.Nanosecond
	if err := down.node.Close(); err != nil {
		t.Fatal(err)
	}
	down.peer.Close()
	awaitDown(t, f, down.ID())
	if _, err := f.MemberAdd(limited(t), &pb.MemberAddRequest{PeerURLs: []string{url}}); !errors.Is(err, ErrUnhealthy) {
		t.Errorf("added while one of three is down: %v", err)
	}
	if _, err := f.MemberRemove(limited(t), &pb.MemberRemoveRequest{ID: all[1].ID()}); !errors.Is(err, ErrUnhealthy) {
		t.Errorf("removed one of two that are left: %v", err)
	}
	// The one that is down is removed, and then one more can come.
	if _, err := f.MemberRemove(limited(t), &pb.MemberRemoveRequest{ID: down.ID()}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.MemberAdd(limited(t), &pb.MemberAddRequest{PeerURLs: []string{url}}); err != nil {
		t.Fatal(err)
	}
	// It has not started: with another one too few would have.
	_, more := reserve(t)
	if _, err := f.MemberAdd(limited(t), &pb.MemberAddRequest{PeerURLs: []string{more}}); !errors.Is(err, ErrNotEnoughStarted) && !errors.Is(err, ErrUnhealthy) {
		t.Errorf("added a second one that has not started: %v", err)
	}
}

func awaitDown(t testing.TB, f *fixture, id uint64) {
	t.Helper()
	ctx := limited(t)
	for {
		changed := f.peer.Changed()
		if _, up := f.connectedSince(id); !up {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%x is still connected", id)
		}
	}
}

func TestMembership_lastMemberStays(t *testing.T) {
	f := startCluster(t, 1)[0]
	for _, strict := range []bool{true, false} {
		f.cfg.StrictReconfig = strict
		if _, err := f.MemberRemove(limited(t), &pb.MemberRemoveRequest{ID: f.ID()}); !errors.Is(err, ErrNotEnoughStarted) {
			t.Errorf("strict %v: %v", strict, err)
		}
	}
}

func TestMoveLeader_rules(t *testing.T) {
	all := startCluster(t, 3)
	leader, other := leaderAndOther(t, all)
	if err := other.MoveLeader(limited(t), other.ID()); !errors.Is(err, ErrNotLeader) {
		t.Errorf("asked a follower: %v", err)
	}
	if err := leader.MoveLeader(limited(t), 99); !errors.Is(err, ErrBadTransferee) {
		t.Errorf("to nobody: %v", err)
	}
	if err := leader.MoveLeader(limited(t), leader.ID()); err != nil {
		t.Errorf("to itself: %v", err)
	}
	moveLeader(t, leader, other)
	if other.Leader() != other.ID() {
		t.Errorf("to %x, who sees %x lead", other.ID(), other.Leader())
	}
}

// The wire has the numbers of the change operations.
func TestChangeOps_sameNumbers(t *testing.T) {
	for op, wire := range map[raftstore.ChangeOp]conclavepb.MemberChange_Op{
		raftstore.OpAdd: conclavepb.MemberChange_ADD, raftstore.OpAddLearner: conclavepb.MemberChange_ADD_LEARNER,
		raftstore.OpPromote: conclavepb.MemberChange_PROMOTE, raftstore.OpUpdate: conclavepb.MemberChange_UPDATE,
		raftstore.OpRemove: conclavepb.MemberChange_REMOVE,
	} {
		if int32(op) != int32(wire) {
			t.Errorf("%s is %d on the wire and %d here", wire, wire, op)
		}
	}
}
