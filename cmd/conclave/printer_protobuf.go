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
