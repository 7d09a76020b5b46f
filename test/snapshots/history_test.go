//go:build interop

package snapshots

import (
	"errors"
	"fmt"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// compactedTo is the revision of a deletion: its tombstone is the newest record
// that the compaction hides.
const compactedTo = 17

// The leases: one with many keys, one with the greatest id, one without keys,
// one whose key went to another one.
const (
	leaseMany, leaseGreat, leaseNone, leaseLeft = 0x1234, 1<<63 - 1, 77, 78
)

// write makes a history in which everything is used that a snapshot has.
func (s *server) write() {
	s.t.Helper()
	s.writeKeys()
	s.writeLeases()
	s.writeUsers()
	s.writeAlarm()
	s.writeMembers()
}

// writeKeys is what a compaction can meet: keys that were overwritten, deleted
// and made again on both sides of it, and a deletion at it.
func (s *server) writeKeys() {
	s.t.Helper()
	put := func(key, value string) {
		s.t.Helper()
		_, err := s.client.Put(s.ctx, key, value)
		s.must(err)
	}
	remove := func(key string, opts ...clientv3.OpOption) (revision int64) {
		s.t.Helper()
		resp, err := s.client.Delete(s.ctx, key, opts...)
		s.must(err)
		return resp.Header.Revision
	}
	for i := range 6 { // revisions 2 to 7
		put(fmt.Sprintf("a/%d", i), "first")
	}
	put("a/0", "second")
	put("a/0", "third")
	remove("a/1") // before the compaction, for good
	remove("a/2") // and to be made again after it
	_, err := s.client.Compact(s.ctx, 9)
	s.must(err)
	put("empty", "")
	put("binary\x00\xff/é", strings.Repeat("\x00\x01\xfe", 9))
	put("large", strings.Repeat("0123456789abcdef", 600)) // more than two pages
	put("a/3", "again")
	s.must(s.transaction())
	if at := remove("a/4"); at != compactedTo {
		s.t.Fatalf("the deletion is at revision %d, and %d is written down", at, compactedTo)
	}
	put("a/2", "back")
	put("a/4", "back")
	put("a/0", "fourth")
	remove("a/3")
	_, err = s.client.Compact(s.ctx, compactedTo, clientv3.WithCompactPhysical())
	s.must(err)
	s.must(s.transaction())
	put("b/1", "x")
	put("b/2", "x")
	put("b/3", "x")
	remove("b/", clientv3.WithPrefix()) // several in one revision
	put("b/2", "lives")
}

// transaction makes one revision of several operations, some of them in an inner
// transaction, and one of them a deletion.
func (s *server) transaction() error {
	inner := clientv3.OpTxn(
		[]clientv3.Cmp{clientv3.Compare(clientv3.Version("t/none"), "=", 0)},
		[]clientv3.Op{clientv3.OpPut("t/inner", "yes"), clientv3.OpDelete("t/gone")},
		[]clientv3.Op{clientv3.OpPut("t/inner", "no")})
	resp, err := s.client.Txn(s.ctx).If(clientv3.Compare(clientv3.Version("a/0"), ">", 1)).
		Then(clientv3.OpPut("t/outer", "yes"), inner, clientv3.OpPut("t/gone2", "x"), clientv3.OpGet("t/outer")).
		Else(clientv3.OpPut("t/outer", "no")).Commit()
	if err == nil && !resp.Succeeded {
		err = errors.New("the transaction went the other way")
	}
	return err
}

func (s *server) writeLeases() {
	s.t.Helper()
	leases := pb.NewLeaseClient(s.client.ActiveConnection())
	for id, ttl := range map[int64]int64{leaseMany: 600, leaseGreat: 9_000_000_000, leaseNone: 60, leaseLeft: 3600, 79: 60} {
		_, err := leases.LeaseGrant(s.ctx, &pb.LeaseGrantRequest{ID: id, TTL: ttl})
		s.must(err)
	}
	put := func(key string, id clientv3.LeaseID) {
		s.t.Helper()
		_, err := s.client.Put(s.ctx, key, "leased", clientv3.WithLease(id))
		s.must(err)
	}
	for i := range 5 {
		put(fmt.Sprintf("l/%d", i), leaseMany)
	}
	put("l/great", leaseGreat)
	put("l/moved", leaseLeft)
	put("l/moved", leaseMany)
	put("l/detached", leaseMany)
	_, err := s.client.Put(s.ctx, "l/detached", "not leased")
	s.must(err)
	_, err = s.client.Delete(s.ctx, "l/4")
	s.must(err)
	put("l/ends", 79)
	_, err = s.client.Revoke(s.ctx, 79)
	s.must(err)
	_, err = s.client.KeepAliveOnce(s.ctx, leaseMany)
	s.must(err)
}

// writeUsers makes users and roles; requests need not be authenticated.
func (s *server) writeUsers() {
	s.t.Helper()
	withoutPassword := &clientv3.UserAddOptions{NoPassword: true}
	for _, name := range []string{"root", "reader"} {
		_, err := s.client.RoleAdd(s.ctx, name)
		s.must(err)
		_, err = s.client.UserAddWithOptions(s.ctx, name, "", withoutPassword)
		s.must(err)
		_, err = s.client.UserGrantRole(s.ctx, name, name)
		s.must(err)
	}
	for _, p := range []struct {
		key, end string
		kind     clientv3.PermissionType
	}{{"a/", "a0", clientv3.PermissionType(clientv3.PermRead)}, {"binary\x00", "", clientv3.PermissionType(clientv3.PermReadWrite)}, {"z", "\x00", clientv3.PermissionType(clientv3.PermWrite)}} {
		_, err := s.client.RoleGrantPermission(s.ctx, "reader", p.key, p.end, p.kind)
		s.must(err)
	}
}

// writeAlarm raises an alarm and takes it back.
func (s *server) writeAlarm() {
	s.t.Helper()
	st, err := s.client.Status(s.ctx, s.endpoint)
	s.must(err)
	alarm := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: st.Header.MemberId, Alarm: pb.AlarmType_NOSPACE}
	_, err = pb.NewMaintenanceClient(s.client.ActiveConnection()).Alarm(s.ctx, alarm)
	s.must(err)
	_, err = s.client.AlarmDisarm(s.ctx, &clientv3.AlarmMember{MemberID: st.Header.MemberId, Alarm: pb.AlarmType_NOSPACE})
	s.must(err)
	_, err = s.client.Put(s.ctx, "after/alarm", "x")
	s.must(err)
}

// writeMembers adds a member that is removed again, and one that stays.
func (s *server) writeMembers() {
	s.t.Helper()
	gone := s.addLearner("http://127.0.0.1:1")
	_, err := s.client.MemberRemove(s.ctx, gone)
	s.must(err)
	s.addLearner("http://127.0.0.1:2")
}

// addLearner waits out the seconds in which a server that was just started takes
// itself for unhealthy.
func (s *server) addLearner(url string) (id uint64) {
	s.t.Helper()
	for {
		resp, err := s.client.MemberAddAsLearner(s.ctx, []string{url})
		if errors.Is(err, rpctypes.ErrUnhealthy) {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		s.must(err)
		return resp.Member.ID
	}
}
