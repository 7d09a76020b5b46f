package testcluster_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/internal/testcluster"
)

// awaitAnswer asks for a key of this member's own state until the answer has a code.
func awaitAnswer(t *testing.T, conn *grpc.ClientConn, token string, want codes.Code) (err error) {
	t.Helper()
	ask := &pb.RangeRequest{Key: []byte("a/1"), Serializable: true}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		_, err = pb.NewKVClient(conn).Range(bearing(within(t), token), ask)
		if status.Code(err) == want {
			return err
		}
	}
	t.Fatalf("serializable reads are answered with %v, not %v", err, want)
	return nil
}

// A member that is cut off does not know whose rights are taken meanwhile: it
// answers from what it knows for a while, and no longer.
func TestAuth_cutOffMemberAnswersForAWhile(t *testing.T) {
	const electionTimeout = 200 * time.Millisecond
	c := testcluster.Start(t, 3, testcluster.Options{ElectionTimeout: electionTimeout})
	setUpUsersOn(t, c)
	root := userClient(t, "root", c.Members[0].ClientURL, c.Members[1].ClientURL)
	conn := raw(t, c.Members[2].ClientURL)
	alice, admin := login(t, conn, "alice"), login(t, conn, "root")
	awaitAnswer(t, conn, alice, codes.OK)
	c.Isolate(2)
	cut := time.Now()
	if _, err := root.UserRevokeRole(within(t), "alice", "a"); err != nil {
		t.Fatal(err)
	}
	if r, err := root.Get(within(t), "a/1"); err != nil || len(r.Kvs) != 0 {
		t.Fatal(r, err)
	}
	err := awaitAnswer(t, conn, alice, codes.Unavailable)
	if took := time.Since(cut); took < 10*electionTimeout || status.Convert(err).Message() != status.Convert(rpctypes.ErrGRPCNoLeader).Message() {
		t.Errorf("after %v: %v", took, err)
	}
	for _, token := range []string{alice, admin} {
		_, err := pb.NewKVClient(conn).Txn(bearing(within(t), token), &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{
			RequestRange: &pb.RangeRequest{Key: []byte("a/1"), Serializable: true}}}}})
		if !errors.Is(rpctypes.Error(err), rpctypes.ErrNoLeader) {
			t.Errorf("a transaction: %v", err)
		}
		watch, err := pb.NewWatchClient(conn).Watch(bearing(within(t), token))
		if err == nil {
			err = watch.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("a/1"), StartRevision: 1}}})
		}
		if err != nil {
			t.Fatal(err)
		}
		if r, err := watch.Recv(); err != nil || !r.Canceled || !strings.Contains(r.CancelReason, "no leader") {
			t.Errorf("a watch: %v, %v", r, err)
		}
	}
	if r, err := pb.NewMaintenanceClient(conn).Status(bearing(within(t), admin), &pb.StatusRequest{}); err != nil || r.Leader != 0 {
		t.Errorf("how the member is: %v, %v", r, err)
	}
	c.Heal()
	awaitAnswer(t, conn, admin, codes.OK)
	awaitAnswer(t, conn, alice, codes.PermissionDenied)
}
