package member

import (
	"errors"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func TestDowngrade_asEtcdAnswers(t *testing.T) {
	all := startCluster(t, 3)
	ctx := limited(t)
	for all[0].View().ClusterVersion == "" {
		if _, err := all[0].Put(ctx, &pb.PutRequest{Key: []byte("k")}); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range []struct {
		action  pb.DowngradeRequest_DowngradeAction
		version string
		want    error
		enabled bool
	}{
		{pb.DowngradeRequest_CANCEL, "", nil, false},
		{pb.DowngradeRequest_VALIDATE, "3.6", nil, false},
		{pb.DowngradeRequest_VALIDATE, "3.6.9", nil, false},
		{pb.DowngradeRequest_VALIDATE, "3.5", ErrDowngradeTarget, false},
		{pb.DowngradeRequest_ENABLE, "3.7.0", ErrDowngradeTarget, false},
		{pb.DowngradeRequest_VALIDATE, "3", ErrDowngradeFormat, false},
		{pb.DowngradeRequest_ENABLE, "3.x", ErrDowngradeFormat, false},
		{pb.DowngradeRequest_ENABLE, "", ErrDowngradeFormat, false},
		{pb.DowngradeRequest_ENABLE, "3.6", nil, true},
		{pb.DowngradeRequest_ENABLE, "3.6", ErrDowngradeInProgress, true},
		{pb.DowngradeRequest_VALIDATE, "3.6", ErrDowngradeInProgress, true},
		{pb.DowngradeRequest_CANCEL, "", nil, false},
		{pb.DowngradeRequest_ENABLE, "3.6.0", nil, true},
	} {
		f := all[i%len(all)]
		resp, err := f.Downgrade(ctx, &pb.DowngradeRequest{Action: c.action, Version: c.version})
		if !errors.Is(err, c.want) || err == nil && resp.Version != "3.7.0" {
			t.Errorf("%d: %s %q: %v, %v, want %v", i, c.action, c.version, resp, err, c.want)
		}
		st, err := f.Status(ctx)
		if err != nil || st.DowngradeInfo == nil || st.DowngradeInfo.Enabled != c.enabled || c.enabled && st.DowngradeInfo.TargetVersion != "3.6.0" {
			t.Errorf("%d: status %v, %v", i, st, err)
		}
	}
}
