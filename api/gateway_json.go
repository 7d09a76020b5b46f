package api

import (
	"bytes"
	"encoding/json"
	"io"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protojson"
)

// marshaler writes messages as etcd does: fields by their names in the
// protocol, in its order; none for zero values; unknown ones ignored in
// requests; 64-bit numbers as strings, bytes as base64.
type marshaler struct {
	*runtime.JSONPb
	blanks bool // protojson of this build puts blanks behind commas
}

func newMarshaler() *marshaler {
	m := &marshaler{JSONPb: &runtime.JSONPb{
		MarshalOptions:   protojson.MarshalOptions{UseProtoNames: true},
		UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: true},
	}}
	sample, err := m.JSONPb.Marshal(&etcdserverpb.ResponseHeader{ClusterId: 1, MemberId: 1})
	m.blanks = err == nil && bytes.ContainsRune(sample, ' ')
	return m
}

// Marshal writes without blanks. protojson puts some or not, by the checksum
// of the program, so that nobody relies on its form; a rolling upgrade should
// not change answers.
func (m *marshaler) Marshal(v any) ([]byte, error) {
	out, err := m.JSONPb.Marshal(v)
	if err != nil || !m.blanks {
		return out, err
	}
	var b bytes.Buffer
	b.Grow(len(out))
	if err := json.Compact(&b, out); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// NewDecoder reads messages from a body, each within the body's limits.
func (m *marshaler) NewDecoder(r io.Reader) runtime.Decoder {
	d := m.JSONPb.NewDecoder(r)
	b, limited := r.(*body)
	first := true
	return runtime.DecoderFunc(func(v any) error {
		if limited && !first {
			b.next()
		}
		first = false
		err := d.Decode(v)
		if err != nil { // a stream may go on, and must notice when its client goes
			_, _ = io.Copy(io.Discard, r)
		}
		return err
	})
}
