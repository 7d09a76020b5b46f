package main

import (
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
)

// protobufPrinter writes the marshalled response, without a line end. Health
// and status of endpoints are no responses and have no such form.
type protobufPrinter struct {
	unsupported
	out io.Writer
}

func (p *protobufPrinter) write(m proto.Message) error {
	data, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	_, err = p.out.Write(data)
	return err
}

func (p *protobufPrinter) get(r *clientv3.GetResponse) error { return p.write((*pb.RangeResponse)(r)) }
func (p *protobufPrinter) put(r *clientv3.PutResponse) error { return p.write((*pb.PutResponse)(r)) }
func (p *protobufPrinter) txn(r *clientv3.TxnResponse) error { return p.write((*pb.TxnResponse)(r)) }
func (p *protobufPrinter) alarm(r *clientv3.AlarmResponse) error {
	return p.write((*pb.AlarmResponse)(r))
}

func (p *protobufPrinter) del(r *clientv3.DeleteResponse) error {
	return p.write((*pb.DeleteRangeResponse)(r))
}

// The answers about leases are no protobuf messages in etcd's client. etcdctl
// writes the header of those that have one in them, and refuses the other.

func (p *protobufPrinter) leaseGrant(r *clientv3.LeaseGrantResponse) error {
	return p.write(r.ResponseHeader)
}

func (p *protobufPrinter) leaseKeepAlive(r *clientv3.LeaseKeepAliveResponse) error {
	return p.write(r.ResponseHeader)
}

func (p *protobufPrinter) leaseTimeToLive(r *clientv3.LeaseTimeToLiveResponse, _ bool) error {
	return p.write(r.ResponseHeader)
}

func (p *protobufPrinter) leases(r *clientv3.LeaseLeasesResponse) error {
	return p.write(r.ResponseHeader)
}

// watch leaves out why the server has cancelled, as etcdctl does.
func (p *protobufPrinter) watch(r *clientv3.WatchResponse) error {
	return p.write(&pb.WatchResponse{
		Header: r.Header, Events: r.Events, CompactRevision: r.CompactRevision, Canceled: r.Canceled, Created: r.Created,
	})
}

func (p *protobufPrinter) memberList(r *clientv3.MemberListResponse) error {
	return p.write((*pb.MemberListResponse)(r))
}

func (p *protobufPrinter) memberAdd(r *clientv3.MemberAddResponse) error {
	return p.write((*pb.MemberAddResponse)(r))
}

func (p *protobufPrinter) memberRemove(_ uint64, r *clientv3.MemberRemoveResponse) error {
	return p.write((*pb.MemberRemoveResponse)(r))
}

func (p *protobufPrinter) memberUpdate(_ uint64, r *clientv3.MemberUpdateResponse) error {
	return p.write((*pb.MemberUpdateResponse)(r))
}

func (p *protobufPrinter) memberPromote(_ uint64, r *clientv3.MemberPromoteResponse) error {
	return p.write((*pb.MemberPromoteResponse)(r))
}

func (p *protobufPrinter) moveLeader(_, _ uint64, r *clientv3.MoveLeaderResponse) error {
	return p.write((*pb.MoveLeaderResponse)(r))
}
