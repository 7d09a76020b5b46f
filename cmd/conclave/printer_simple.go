package main

import (
	"fmt"
	"io"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// simplePrinter is the default format: one line per thing.
type simplePrinter struct {
	out, errOut    io.Writer
	hex, valueOnly bool
}

func (p *simplePrinter) kv(kv *mvccpb.KeyValue) {
	if !p.valueOnly {
		fmt.Fprintln(p.out, p.text(kv.GetKey()))
	}
	fmt.Fprintln(p.out, p.text(kv.GetValue()))
}

// text returns bytes as they are or, with --hex, as \x61\x62.
func (p *simplePrinter) text(b []byte) string {
	if !p.hex {
		return string(b)
	}
	var s strings.Builder
	for _, c := range b {
		fmt.Fprintf(&s, `\x%02x`, c)
	}
	return s.String()
}

func (p *simplePrinter) get(r *clientv3.GetResponse) error {
	for _, kv := range r.Kvs {
		p.kv(kv)
	}
	return nil
}

func (p *simplePrinter) put(r *clientv3.PutResponse) error {
	fmt.Fprintln(p.out, "OK")
	if r.PrevKv != nil {
		p.kv(r.PrevKv)
	}
	return nil
}

func (p *simplePrinter) del(r *clientv3.DeleteResponse) error {
	fmt.Fprintln(p.out, r.Deleted)
	for _, kv := range r.PrevKvs {
		p.kv(kv)
	}
	return nil
}

func (p *simplePrinter) txn(r *clientv3.TxnResponse) error {
	if r.Succeeded {
		fmt.Fprintln(p.out, "SUCCESS")
	} else {
		fmt.Fprintln(p.out, "FAILURE")
	}
	for _, op := range r.Responses {
		fmt.Fprintln(p.out)
		if err := printOp(p, op); err != nil {
			fmt.Fprintf(p.out, "unexpected response %+v\n", op)
		}
	}
	return nil
}

// printOp prints one response inside a transaction.
func printOp(p printer, op *pb.ResponseOp) error {
	switch v := op.GetResponse().(type) {
	case *pb.ResponseOp_ResponseRange:
		return p.get((*clientv3.GetResponse)(v.ResponseRange))
	case *pb.ResponseOp_ResponsePut:
		return p.put((*clientv3.PutResponse)(v.ResponsePut))
	case *pb.ResponseOp_ResponseDeleteRange:
		return p.del((*clientv3.DeleteResponse)(v.ResponseDeleteRange))
	}
	return fmt.Errorf("response of type %T", op.GetResponse())
}

func (p *simplePrinter) rows(rows [][]string) error {
	for _, row := range rows {
		fmt.Fprintln(p.out, strings.Join(row, ", "))
	}
	return nil
}

func (p *simplePrinter) memberList(r *clientv3.MemberListResponse) error {
	return p.rows(memberRows(r))
}

func (p *simplePrinter) memberAdd(r *clientv3.MemberAddResponse) error {
	as := " "
	if r.Member.GetIsLearner() {
		as = " as learner "
	}
	_, err := fmt.Fprintf(p.out, "Member %16x added%sto cluster %16x\n", r.Member.GetID(), as, r.Header.GetClusterId())
	return err
}

func (p *simplePrinter) memberRemove(id uint64, r *clientv3.MemberRemoveResponse) error {
	_, err := fmt.Fprintf(p.out, "Member %16x removed from cluster %16x\n", id, r.Header.GetClusterId())
	return err
}

func (p *simplePrinter) memberUpdate(id uint64, r *clientv3.MemberUpdateResponse) error {
	_, err := fmt.Fprintf(p.out, "Member %16x updated in cluster %16x\n", id, r.Header.GetClusterId())
	return err
}

func (p *simplePrinter) memberPromote(id uint64, r *clientv3.MemberPromoteResponse) error {
	_, err := fmt.Fprintf(p.out, "Member %16x promoted in cluster %16x\n", id, r.Header.GetClusterId())
	return err
}

func (p *simplePrinter) moveLeader(from, to uint64, _ *clientv3.MoveLeaderResponse) error {
	_, err := fmt.Fprintf(p.out, "Leadership transferred from %x to %x\n", from, to)
	return err
}

func (p *simplePrinter) endpointStatus(list []endpointStatus) error {
	return p.rows(statusRows(list))
}

func (p *simplePrinter) endpointHashKV(list []endpointHashKV) error {
	return p.rows(hashKVRows(list))
}

func (p *simplePrinter) endpointHealth(list []endpointHealth) error {
	for _, h := range list {
		if h.Error == "" {
			fmt.Fprintf(p.out, "%s is healthy: successfully committed proposal: took = %v\n", h.Endpoint, h.Took)
		} else {
			fmt.Fprintf(p.errOut, "%s is unhealthy: failed to commit proposal: %v\n", h.Endpoint, h.Error)
		}
	}
	return nil
}

// alarm writes what etcdctl 3.7 writes, with one space: it prints the message's
// debug form, in which protobuf puts one or two depending on the build.
func (p *simplePrinter) alarm(r *clientv3.AlarmResponse) error {
	for _, a := range r.Alarms {
		fmt.Fprintf(p.out, "memberID:%d alarm:%s\n", a.GetMemberID(), a.GetAlarm())
	}
	return nil
}
