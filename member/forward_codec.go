package member

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// The fields of conclavepb.Forward.
const (
	forwardTerm    protowire.Number = 1
	forwardBatch   protowire.Number = 2
	forwardPayload protowire.Number = 3
)

// appendForward appends the encoding of a conclavepb.Forward up to its payload,
// of which size bytes have to follow.
func appendForward(dst []byte, term, batch uint64, size int) []byte {
	dst = appendNumber(dst, forwardTerm, term)
	dst = appendNumber(dst, forwardBatch, batch)
	dst = protowire.AppendTag(dst, forwardPayload, protowire.BytesType)
	return protowire.AppendVarint(dst, uint64(size))
}

func appendNumber(dst []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), v)
}

// forward is a decoded conclavepb.Forward.
type forward struct {
	term, batch uint64
	entry       []byte // shares the message's memory
}

// decodeForward decodes a message without a copy of its payload where that is
// its last field, as appendForward has it.
func decodeForward(msg []byte) (f forward, err error) {
	for b := msg; len(b) > 0; {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return forward{}, protowire.ParseError(n)
		}
		b = b[n:]
		switch {
		case kind == protowire.VarintType && (field == forwardTerm || field == forwardBatch):
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return forward{}, protowire.ParseError(n)
			}
			b = b[n:]
			if field == forwardTerm {
				f.term = v
			} else {
				f.batch = v
			}
		case kind == protowire.BytesType && field == forwardPayload:
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return forward{}, protowire.ParseError(n)
			}
			f.entry, b = v, b[n:]
		default: // what only a general decoder knows to treat
			var m conclavepb.Forward
			if err := proto.Unmarshal(msg, &m); err != nil {
				return forward{}, err
			}
			return forward{term: m.Term, batch: m.Batch, entry: m.Payload}, nil
		}
	}
	return f, nil
}
