package fsm

import (
	"errors"
	"path/filepath"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// What a leader said about time has no effect in another term, even where the
// batch was proposed again there.
func TestLease_deposedLeaderEndsNothing(t *testing.T) {
	m := openMachine(t, filepath.Join(t.TempDir(), "db"))
	defer m.Close()
	r := &recorder{wants: map[uint64]bool{1: true, 2: true}, delivered: map[uint64][]Result{}}
	m.SetSink(r)
	apply := func(index, term, batch uint64, requests ...func([]byte) ([]byte, error)) {
		t.Helper()
		entry := AppendHeader(nil, term, batch)
		for _, add := range requests {
			var err error
			if entry, err = add(entry); err != nil {
				t.Fatal(err)
			}
		}
		m.Command(index, term, entry)
		m.Publish()
	}
	m.Configure(1, 1, &conclavepb.Configuration{Servers: []*conclavepb.Server{{Id: 1}}})
	expire := func(term uint64) func([]byte) ([]byte, error) {
		return func(b []byte) ([]byte, error) {
			return AppendRequest(b, KindLeaseExpire, Origin{}, &conclavepb.LeaseExpire{Term: term, Ids: []int64{7, 8}})
		}
	}
	clock := func(term uint64) func([]byte) ([]byte, error) {
		return func(b []byte) ([]byte, error) {
			return AppendRequest(b, KindLeaseClock, Origin{}, &conclavepb.LeaseClock{Term: term, Clock: 1000, Renewed: []int64{7}})
		}
	}
	apply(2, 1, 9, func(b []byte) ([]byte, error) {
		return AppendRequest(b, KindLeaseGrant, Origin{}, &pb.LeaseGrantRequest{ID: 7, TTL: 10})
	}, func(b []byte) ([]byte, error) {
		return AppendRequest(b, KindPut, Origin{}, &pb.PutRequest{Key: []byte("k"), Lease: 7})
	})
	apply(3, 2, 1, expire(1), clock(1))
	for _, got := range r.delivered[1] {
		if !errors.Is(got.Err, ErrDeposed) {
			t.Errorf("a deposed leader was answered %v", got.Err)
		}
	}
	if v := m.View().KV; v.Len() != 1 || v.LeaseCount() != 1 || v.LeaseClock() != 0 {
		t.Fatalf("after a deposed leader: %d keys, %d leases, clock %d", v.Len(), v.LeaseCount(), v.LeaseClock())
	}
	apply(4, 2, 2, clock(2), expire(2))
	if v := m.View().KV; v.Len() != 0 || v.LeaseCount() != 0 || v.LeaseClock() != 1000 {
		t.Errorf("after the leader: %d keys, %d leases, clock %d", v.Len(), v.LeaseCount(), v.LeaseClock())
	}
	if n := len(r.leases); n != 3 || !r.leases[2].Gone || r.leases[1].Deadline != 11000 {
		t.Errorf("the sink was told %+v", r.leases)
	}
}
