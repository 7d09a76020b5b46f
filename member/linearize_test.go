package member

import (
	"context"
	"errors"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A request whose client sets no deadline is answered all the same when there is no
// leader, as etcd does: the client then asks another member.
func TestMember_readEndsWithoutLeader(t *testing.T) {
	f := newFixtures(t, 3)[0] // the others never start
	f.cfg.RequestTimeout = 300 * time.Millisecond
	f.begin(t)
	calls := map[string]func(context.Context) error{
		"range": func(ctx context.Context) error {
			_, err := f.Range(ctx, &pb.RangeRequest{Key: []byte("k")})
			return err
		},
		"txn": func(ctx context.Context) error {
			_, err := f.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{
				{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("k")}}}}})
			return err
		},
		"members": func(ctx context.Context) error {
			_, err := f.MemberList(ctx, true)
			return err
		},
		"alarms": func(ctx context.Context) error {
			_, err := f.Alarm(ctx, &pb.AlarmRequest{})
			return err
		},
	}
	for name, call := range calls {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- call(ctx) }()
		select {
		case err := <-done:
			if !errors.Is(err, ErrTimeoutLeaderFail) {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s: no answer after many times the longest that a request may wait", name)
		}
		cancel()
	}
}
