package api

import (
	"errors"
	"fmt"
	"math/rand"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

func opPut(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key)}}}
}

func opDel(key, end string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)}}}
}

func opGet(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key)}}}
}

func opTxn(success, failure []*pb.RequestOp) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: success, Failure: failure}}}
}

func ops(o ...*pb.RequestOp) []*pb.RequestOp { return o }

func repeat(n int, f func(i int) *pb.RequestOp) []*pb.RequestOp {
	var out []*pb.RequestOp
	for i := range n {
		out = append(out, f(i))
	}
	return out
}

func TestCheck_singleRequests(t *testing.T) {
	k := []byte("k")
	for name, c := range map[string]struct{ got, want error }{
		"range":                 {checkRange(&pb.RangeRequest{Key: k, SortOrder: 2, SortTarget: 4}), nil},
		"range without key":     {checkRange(&pb.RangeRequest{}), rpctypes.ErrGRPCEmptyKey},
		"range sort order":      {checkRange(&pb.RangeRequest{Key: k, SortOrder: 3}), rpctypes.ErrGRPCInvalidSortOption},
		"range sort order -1":   {checkRange(&pb.RangeRequest{Key: k, SortOrder: -1}), rpctypes.ErrGRPCInvalidSortOption},
		"range sort target":     {checkRange(&pb.RangeRequest{Key: k, SortTarget: 5}), rpctypes.ErrGRPCInvalidSortOption},
		"put":                   {checkPut(&pb.PutRequest{Key: k, IgnoreValue: true, IgnoreLease: true}), nil},
		"put without key":       {checkPut(&pb.PutRequest{Value: k}), rpctypes.ErrGRPCEmptyKey},
		"put ignored value":     {checkPut(&pb.PutRequest{Key: k, Value: k, IgnoreValue: true}), rpctypes.ErrGRPCValueProvided},
		"put ignored lease":     {checkPut(&pb.PutRequest{Key: k, Lease: 1, IgnoreLease: true}), rpctypes.ErrGRPCLeaseProvided},
		"delete":                {checkDelete(&pb.DeleteRangeRequest{Key: k}), nil},
		"delete without key":    {checkDelete(&pb.DeleteRangeRequest{RangeEnd: k}), rpctypes.ErrGRPCEmptyKey},
		"size within the bound": {(&validator{maxRequestBytes: 3}).size(&pb.PutRequest{Key: k}), nil},
		"size beyond the bound": {(&validator{maxRequestBytes: 2}).size(&pb.PutRequest{Key: k}), rpctypes.ErrGRPCRequestTooLarge},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: got %v, want %v", name, c.got, c.want)
		}
	}
}

func TestTxn_shape(t *testing.T) {
	key := func(i int) *pb.RequestOp { return opPut(fmt.Sprint("k", i)) }
	compare := func(k string) *pb.Compare { return &pb.Compare{Key: []byte(k)} }
	v := validator{maxTxnOps: 4}
	for name, c := range map[string]struct {
		txn  *pb.TxnRequest
		want error
	}{
		"empty":                 {&pb.TxnRequest{}, nil},
		"full":                  {&pb.TxnRequest{Success: repeat(4, key), Failure: repeat(4, key)}, nil},
		"too many in success":   {&pb.TxnRequest{Success: repeat(5, key)}, rpctypes.ErrGRPCTooManyOps},
		"too many in failure":   {&pb.TxnRequest{Failure: repeat(5, key)}, rpctypes.ErrGRPCTooManyOps},
		"too many compares":     {&pb.TxnRequest{Compare: []*pb.Compare{compare("a"), compare("a"), compare("a"), compare("a"), compare("a")}}, rpctypes.ErrGRPCTooManyOps},
		"compare without key":   {&pb.TxnRequest{Compare: []*pb.Compare{compare("")}}, rpctypes.ErrGRPCEmptyKey},
		"operation without any": {&pb.TxnRequest{Success: ops(&pb.RequestOp{})}, rpctypes.ErrGRPCKeyNotFound},
		"empty put inside":      {&pb.TxnRequest{Success: ops(&pb.RequestOp{Request: &pb.RequestOp_RequestPut{}})}, rpctypes.ErrGRPCEmptyKey},
		"empty txn inside":      {&pb.TxnRequest{Success: ops(&pb.RequestOp{Request: &pb.RequestOp_RequestTxn{}})}, nil},
		"bad range in failure":  {&pb.TxnRequest{Failure: ops(opGet(""))}, rpctypes.ErrGRPCEmptyKey},
		"bad delete nested":     {&pb.TxnRequest{Failure: ops(opTxn(nil, ops(opDel("", ""))))}, rpctypes.ErrGRPCEmptyKey},
		"nested within budget":  {&pb.TxnRequest{Success: ops(opTxn(repeat(3, key), nil))}, nil},
		"nested beyond budget":  {&pb.TxnRequest{Success: ops(opTxn(repeat(4, key), nil))}, rpctypes.ErrGRPCTooManyOps},
		"budget of the longest list": {&pb.TxnRequest{Success: ops(opTxn(repeat(2, key), nil)), Failure: repeat(3, key)},
			rpctypes.ErrGRPCTooManyOps},
	} {
		if got := v.txn(c.txn); !errors.Is(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func TestProposed_onlyRangesAreNot(t *testing.T) {
	for name, c := range map[string]struct {
		txn  *pb.TxnRequest
		want bool
	}{
		"empty":              {&pb.TxnRequest{}, false},
		"ranges":             {&pb.TxnRequest{Success: ops(opGet("a")), Failure: ops(opGet("b"))}, false},
		"a put in failure":   {&pb.TxnRequest{Success: ops(opGet("a")), Failure: ops(opPut("b"))}, true},
		"a delete":           {&pb.TxnRequest{Success: ops(opDel("a", ""))}, true},
		"a nested one":       {&pb.TxnRequest{Success: ops(opTxn(nil, nil))}, true},
		"a nested of ranges": {&pb.TxnRequest{Success: ops(opTxn(ops(opGet("a")), nil))}, true},
	} {
		if got := proposed(c.txn); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestTxn_duplicateKeys(t *testing.T) {
	for name, c := range map[string]struct {
		list []*pb.RequestOp
		dup  bool
	}{
		"different keys":                  {ops(opPut("a"), opPut("b")), false},
		"same key":                        {ops(opPut("a"), opPut("a")), true},
		"put before its delete":           {ops(opPut("a"), opDel("a", "")), true},
		"delete before its put":           {ops(opDel("a", ""), opPut("a")), true},
		"put beside a single delete":      {ops(opDel("a", ""), opPut("a\x00")), false},
		"put inside a range":              {ops(opDel("a", "c"), opPut("b")), true},
		"put at the start of a range":     {ops(opPut("a"), opDel("a", "c")), true},
		"put at the end of a range":       {ops(opDel("a", "c"), opPut("c")), false},
		"put in an open range":            {ops(opDel("a", "\x00"), opPut("zz")), true},
		"put before an open range":        {ops(opDel("b", "\x00"), opPut("a")), false},
		"backward range covers nothing":   {ops(opDel("c", "a"), opPut("b")), false},
		"overlapping deletes":             {ops(opDel("a", "z"), opDel("b", "c")), false},
		"then and else exclude":           {ops(opTxn(ops(opPut("a")), ops(opPut("a")))), false},
		"delete in then, put in else":     {ops(opTxn(ops(opDel("a", "z")), ops(opPut("b")))), false},
		"nested against outer put":        {ops(opTxn(nil, ops(opPut("a"))), opPut("a")), true},
		"nested against outer delete":     {ops(opDel("a", "z"), opTxn(ops(opPut("b")), nil)), true},
		"nested delete against outer put": {ops(opPut("b"), opTxn(ops(opDel("a", "z")), nil)), true},
		"siblings' branches":              {ops(opTxn(ops(opPut("a")), nil), opTxn(nil, ops(opPut("a")))), true},
		"inside a nested list":            {ops(opTxn(ops(opPut("a"), opPut("a")), nil)), true},
		"own range hides another's":       {ops(opTxn(ops(opDel("a", "z")), ops(opPut("b"))), opDel("a", "c")), true},
		"reads never collide":             {ops(opGet("a"), opGet("a"), opPut("a")), false},
	} {
		for side, txn := range map[string]*pb.TxnRequest{"success": {Success: c.list}, "failure": {Failure: c.list}} {
			err := (&validator{maxTxnOps: 128}).txn(txn)
			if dup := errors.Is(err, rpctypes.ErrGRPCDuplicateKey); dup != c.dup || (err != nil && !dup) {
				t.Errorf("%s in %s: got %v, want duplicate: %v", name, side, err, c.dup)
			}
		}
	}
	both := &pb.TxnRequest{Success: ops(opPut("a")), Failure: ops(opPut("a"))}
	if err := (&validator{maxTxnOps: 128}).txn(both); err != nil {
		t.Errorf("success and failure exclude each other: %v", err)
	}
}

// paths lists every sequence of writes a list can lead to.
func paths(list []*pb.RequestOp) [][]*pb.RequestOp {
	all := [][]*pb.RequestOp{nil}
	for _, op := range list {
		ways := [][]*pb.RequestOp{{op}}
		if nested, ok := op.Request.(*pb.RequestOp_RequestTxn); ok {
			ways = append(paths(nested.RequestTxn.Success), paths(nested.RequestTxn.Failure)...)
		}
		var next [][]*pb.RequestOp
		for _, head := range all {
			for _, tail := range ways {
				next = append(next, append(head[:len(head):len(head)], tail...))
			}
		}
		all = next
	}
	return all
}

// naiveDuplicate tells whether a path writes a key twice, over keys "a".."f".
func naiveDuplicate(path []*pb.RequestOp) bool {
	for k := "a"; k <= "f"; k = string(k[0] + 1) {
		puts, dels := 0, 0
		for _, op := range path {
			switch u := op.Request.(type) {
			case *pb.RequestOp_RequestPut:
				if string(u.RequestPut.Key) == k {
					puts++
				}
			case *pb.RequestOp_RequestDeleteRange:
				from, end := string(u.RequestDeleteRange.Key), string(u.RequestDeleteRange.RangeEnd)
				if k == from && end == "" || k >= from && (k < end || end == "\x00") {
					dels++
				}
			}
		}
		if puts > 1 || puts == 1 && dels > 0 {
			return true
		}
	}
	return false
}

func randomOps(r *rand.Rand, depth int) []*pb.RequestOp {
	key := func() string { return string(rune('a' + r.Intn(6))) }
	return repeat(r.Intn(4), func(int) *pb.RequestOp {
		switch n := r.Intn(10); {
		case n < 3 && depth > 0:
			return opTxn(randomOps(r, depth-1), randomOps(r, depth-1))
		case n < 7:
			return opPut(key())
		case n < 8:
			return opDel(key(), "")
		case n < 9:
			return opDel(key(), "\x00")
		}
		return opDel(key(), key())
	})
}

func TestBranchWrites_agreesWithNaiveModel(t *testing.T) {
	const seed = 20
	r := rand.New(rand.NewSource(seed))
	duplicates := 0
	for range 20000 {
		list := randomOps(r, 2)
		want := false
		for _, p := range paths(list) {
			want = want || naiveDuplicate(p)
		}
		_, err := branchWrites(list)
		if (err != nil) != want {
			t.Fatalf("%v: got %v, want duplicate: %v", list, err, want)
		}
		if want {
			duplicates++
		}
	}
	if duplicates < 1000 || duplicates > 19000 {
		t.Fatalf("%d of 20000 lists have duplicates: the test sees too little", duplicates)
	}
}
