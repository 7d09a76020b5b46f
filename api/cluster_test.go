package api

import (
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

func TestPeerURLs_shape(t *testing.T) {
	for _, c := range []struct{ given, want string }{
		{"http://b:2380 http://a:2380", "http://a:2380 http://b:2380"},
		{"https://10.0.0.1:2380 https://10.0.0.1:2380", "https://10.0.0.1:2380"},
		{"http://[fd00::1]:2380", "http://[fd00::1]:2380"},
		{"", ""},
		{"http://a", ""},
		{"http://a:", ""},
		{"http://a:0", ""},
		{"http://a:65536", ""},
		{"http://:2380", ""},
		{"http://a:2380/", ""},
		{"http://a:2380?x", ""},
		{"http://a:2380?", ""},
		{"http://a:2380#pending", ""},
		{"http://me@a:2380", ""},
		{"http://a,b:2380", ""},
		{"unix://a:1", ""},
		{"ftp://a:1", ""},
		{"a:2380", ""},
		{strings.Repeat("http://a:2380 ", maxPeerURLs+1), ""},
		{"http://" + strings.Repeat("a", maxPeerURLBytes) + ":1", ""},
	} {
		got, ok := peerURLs(strings.Fields(c.given))
		if ok != (c.want != "") || !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%q: got %q, %v, want %q", c.given, got, ok, c.want)
		}
	}
}

func TestCluster_changes(t *testing.T) {
	f := start(t, "http", nil)
	cc := f.dialPlain(t)
	cluster, ctx := pb.NewClusterClient(cc), call(t)
	added, err := cluster.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{" http://b:1", "http://a:1"}, IsLearner: true})
	must(t, err)
	if !added.Member.IsLearner || strings.Join(added.Member.PeerURLs, " ") != "http://a:1 http://b:1" {
		t.Errorf("added %v", added)
	}
	_, err = cluster.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{"a:1"}})
	want(t, "add", err, codes.InvalidArgument, "etcdserver: given member URLs are invalid")
	_, err = cluster.MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: 8})
	want(t, "update", err, codes.InvalidArgument, "etcdserver: given member URLs are invalid")
	_, err = cluster.MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: 8, PeerURLs: []string{"http://a:1"}})
	must(t, err)
	_, err = cluster.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: 9})
	want(t, "remove", err, codes.NotFound, "etcdserver: member not found")
	_, err = cluster.MemberPromote(ctx, &pb.MemberPromoteRequest{ID: 8})
	want(t, "promote", err, codes.FailedPrecondition, "etcdserver: can only promote a learner member which is in sync with leader")

	maintenance := pb.NewMaintenanceClient(cc)
	_, err = maintenance.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: 9})
	want(t, "move leader", err, codes.FailedPrecondition, "etcdserver: bad leader transferee")
	moved, err := maintenance.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: 7})
	must(t, err)
	if moved.Header != nil {
		t.Errorf("moved %v", moved)
	}
	defragmented, err := maintenance.Defragment(ctx, &pb.DefragmentRequest{})
	must(t, err)
	if defragmented.Header != nil || f.backend.defrags.Load() != 1 {
		t.Errorf("defragmented %v", defragmented)
	}
}

// A member whose data are damaged answers nothing about keys, and still how it
// is and who the members are.
func TestDamaged_answersNothingAboutKeys(t *testing.T) {
	f := start(t, "http", nil)
	f.backend.damaged.Store(true)
	cc, ctx := f.dialPlain(t), call(t)
	keys, cluster, maintenance := pb.NewKVClient(cc), pb.NewClusterClient(cc), pb.NewMaintenanceClient(cc)
	const text = "etcdserver: corrupt cluster"
	_, err := keys.Range(ctx, &pb.RangeRequest{Key: []byte("k"), Serializable: true})
	want(t, "range", err, codes.DataLoss, text)
	_, err = keys.Put(ctx, &pb.PutRequest{Key: []byte("k")})
	want(t, "put", err, codes.DataLoss, text)
	ranged, err := keys.RangeStream(ctx, &pb.RangeRequest{Key: []byte("k")})
	must(t, err)
	_, err = ranged.Recv()
	want(t, "range stream", err, codes.DataLoss, text)
	saved, err := maintenance.Snapshot(ctx, &pb.SnapshotRequest{})
	must(t, err)
	_, err = saved.Recv()
	want(t, "snapshot", err, codes.DataLoss, text)
	_, err = maintenance.Status(ctx, &pb.StatusRequest{})
	must(t, err)
	_, err = cluster.MemberList(ctx, &pb.MemberListRequest{})
	must(t, err)
}

func TestLearner_servesStatusAndItsOwnReads(t *testing.T) {
	f := start(t, "http", nil)
	f.backend.mu.Lock()
	f.backend.learner = true
	f.backend.mu.Unlock()
	cc, ctx := f.dialPlain(t), call(t)
	keys, cluster, maintenance := pb.NewKVClient(cc), pb.NewClusterClient(cc), pb.NewMaintenanceClient(cc)
	_, err := keys.Range(ctx, &pb.RangeRequest{Key: []byte("k"), Serializable: true})
	must(t, err)
	_, err = maintenance.Status(ctx, &pb.StatusRequest{})
	must(t, err)
	const text = "etcdserver: rpc not supported for learner"
	_, err = keys.Range(ctx, &pb.RangeRequest{Key: []byte("k")})
	want(t, "range", err, codes.FailedPrecondition, text)
	_, err = keys.Put(ctx, &pb.PutRequest{Key: []byte("k")})
	want(t, "put", err, codes.FailedPrecondition, text)
	_, err = cluster.MemberList(ctx, &pb.MemberListRequest{})
	want(t, "member list", err, codes.FailedPrecondition, text)
	_, err = maintenance.Alarm(ctx, &pb.AlarmRequest{})
	want(t, "alarm", err, codes.FailedPrecondition, text)
	_, err = grpc_health_v1.NewHealthClient(cc).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	want(t, "health", err, codes.FailedPrecondition, text)
	ranged, err := keys.RangeStream(ctx, &pb.RangeRequest{Key: []byte("k"), Serializable: true})
	must(t, err)
	_, err = ranged.Recv()
	want(t, "range stream", err, codes.FailedPrecondition, text)
	snapshot, err := maintenance.Snapshot(ctx, &pb.SnapshotRequest{})
	must(t, err)
	_, err = snapshot.Recv()
	if status.Code(err) == codes.FailedPrecondition { // it got as far as the backend
		t.Errorf("snapshot: %v", err)
	}
}
