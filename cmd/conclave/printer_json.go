package main

import (
	"encoding/json"
	"fmt"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// jsonPrinter writes the responses as encoding/json sees their Go types: ids
// are numbers, bytes base64. With --hex the ids in answers about members are
// hexadecimal text (printer_json_members.go); etcdctl leaves the others alone,
// and so does this.
type jsonPrinter struct {
	out io.Writer
	hex bool
}

func (p *jsonPrinter) write(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.out, string(data))
	return err
}

func (p *jsonPrinter) get(r *clientv3.GetResponse) error { return p.write((*pb.RangeResponse)(r)) }
func (p *jsonPrinter) put(r *clientv3.PutResponse) error { return p.write((*pb.PutResponse)(r)) }
func (p *jsonPrinter) del(r *clientv3.DeleteResponse) error {
	return p.write((*pb.DeleteRangeResponse)(r))
}
func (p *jsonPrinter) alarm(r *clientv3.AlarmResponse) error { return p.write((*pb.AlarmResponse)(r)) }
func (p *jsonPrinter) endpointHealth(l []endpointHealth) error {
	return p.write(l)
}

func (p *jsonPrinter) endpointStatus(l []endpointStatus) error {
	return p.write(l)
}

func (p *jsonPrinter) endpointHashKV(l []endpointHashKV) error {
	return p.write(l)
}

// jsonTxn and jsonOp name the kinds of responses as the JSON gateway does;
// the Go types alone would show the generated oneof wrappers.
type jsonTxn struct {
	Header    *pb.ResponseHeader `json:"header,omitempty"`
	Succeeded bool               `json:"succeeded,omitempty"`
	Responses []jsonOp           `json:"responses,omitempty"`
}

type jsonOp struct {
	Response jsonResponse `json:"Response"`
}

type jsonResponse struct {
	Range  *pb.RangeResponse       `json:"response_range,omitempty"`
	Put    *pb.PutResponse         `json:"response_put,omitempty"`
	Delete *pb.DeleteRangeResponse `json:"response_delete_range,omitempty"`
	Txn    *jsonTxn                `json:"response_txn,omitempty"`
}

func (p *jsonPrinter) txn(r *clientv3.TxnResponse) error {
	return p.write(newJSONTxn((*pb.TxnResponse)(r)))
}

func newJSONTxn(r *pb.TxnResponse) *jsonTxn {
	if r == nil {
		return nil
	}
	out := &jsonTxn{Header: r.GetHeader(), Succeeded: r.GetSucceeded()}
	for _, op := range r.GetResponses() {
		out.Responses = append(out.Responses, jsonOp{jsonResponse{
			Range:  op.GetResponseRange(),
			Put:    op.GetResponsePut(),
			Delete: op.GetResponseDeleteRange(),
			Txn:    newJSONTxn(op.GetResponseTxn()),
		}})
	}
	return out
}
