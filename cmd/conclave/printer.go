package main

import (
	"fmt"
	"io"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// printer writes what a command got in one output format. Bytes are those of
// etcdctl 3.7; a format that cannot show something returns an error with
// exitBadFeature.
type printer interface {
	get(*clientv3.GetResponse) error
	put(*clientv3.PutResponse) error
	del(*clientv3.DeleteResponse) error
	txn(*clientv3.TxnResponse) error
	watch(*clientv3.WatchResponse) error
	leaseGrant(*clientv3.LeaseGrantResponse) error
	leaseRevoke(clientv3.LeaseID, *clientv3.LeaseRevokeResponse) error
	leaseKeepAlive(*clientv3.LeaseKeepAliveResponse) error
	leaseTimeToLive(r *clientv3.LeaseTimeToLiveResponse, keys bool) error
	leases(*clientv3.LeaseLeasesResponse) error
	memberList(*clientv3.MemberListResponse) error
	memberAdd(*clientv3.MemberAddResponse) error
	memberRemove(id uint64, r *clientv3.MemberRemoveResponse) error
	memberUpdate(id uint64, r *clientv3.MemberUpdateResponse) error
	memberPromote(id uint64, r *clientv3.MemberPromoteResponse) error
	moveLeader(from, to uint64, r *clientv3.MoveLeaderResponse) error
	alarm(*clientv3.AlarmResponse) error
	downgrade(action string, r *clientv3.DowngradeResponse) error
	endpointHealth([]endpointHealth) error
	endpointStatus([]endpointStatus) error
	endpointHashKV([]endpointHashKV) error
	raftReports([]raftAnswer) error
	snapshotStatus(snapshotStatus) error
	auth(m authMessage, text string) error // text is the default format's
}

// newPrinter returns the printer for --write-out. hex is --hex.
func newPrinter(format string, hex bool, out, errOut io.Writer) (printer, error) {
	switch format {
	case "simple":
		return &simplePrinter{out: out, errOut: errOut, hex: hex}, nil
	case "fields":
		return &fieldsPrinter{unsupported: unsupported{"fields"}, out: out, hex: hex}, nil
	case "json":
		return &jsonPrinter{out: out, hex: hex}, nil
	case "protobuf":
		return &protobufPrinter{unsupported{"protobuf"}, out}, nil
	case "table":
		return &tablePrinter{unsupported{"table"}, out}, nil
	}
	return nil, failf(exitBadFeature, "unsupported output format: --write-out %q: write fields, json, protobuf, simple or table", format)
}

// unsupported refuses everything; a format that shows only some things
// embeds it.
type unsupported struct{ format string }

func (u unsupported) refuse() error {
	return failf(exitBadFeature, "%s not supported as output format", u.format)
}

func (u unsupported) get(*clientv3.GetResponse) error               { return u.refuse() }
func (u unsupported) put(*clientv3.PutResponse) error               { return u.refuse() }
func (u unsupported) del(*clientv3.DeleteResponse) error            { return u.refuse() }
func (u unsupported) txn(*clientv3.TxnResponse) error               { return u.refuse() }
func (u unsupported) watch(*clientv3.WatchResponse) error           { return u.refuse() }
func (u unsupported) leases(*clientv3.LeaseLeasesResponse) error    { return u.refuse() }
func (u unsupported) memberList(*clientv3.MemberListResponse) error { return u.refuse() }
func (u unsupported) memberAdd(*clientv3.MemberAddResponse) error   { return u.refuse() }
func (u unsupported) alarm(*clientv3.AlarmResponse) error           { return u.refuse() }
func (u unsupported) endpointHealth([]endpointHealth) error         { return u.refuse() }
func (u unsupported) endpointStatus([]endpointStatus) error         { return u.refuse() }
func (u unsupported) endpointHashKV([]endpointHashKV) error         { return u.refuse() }
func (u unsupported) raftReports([]raftAnswer) error                { return u.refuse() }

func (u unsupported) leaseGrant(*clientv3.LeaseGrantResponse) error { return u.refuse() }
func (u unsupported) leaseRevoke(clientv3.LeaseID, *clientv3.LeaseRevokeResponse) error {
	return u.refuse()
}

func (u unsupported) leaseKeepAlive(*clientv3.LeaseKeepAliveResponse) error { return u.refuse() }
func (u unsupported) leaseTimeToLive(*clientv3.LeaseTimeToLiveResponse, bool) error {
	return u.refuse()
}

func (u unsupported) memberRemove(uint64, *clientv3.MemberRemoveResponse) error { return u.refuse() }
func (u unsupported) memberUpdate(uint64, *clientv3.MemberUpdateResponse) error { return u.refuse() }
func (u unsupported) memberPromote(uint64, *clientv3.MemberPromoteResponse) error {
	return u.refuse()
}
func (u unsupported) moveLeader(_, _ uint64, _ *clientv3.MoveLeaderResponse) error {
	return u.refuse()
}

// memberRows returns the member list as rows under memberHeader.
func memberRows(r *clientv3.MemberListResponse) [][]string {
	rows := make([][]string, 0, len(r.Members))
	for _, m := range r.Members {
		status := "started"
		if m.Name == "" {
			status = "unstarted"
		}
		rows = append(rows, []string{
			fmt.Sprintf("%x", m.ID), status, m.Name,
			strings.Join(m.PeerURLs, ","), strings.Join(m.ClientURLs, ","),
			fmt.Sprint(m.IsLearner),
		})
	}
	return rows
}

var (
	memberHeader = []string{"ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"}
	healthHeader = []string{"endpoint", "health", "took", "error"}
	hashKVHeader = []string{"endpoint", "hash", "hash revision"}
	statusHeader = []string{
		"endpoint", "ID", "version", "storage version", "db size", "in use", "percentage not in use", "quota",
		"is leader", "is learner", "raft term", "raft index", "raft applied index", "errors",
		"downgrade target version", "downgrade enabled",
	}
)

func healthRows(list []endpointHealth) [][]string {
	rows := make([][]string, 0, len(list))
	for _, h := range list {
		rows = append(rows, []string{h.Endpoint, fmt.Sprint(h.Health), h.Took, h.Error})
	}
	return rows
}

func statusRows(list []endpointStatus) [][]string {
	rows := make([][]string, 0, len(list))
	for _, st := range list {
		r := (*pb.StatusResponse)(st.Status)
		rows = append(rows, []string{
			st.Endpoint,
			fmt.Sprintf("%x", r.GetHeader().GetMemberId()),
			r.GetVersion(), r.GetStorageVersion(),
			bytesText(r.GetDbSize()), bytesText(r.GetDbSizeInUse()),
			fmt.Sprintf("%d%%", unusedPercent(r)),
			bytesText(r.GetDbSizeQuota()),
			fmt.Sprint(r.GetLeader() == r.GetHeader().GetMemberId()),
			fmt.Sprint(r.GetIsLearner()),
			fmt.Sprint(r.GetRaftTerm()), fmt.Sprint(r.GetRaftIndex()), fmt.Sprint(r.GetRaftAppliedIndex()),
			strings.Join(r.GetErrors(), ", "),
			r.GetDowngradeInfo().GetTargetVersion(),
			fmt.Sprint(r.GetDowngradeInfo().GetEnabled()),
		})
	}
	return rows
}

func hashKVRows(list []endpointHashKV) [][]string {
	rows := make([][]string, 0, len(list))
	for _, h := range list {
		rows = append(rows, []string{h.Endpoint, fmt.Sprint(h.HashKV.Hash), fmt.Sprint(h.HashKV.HashRevision)})
	}
	return rows
}

// unusedPercent is the part of the file that holds nothing. A server that
// reports no size has none (etcdctl divides by it).
func unusedPercent(r *pb.StatusResponse) int64 {
	if r.GetDbSize() == 0 {
		return 0
	}
	return 100 - r.GetDbSizeInUse()*100/r.GetDbSize()
}

// bytesText writes a size with decimal units and, below ten, one digit behind
// the point: 20 kB, 2.1 GB. Below zero, which means no quota, it is taken for
// the unsigned number etcdctl shows.
func bytesText(n int64) string {
	size := uint64(n)
	if size < 10 {
		return fmt.Sprintf("%d B", size)
	}
	units := []string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}
	unit, scaled := 0, float64(size)
	for scaled >= 1000 && unit < len(units)-1 {
		scaled /= 1000
		unit++
	}
	scaled = float64(int64(scaled*10+0.5)) / 10
	if scaled < 10 {
		return fmt.Sprintf("%.1f %s", scaled, units[unit])
	}
	return fmt.Sprintf("%.0f %s", scaled, units[unit])
}
