package testcluster_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/daemon"
	"github.com/conclave-kv/conclave/internal/testcluster"
)

// A refusal is a request that must change nothing, and its answer.
type refusal struct {
	name string
	req  proto.Message
	code codes.Code
	text string
}

const (
	noKey     = "etcdserver: key is not provided"
	tooMany   = "etcdserver: too many operations in txn request"
	twice     = "etcdserver: duplicate key given in txn request"
	notFound  = "etcdserver: key not found"
	badSort   = "etcdserver: invalid sort option"
	compacted = "etcdserver: mvcc: required revision has been compacted"
	future    = "etcdserver: mvcc: required revision is a future revision"
	noLease   = "etcdserver: requested lease not found"
	tooLarge  = "etcdserver: request is too large"
)

func put(key string) *pb.RequestOp { return putOp(&pb.PutRequest{Key: []byte(key)}) }

func putOp(r *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
}

func get(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

func del(key, end string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)}}}
}

func nested(success ...*pb.RequestOp) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: success}}}
}

func then(ops ...*pb.RequestOp) *pb.TxnRequest { return &pb.TxnRequest{Success: ops} }

func otherwise(ops ...*pb.RequestOp) *pb.TxnRequest { return &pb.TxnRequest{Failure: ops} }

// puts are n different ones.
func puts(n int) (ops []*pb.RequestOp) {
	for i := range n {
		ops = append(ops, put(fmt.Sprint("many-", i)))
	}
	return ops
}

// deep is n transactions in each other around a put.
func deep(n int) *pb.RequestOp {
	op := put("deep")
	for range n {
		op = nested(op)
	}
	return op
}

// refusals are for a store at revision 12 with the keys a and b, compacted at
// 10, and the default limits.
func refusals() []refusal {
	bad, k := codes.InvalidArgument, []byte("a")
	compares := func(n int) (cs []*pb.Compare) {
		for range n {
			cs = append(cs, &pb.Compare{Key: k})
		}
		return cs
	}
	return []refusal{
		{"range without key", &pb.RangeRequest{}, bad, noKey},
		{"range without key, with end", &pb.RangeRequest{RangeEnd: k}, bad, noKey},
		{"unknown sort order", &pb.RangeRequest{Key: k, SortOrder: 3}, bad, badSort},
		{"negative sort order", &pb.RangeRequest{Key: k, SortOrder: -1}, bad, badSort},
		{"unknown sort target", &pb.RangeRequest{Key: k, SortTarget: 5}, bad, badSort},
		{"future range", &pb.RangeRequest{Key: k, Revision: 13}, codes.OutOfRange, future},
		{"compacted range", &pb.RangeRequest{Key: k, Revision: 9}, codes.OutOfRange, compacted},
		{"compacted count", &pb.RangeRequest{Key: k, Revision: 9, CountOnly: true, Serializable: true}, codes.OutOfRange, compacted},

		{"put without key", &pb.PutRequest{Value: k}, bad, noKey},
		{"put of a value to ignore", &pb.PutRequest{Key: k, Value: k, IgnoreValue: true}, bad, "etcdserver: value is provided"},
		{"put of a lease to ignore", &pb.PutRequest{Key: k, Lease: 1, IgnoreLease: true}, bad, "etcdserver: lease is provided"},
		{"put that keeps no value", &pb.PutRequest{Key: []byte("new"), IgnoreValue: true}, bad, notFound},
		{"put that keeps no lease", &pb.PutRequest{Key: []byte("new"), IgnoreLease: true}, bad, notFound},
		{"put on no lease", &pb.PutRequest{Key: k, Lease: 77}, codes.NotFound, noLease},
		{"put too large", &pb.PutRequest{Key: k, Value: make([]byte, 1572864)}, bad, tooLarge},
		{"put far too large", &pb.PutRequest{Key: k, Value: make([]byte, 3<<20)}, codes.ResourceExhausted,
			"grpc: received message larger than max (3145736 vs. 2097152)"},
		{"delete without key", &pb.DeleteRangeRequest{RangeEnd: k}, bad, noKey},
		{"delete too large", &pb.DeleteRangeRequest{Key: make([]byte, 1572864)}, bad, tooLarge},

		{"txn of too many", then(puts(129)...), bad, tooMany},
		{"txn of too many else", otherwise(puts(129)...), bad, tooMany},
		{"txn of too many compares", &pb.TxnRequest{Compare: compares(129)}, bad, tooMany},
		{"nested beyond what is left", then(append(puts(127), nested(puts(2)...))...), bad, tooMany},
		{"too deep", then(deep(128)), bad, tooMany},
		{"compare without key", &pb.TxnRequest{Compare: []*pb.Compare{{}}}, bad, noKey},
		{"txn of an empty operation", then(&pb.RequestOp{}), bad, notFound},
		{"else of an empty operation", otherwise(put("new"), &pb.RequestOp{}), bad, notFound},
		{"nested empty operation", then(put("new"), nested(&pb.RequestOp{})), bad, notFound},
		{"txn with a bad range", then(put("new"), get(&pb.RangeRequest{Key: k, SortTarget: 9})), bad, badSort},
		{"txn with a bad put", then(put("new"), putOp(&pb.PutRequest{Key: k, Value: k, IgnoreValue: true})), bad, "etcdserver: value is provided"},
		{"txn with a bad delete", otherwise(put("new"), del("", "b")), bad, noKey},
		{"same key twice", then(put("new"), put("new")), bad, twice},
		{"same key twice otherwise", otherwise(put("new"), put("new")), bad, twice},
		{"put in a deleted range", then(del("n", "o"), put("new")), bad, twice},
		{"put before a deletion of all", then(put("new"), del("a", "\x00")), bad, twice},
		{"nested against outer", then(put("new"), nested(put("new"))), bad, twice},
		{"txn reads the future", then(put("new"), get(&pb.RangeRequest{Key: k, Revision: 13})), codes.OutOfRange, future},
		{"txn reads what is compacted", then(put("new"), get(&pb.RangeRequest{Key: k, Revision: 9})), codes.OutOfRange, compacted},
		{"txn that only reads what is compacted", then(get(&pb.RangeRequest{Key: k, Revision: 9})), codes.OutOfRange, compacted},
		{"nested reads the future", then(put("new"), nested(get(&pb.RangeRequest{Key: k, Revision: 13}))), codes.OutOfRange, future},
		{"txn on no lease", then(put("new"), putOp(&pb.PutRequest{Key: k, Lease: 77})), codes.NotFound, noLease},
		{"txn that keeps no value", then(put("new"), putOp(&pb.PutRequest{Key: []byte("newer"), IgnoreValue: true})), bad, notFound},
		{"txn that keeps what it deletes", then(del("a", "c"), nested(putOp(&pb.PutRequest{Key: k, IgnoreValue: true}))), bad, twice},
		{"txn too large", then(putOp(&pb.PutRequest{Key: k, Value: make([]byte, 1572864)})), bad, tooLarge},

		{"compaction of the future", &pb.CompactionRequest{Revision: 13}, codes.OutOfRange, future},
		{"compaction again", &pb.CompactionRequest{Revision: 10, Physical: true}, codes.OutOfRange, compacted},
		{"compaction of nothing", &pb.CompactionRequest{}, codes.OutOfRange, compacted},
		{"negative compaction", &pb.CompactionRequest{Revision: -5}, codes.OutOfRange, compacted},
	}
}

// ask sends a KV request of any kind.
func ask(ctx context.Context, kv pb.KVClient, req proto.Message) (resp proto.Message, err error) {
	switch r := req.(type) {
	case *pb.RangeRequest:
		return kv.Range(ctx, r)
	case *pb.PutRequest:
		return kv.Put(ctx, r)
	case *pb.DeleteRangeRequest:
		return kv.DeleteRange(ctx, r)
	case *pb.TxnRequest:
		return kv.Txn(ctx, r)
	case *pb.CompactionRequest:
		return kv.Compact(ctx, r)
	}
	return nil, fmt.Errorf("no RPC for a %T", req)
}

// prepare brings a new store to what refusals are for.
func prepare(t *testing.T, kv pb.KVClient) {
	t.Helper()
	for i := range 11 {
		key := []byte{"ab"[i%2]}
		if _, err := kv.Put(within(t), &pb.PutRequest{Key: key, Value: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := kv.Compact(within(t), &pb.CompactionRequest{Revision: 10}); err != nil {
		t.Fatal(err)
	}
}

// contents is everything that a client can see of the store.
func contents(t *testing.T, kv pb.KVClient) string {
	t.Helper()
	resp, err := kv.Range(within(t), &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(resp.Header.Revision, resp.Kvs)
}

// Every invalid request gets exactly etcd's code and text, and changes nothing.
func TestKV_refusals(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{})
	kv := pb.NewKVClient(client(t, c.Endpoints()...).ActiveConnection())
	prepare(t, kv)
	before := contents(t, kv)
	for _, r := range refusals() {
		_, err := ask(within(t), kv, r.req)
		if s := status.Convert(err); s.Code() != r.code || s.Message() != r.text {
			t.Errorf("%s: %v %q, want %v %q", r.name, s.Code(), s.Message(), r.code, r.text)
		}
		if now := contents(t, kv); now != before {
			t.Fatalf("%s changed %s to %s", r.name, before, now)
		}
	}
}

// What is at the limits passes.
func TestKV_limitsAreInclusive(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{Configure: func(_ int, cfg *daemon.Config) { cfg.MaxTxnOps = 200 }})
	kv := pb.NewKVClient(client(t, c.Endpoints()...).ActiveConnection())
	for name, req := range map[string]proto.Message{
		"--max-txn-ops":        then(puts(200)...),
		"nested":               then(append(puts(197), nested(put("x"), put("y")))...),
		"deep":                 then(deep(199)),
		"largest":              &pb.PutRequest{Key: []byte("k"), Value: make([]byte, 1572864-8)},
		"unknown compare":      &pb.TxnRequest{Compare: []*pb.Compare{{Key: []byte("k"), Result: 9, Target: 9}}, Success: puts(1)},
		"overlapping deletes":  then(del("a", "c"), del("b", "\x00")),
		"either of two":        then(&pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: puts(1), Failure: puts(1)}}}),
		"backward range":       &pb.RangeRequest{Key: []byte("z"), RangeEnd: []byte("a")},
		"deletion of nothing":  &pb.DeleteRangeRequest{Key: []byte("z"), RangeEnd: []byte("a")},
		"revision below zero":  &pb.RangeRequest{Key: []byte("k"), Revision: -1, Limit: -1},
		"huge limit":           &pb.RangeRequest{Key: []byte("k"), Limit: 1<<63 - 1},
		"transaction of none":  &pb.TxnRequest{},
		"a nested one of none": then(&pb.RequestOp{Request: &pb.RequestOp_RequestTxn{}}),
	} {
		if _, err := ask(within(t), kv, req); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := kv.Txn(within(t), then(puts(201)...)); status.Convert(err).Message() != tooMany {
		t.Errorf("one more than --max-txn-ops: %v", err)
	}
}

// rawCodec sends bytes as they are, under the name of protobuf.
type rawCodec struct{}

func (rawCodec) Name() string                  { return "proto" }
func (rawCodec) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (rawCodec) Unmarshal(b []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(b)
	return nil
}

var _ encoding.Codec = rawCodec{}

// Bytes that are no request are refused, and the member goes on.
func TestKV_malformedRequests(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{})
	cl := client(t, c.Endpoints()...)
	conn, kv := cl.ActiveConnection(), pb.NewKVClient(cl.ActiveConnection())
	prepare(t, kv)
	before := contents(t, kv)
	circle := []byte{} // a transaction in itself until it is as long as may be
	for len(circle) < 1<<20 {
		inner := append(appendLen([]byte{0x22}, len(circle)), circle...) // RequestOp.request_txn
		circle = append(appendLen([]byte{0x12}, len(inner)), inner...)   // TxnRequest.success
		if len(circle) > 50_000 {
			break
		}
	}
	for name, body := range map[string][]byte{
		"cut length":     {0x0a, 0x05, 'k'},
		"cut varint":     {0x18, 0xff},
		"long varint":    bytes.Repeat([]byte{0xff}, 20),
		"wrong wire":     {0x0f, 0x01},
		"huge length":    {0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"field zero":     {0x02, 0x00},
		"end of a group": {0x0c},
		"nested forever": circle,
	} {
		for _, method := range []string{pb.KV_Range_FullMethodName, pb.KV_Put_FullMethodName, pb.KV_DeleteRange_FullMethodName, pb.KV_Txn_FullMethodName, pb.KV_Compact_FullMethodName} {
			var answer []byte
			err := conn.Invoke(within(t), method, body, &answer, grpc.ForceCodec(rawCodec{}))
			if err == nil || strings.Contains(err.Error(), "panic") {
				t.Errorf("%s to %s: %v, %d bytes", name, method, err, len(answer))
			}
		}
	}
	if now := contents(t, kv); now != before {
		t.Errorf("%s became %s", before, now)
	}
	if _, err := cl.Put(within(t), "after", "v"); err != nil {
		t.Error(err)
	}
}

func appendLen(b []byte, n int) []byte {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}
