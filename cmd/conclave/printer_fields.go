package main

import (
	"fmt"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// fieldsPrinter writes one `"Name" : value` line per field. As etcdctl it has no
// form for changes of the membership.
type fieldsPrinter struct {
	unsupported
	out io.Writer
	hex bool
}

// field writes one line with a value as it is; text quotes it.
func (p *fieldsPrinter) field(name string, value any) {
	fmt.Fprintf(p.out, "%q : %v\n", name, value)
}

func (p *fieldsPrinter) text(name, value string) {
	fmt.Fprintf(p.out, "%q : %q\n", name, value)
}

// id writes a member or cluster id: decimal or, with --hex, hexadecimal.
func (p *fieldsPrinter) id(name string, id uint64) {
	if p.hex {
		p.field(name, fmt.Sprintf("%x", id))
	} else {
		p.field(name, id)
	}
}

// header leaves out a revision of zero, which answers that are not about keys
// have.
func (p *fieldsPrinter) header(h *pb.ResponseHeader) {
	p.id("ClusterID", h.GetClusterId())
	p.id("MemberID", h.GetMemberId())
	if h.GetRevision() > 0 {
		p.field("Revision", h.GetRevision())
	}
	p.field("RaftTerm", h.GetRaftTerm())
}

func (p *fieldsPrinter) kv(prefix string, kv *mvccpb.KeyValue) {
	p.text(prefix+"Key", string(kv.GetKey()))
	p.field(prefix+"CreateRevision", kv.GetCreateRevision())
	p.field(prefix+"ModRevision", kv.GetModRevision())
	p.field(prefix+"Version", kv.GetVersion())
	p.text(prefix+"Value", string(kv.GetValue()))
	if p.hex {
		p.field(prefix+"Lease", fmt.Sprintf("%016x", kv.GetLease()))
	} else {
		p.field(prefix+"Lease", kv.GetLease())
	}
}

func (p *fieldsPrinter) get(r *clientv3.GetResponse) error {
	p.header(r.Header)
	for _, kv := range r.Kvs {
		p.kv("", kv)
	}
	p.field("More", r.More)
	p.field("Count", r.Count)
	return nil
}

func (p *fieldsPrinter) put(r *clientv3.PutResponse) error {
	p.header(r.Header)
	if r.PrevKv != nil {
		p.kv("Prev", r.PrevKv)
	}
	return nil
}

func (p *fieldsPrinter) del(r *clientv3.DeleteResponse) error {
	p.header(r.Header)
	p.field("Deleted", r.Deleted)
	for _, kv := range r.PrevKvs {
		p.kv("Prev", kv)
	}
	return nil
}

func (p *fieldsPrinter) txn(r *clientv3.TxnResponse) error {
	p.header(r.Header)
	p.field("Succeeded", r.Succeeded)
	for _, op := range r.Responses {
		if err := printOp(p, op); err != nil {
			p.text("Unknown", fmt.Sprintf("%+v", op.GetResponse()))
		}
	}
	return nil
}

func (p *fieldsPrinter) memberList(r *clientv3.MemberListResponse) error {
	p.header(r.Header)
	for _, m := range r.Members {
		p.id("ID", m.ID)
		p.text("Name", m.Name)
		for _, u := range m.PeerURLs {
			p.text("PeerURL", u)
		}
		for _, u := range m.ClientURLs {
			p.text("ClientURL", u)
		}
		p.field("IsLearner", m.IsLearner)
		fmt.Fprintln(p.out)
	}
	return nil
}

func (p *fieldsPrinter) alarm(r *clientv3.AlarmResponse) error {
	p.header(r.Header)
	for _, a := range r.Alarms {
		p.id("MemberID", a.GetMemberID())
		p.field("AlarmType", a.GetAlarm())
		fmt.Fprintln(p.out)
	}
	return nil
}

func (p *fieldsPrinter) endpointHealth(list []endpointHealth) error {
	for _, h := range list {
		p.text("Endpoint", h.Endpoint)
		p.field("Health", h.Health)
		p.field("Took", h.Took)
		p.field("Error", h.Error)
		fmt.Fprintln(p.out)
	}
	return nil
}

func (p *fieldsPrinter) endpointStatus(list []endpointStatus) error {
	for _, st := range list {
		r := (*pb.StatusResponse)(st.Status)
		p.header(r.GetHeader())
		p.text("Version", r.GetVersion())
		p.text("StorageVersion", r.GetStorageVersion())
		p.field("DBSize", r.GetDbSize())
		p.field("DBSizeInUse", r.GetDbSizeInUse())
		p.field("DBSizeQuota", r.GetDbSizeQuota())
		p.field("Leader", r.GetLeader())
		p.field("IsLearner", r.GetIsLearner())
		p.field("RaftIndex", r.GetRaftIndex())
		p.field("RaftAppliedIndex", r.GetRaftAppliedIndex())
		p.field("Errors", r.GetErrors())
		p.text("Endpoint", st.Endpoint)
		p.text("DowngradeTargetVersion", r.GetDowngradeInfo().GetTargetVersion())
		p.field("DowngradeEnabled", r.GetDowngradeInfo().GetEnabled())
		fmt.Fprintln(p.out)
	}
	return nil
}

func (p *fieldsPrinter) endpointHashKV(list []endpointHashKV) error {
	for _, h := range list {
		p.header(h.HashKV.Header)
		p.text("Endpoint", h.Endpoint)
		p.field("Hash", h.HashKV.Hash)
		p.field("HashRevision", h.HashKV.HashRevision)
		fmt.Fprintln(p.out)
	}
	return nil
}
