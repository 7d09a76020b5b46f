//go:build interop

package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	grpcstatus "google.golang.org/grpc/status"
)

// A leaseTalk is a conversation about leases, as text. Ids that the server chose
// and times that pass are left out.
type leaseTalk struct {
	t     *testing.T
	ctx   context.Context
	c     pb.LeaseClient
	kv    pb.KVClient
	lines []string
}

func newLeaseTalk(t *testing.T, client *clientv3.Client) *leaseTalk {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return &leaseTalk{t: t, ctx: ctx, c: pb.NewLeaseClient(client.ActiveConnection()), kv: pb.NewKVClient(client.ActiveConnection())}
}

func (l *leaseTalk) say(what string, err error, answer string, args ...any) {
	text := fmt.Sprintf(answer, args...)
	if err != nil {
		s := grpcstatus.Convert(err)
		text = fmt.Sprintf("%v %q", s.Code(), s.Message())
	}
	l.lines = append(l.lines, what+": "+text)
}

func (l *leaseTalk) grant(id, ttl int64) int64 {
	r, err := l.c.LeaseGrant(l.ctx, &pb.LeaseGrantRequest{ID: id, TTL: ttl})
	given := fmt.Sprint(r.GetID())
	if id == 0 && r.GetID() > 0 {
		given = "positive"
	}
	l.say(fmt.Sprintf("grant %d for %d", id, ttl), err, "id %s, TTL %d, revision %d, %q", given, r.GetTTL(), r.GetHeader().GetRevision(), r.GetError())
	return r.GetID()
}

func (l *leaseTalk) revoke(id int64) {
	r, err := l.c.LeaseRevoke(l.ctx, &pb.LeaseRevokeRequest{ID: id})
	l.say(fmt.Sprintf("revoke %d", id), err, "revision %d", r.GetHeader().GetRevision())
}

func (l *leaseTalk) left(what string, id int64) {
	r, err := l.c.LeaseTimeToLive(l.ctx, &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
	slices.SortFunc(r.GetKeys(), bytes.Compare) // etcd tells them in any order
	left := fmt.Sprint(r.GetTTL())
	if ms := r.GetGrantedTTL() - r.GetTTL(); ms >= 0 && ms < 30 && r.GetTTL() > 0 {
		left = "most of it"
	}
	l.say("time to live of "+what, err, "%s of %d, keys %q, same id %t", left, r.GetGrantedTTL(), r.GetKeys(), r.GetID() == id)
}

// renew renews leases on one stream, and then closes it.
func (l *leaseTalk) renew(ids ...int64) {
	l.t.Helper()
	stream, err := l.c.LeaseKeepAlive(l.ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, id := range ids {
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
			l.t.Fatal(err)
		}
		r, err := stream.Recv()
		l.say(fmt.Sprintf("renew %d", id), err, "id %d, TTL %d, revision %d", r.GetID(), r.GetTTL(), r.GetHeader().GetRevision())
	}
	if err := stream.CloseSend(); err != nil {
		l.t.Fatal(err)
	}
	_, err = stream.Recv()
	l.lines = append(l.lines, fmt.Sprint("after the client's end: ", errors.Is(err, io.EOF)))
}

func (l *leaseTalk) put(key string, lease int64) {
	r, err := l.kv.Put(l.ctx, &pb.PutRequest{Key: []byte(key), Lease: lease})
	l.say("put under a lease", err, "revision %d", r.GetHeader().GetRevision())
}

func (l *leaseTalk) count() int {
	l.t.Helper()
	r, err := l.c.LeaseLeases(l.ctx, &pb.LeaseLeasesRequest{})
	if err != nil {
		l.t.Fatal(err)
	}
	return len(r.Leases)
}

// play asks for what makes no sense, among what does.
func (l *leaseTalk) play() []string {
	l.t.Helper()
	for _, ttl := range []int64{-1, 0, 1, 2, 3, math.MinInt64, 9_000_000_000, 9_000_000_001, math.MaxInt64} {
		l.grant(0, ttl)
	}
	for _, id := range []int64{7, 7, -7, -7, math.MinInt64, math.MaxInt64, 0x7000000000000000} {
		l.grant(id, 100)
	}
	l.put("b", 7)
	l.put("a", 7)
	l.put("c", -7)
	l.put("d", 12345)
	for _, id := range []int64{7, -7, 12345, 0, -1, math.MinInt64} {
		l.left(fmt.Sprint(id), id)
	}
	l.renew(7, -7, 12345, 0, -1, 7, math.MaxInt64)
	for _, id := range []int64{0, -1, 12345, 7, 7, -7} {
		l.revoke(id)
	}
	l.renew(7)
	l.left("one revoked", 7)
	// The four shortest ones and this one end by themselves.
	all := l.count()
	short := l.grant(0, 2)
	l.put("e", short)
	eventually(l.t, time.Minute, "leases to end", func() error {
		if n := l.count(); n > all-6 {
			return fmt.Errorf("%d leases of %d", n, all)
		}
		return nil
	})
	l.left("one expired", short)
	l.lines = append(l.lines, fmt.Sprint(l.count(), " leases"))
	l.put("f", short)
	r, err := l.kv.Range(l.ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	l.say("all keys", err, "%v", r.GetKvs())
	return l.lines
}

// Leases with ids and times of every kind are answered as by etcd: granted,
// refused, renewed, revoked, expired.
func TestLease_answersAsEtcd(t *testing.T) {
	t.Parallel()
	s, _, their, _ := besideEtcd(t)
	var got, want []string
	done := make(chan struct{})
	a, b := newLeaseTalk(t, s.dial()), newLeaseTalk(t, their.dial())
	go func() {
		defer close(done)
		want = b.play()
	}()
	got = a.play()
	<-done
	compareTalks(t, got, want)
}

// While a user's CORRUPT alarm is raised, leases are neither made nor ended, by
// nobody and not by time either; they are renewed.
func TestLease_corruptAlarmAsEtcd(t *testing.T) {
	t.Parallel()
	s, _, their, _ := besideEtcd(t)
	var said [2][]string
	for i, client := range []*clientv3.Client{s.dial(), their.dial()} {
		l := newLeaseTalk(t, client)
		alarms := pb.NewMaintenanceClient(client.ActiveConnection())
		set := func(action pb.AlarmRequest_AlarmAction) {
			t.Helper()
			if _, err := alarms.Alarm(l.ctx, &pb.AlarmRequest{Action: action, Alarm: pb.AlarmType_CORRUPT, MemberID: 1}); err != nil {
				t.Fatal(err)
			}
		}
		l.grant(7, 1000)
		l.grant(8, 2)
		l.put("k", 8)
		set(pb.AlarmRequest_ACTIVATE)
		l.grant(9, 1000)
		l.revoke(7)
		l.renew(7)
		eventually(t, serveTimeout, "a lease to be over", func() error {
			r, err := l.c.LeaseTimeToLive(l.ctx, &pb.LeaseTimeToLiveRequest{ID: 8})
			if err == nil && r.TTL > 0 {
				err = fmt.Errorf("it has %d s", r.TTL)
			}
			return err
		})
		l.lines = append(l.lines, fmt.Sprint(l.count(), " leases"))
		set(pb.AlarmRequest_DEACTIVATE)
		eventually(t, serveTimeout, "the lease to end", func() error {
			if n := l.count(); n > 1 {
				return fmt.Errorf("%d leases", n)
			}
			return nil
		})
		l.put("k", 8)
		l.revoke(7)
		said[i] = l.lines
	}
	compareTalks(t, said[0], said[1])
}

func compareTalks(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("conclave says %d things, etcd %d", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Errorf("conclave: %s\netcd:     %s", got[i], want[i])
		}
	}
	t.Logf("both say\n%s", strings.Join(got, "\n"))
}

// A member without a majority answers what it cannot know about leases as
// etcd's does, code and text.
func TestLease_withoutMajorityAsEtcd(t *testing.T) {
	t.Parallel()
	var said [2][]string
	for i, program := range []string{conclave, realTool(t, "etcd")} {
		g := newGroup(t, 3, false)
		g.program = program
		g.launch()
		g.serve()
		l := newLeaseTalk(t, g.members[0].dial())
		l.grant(7, 1000)
		g.members[1].proc.kill()
		g.members[2].proc.kill()
		// Until it knows that it has no leader, its answers may be of any kind.
		client := g.members[0].dial()
		eventually(t, serveTimeout, "the member to be without leader", func() error {
			st, err := client.Status(l.ctx, g.members[0].clientURL())
			if err == nil && st.Leader != 0 {
				err = errors.New("it has one")
			}
			return err
		})
		l.left("7", 7)
		l.renewOnce(7)
		l.lines = append(l.lines, fmt.Sprint(l.count(), " leases"))
		said[i] = l.lines
	}
	compareTalks(t, said[0], said[1])
}

func (l *leaseTalk) renewOnce(id int64) {
	l.t.Helper()
	stream, err := l.c.LeaseKeepAlive(l.ctx)
	if err == nil {
		err = stream.Send(&pb.LeaseKeepAliveRequest{ID: id})
	}
	if err != nil {
		l.t.Fatal(err)
	}
	_, err = stream.Recv()
	l.say("renew without a leader", err, "")
}
