package fsm

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// The fields of etcdserverpb.PutRequest.
const (
	putKey         protowire.Number = 1
	putValue       protowire.Number = 2
	putLease       protowire.Number = 3
	putPrevKv      protowire.Number = 4
	putIgnoreValue protowire.Number = 5
	putIgnoreLease protowire.Number = 6
)

// decodePut decodes the most frequent request into r, as proto.Unmarshal would,
// but without a copy: key and value share body.
func decodePut(body []byte, r *pb.PutRequest) error {
	r.Key, r.Value, r.Lease, r.PrevKv, r.IgnoreValue, r.IgnoreLease = nil, nil, 0, false, false, false
	for b := body; len(b) > 0; {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		switch {
		case kind == protowire.BytesType && (field == putKey || field == putValue):
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return protowire.ParseError(n)
			}
			b = b[n:]
			if field == putKey {
				r.Key = v
			} else {
				r.Value = v
			}
		case kind == protowire.VarintType && field >= putLease && field <= putIgnoreLease:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return protowire.ParseError(n)
			}
			b = b[n:]
			setPut(r, field, v)
		default: // what only a general decoder knows to treat
			*r = pb.PutRequest{}
			return proto.Unmarshal(body, r)
		}
	}
	return nil
}

func setPut(r *pb.PutRequest, field protowire.Number, v uint64) {
	switch field {
	case putLease:
		r.Lease = int64(v)
	case putPrevKv:
		r.PrevKv = v != 0
	case putIgnoreValue:
		r.IgnoreValue = v != 0
	case putIgnoreLease:
		r.IgnoreLease = v != 0
	}
}
