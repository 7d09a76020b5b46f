package member

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// Downgrade answers as etcd does: VALIDATE says whether the cluster could go back
// to a version, ENABLE begins it, CANCEL ends it, also where there is none. A
// downgrade is noted and reported by Status. There is no older version of
// conclave for members to be replaced by, and so nothing else changes. Errors:
// ErrDowngradeFormat, ErrDowngradeTarget, ErrDowngradeInProgress, ErrNoVersion.
func (m *Member) Downgrade(ctx context.Context, r *pb.DowngradeRequest) (*pb.DowngradeResponse, error) {
	if r.Action == pb.DowngradeRequest_CANCEL {
		err := m.proposeDowngrade(ctx, r)
		if err != nil && !errors.Is(err, fsm.ErrNoDowngrade) {
			return nil, err
		}
		return m.downgradeAnswer(), nil
	}
	target, err := majorMinor(r.Version)
	if err != nil {
		return nil, err
	}
	if err := m.linearize(ctx); err != nil {
		return nil, err
	}
	view := m.View()
	now, err := majorMinor(view.ClusterVersion)
	switch {
	case view.ClusterVersion == "" || err != nil:
		return nil, ErrNoVersion
	case target != [2]int{now[0], now[1] - 1}:
		return nil, ErrDowngradeTarget
	case view.Downgrade.Enabled:
		return nil, ErrDowngradeInProgress
	}
	if r.Action == pb.DowngradeRequest_ENABLE {
		version := fmt.Sprintf("%d.%d.0", target[0], target[1])
		if err := m.proposeDowngrade(ctx, &pb.DowngradeRequest{Action: r.Action, Version: version}); err != nil {
			return nil, err
		}
	}
	return m.downgradeAnswer(), nil
}

func (m *Member) proposeDowngrade(ctx context.Context, r *pb.DowngradeRequest) error {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.RequestTimeout)
	defer cancel()
	_, err := m.proposer.do(ctx, m.origin(ctx), fsm.KindDowngrade, r)
	return err
}

func (m *Member) downgradeAnswer() *pb.DowngradeResponse {
	view := m.View()
	return &pb.DowngradeResponse{Header: m.Header(view.KV.Rev()), Version: view.ClusterVersion}
}

// majorMinor reads "3.6" or "3.6.1".
func majorMinor(version string) (out [2]int, err error) {
	parts := strings.Split(version, ".")
	if len(parts) != 2 && len(parts) != 3 {
		return out, ErrDowngradeFormat
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || p != strconv.FormatUint(n, 10) {
			return out, ErrDowngradeFormat
		}
		if i < len(out) {
			out[i] = int(n)
		}
	}
	return out, nil
}
