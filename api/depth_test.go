package api

import (
	"net/http"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// nest wraps a put in so many transactions.
func nest(depth int) *pb.TxnRequest {
	r := &pb.TxnRequest{Success: ops(opPut("k"))}
	for range depth {
		r = &pb.TxnRequest{Success: ops(opTxn(r.Success, nil))}
	}
	return r
}

// Transactions are as deep as --max-txn-ops lets them be; what is deeper than
// any decoder goes, ends as what cannot be decoded, and the server goes on.
func TestTxn_depth(t *testing.T) {
	f := start(t, "http", nil)
	kv := pb.NewKVClient(f.dialPlain(t))
	for _, c := range []struct {
		depth int
		want  codes.Code
	}{{1, codes.OK}, {127, codes.OK}, {128, codes.InvalidArgument}, {3000, codes.InvalidArgument}, {9000, codes.Internal}} {
		if _, err := kv.Txn(t.Context(), nest(c.depth)); status.Code(err) != c.want {
			t.Errorf("depth %d: %v, want %v", c.depth, err, c.want)
		}
	}
	for _, c := range []struct{ depth, want int }{{100, http.StatusOK}, {129, http.StatusBadRequest}, {20_000, http.StatusBadRequest}} {
		body := strings.Repeat(`{"success":[{"requestTxn":`, c.depth) + `{}` + strings.Repeat(`}]}`, c.depth)
		if code, answer := f.post(t, f.httpClient(t, false), "/v3/kv/txn", body); code != c.want {
			t.Errorf("JSON of depth %d: %d %s, want %d", c.depth, code, answer, c.want)
		}
	}
	if _, err := kv.Txn(t.Context(), nest(1)); err != nil {
		t.Error(err)
	}
}
