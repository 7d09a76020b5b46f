package api

import (
	"bytes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// A transaction may write a key only once on any path through it: neither two
// puts of a key nor a put inside a deleted range, in whatever order, may come
// from two operations of one list. What a nested transaction may write is the
// union of its two branches, which exclude each other and so never collide.

// write is a key or range that an operation of a list may change.
type write struct {
	key, end []byte // end is nil for the single key of a put
	toEnd    bool   // the range [key, infinity)
	op       int    // position of the operation in its list
}

func (w *write) isPut() bool { return w.end == nil && !w.toEnd }

// branchWrites collects what the list may write, deepest first, in the order of
// keys, and fails with "duplicate key given in txn request" when two of its
// operations collide. Each level merges what its operations yield, in order
// already, so that nesting costs a comparison per write and level at most, beside
// the sorting.
func branchWrites(ops []*pb.RequestOp) ([]write, error) {
	var runs [][]write
	for i, op := range ops {
		switch u := op.GetRequest().(type) {
		case *pb.RequestOp_RequestPut:
			runs = append(runs, []write{{key: u.RequestPut.GetKey(), op: i}})
		case *pb.RequestOp_RequestDeleteRange:
			if w, ok := deletedRange(u.RequestDeleteRange, i); ok {
				runs = append(runs, []write{w})
			}
		case *pb.RequestOp_RequestTxn:
			for _, branch := range [][]*pb.RequestOp{u.RequestTxn.GetSuccess(), u.RequestTxn.GetFailure()} {
				inner, err := branchWrites(branch)
				if err != nil {
					return nil, err
				}
				for j := range inner {
					inner[j].op = i
				}
				runs = append(runs, inner)
			}
		}
	}
	ws := mergeAll(runs)
	if len(ws) > 1 && collide(ws) {
		return nil, rpctypes.ErrGRPCDuplicateKey
	}
	return ws, nil
}

// mergeAll merges sorted runs, pair by pair.
func mergeAll(runs [][]write) []write {
	for len(runs) > 1 {
		kept := runs[:0]
		for i := 0; i < len(runs); i += 2 {
			if i+1 == len(runs) {
				kept = append(kept, runs[i])
				break
			}
			kept = append(kept, merge(runs[i], runs[i+1]))
		}
		runs = kept
	}
	if len(runs) == 0 {
		return nil
	}
	return runs[0]
}

func merge(a, b []write) []write {
	switch {
	case len(a) == 0:
		return b
	case len(b) == 0:
		return a
	}
	if len(a) < len(b) {
		a, b = b, a
	}
	// From the end, into the room behind a: a short run costs little more than
	// finding its places.
	n := len(a)
	a = append(a, b...)
	for at := len(a) - 1; len(b) > 0; at-- {
		last := &b[len(b)-1]
		if n > 0 && order(&a[n-1], last) > 0 {
			n--
			a[at] = a[n]
		} else {
			a[at] = *last
			b = b[:len(b)-1]
		}
	}
	return a
}

// order is by key, and a range before a put at its first key, which it covers.
func order(a, b *write) int {
	if c := bytes.Compare(a.key, b.key); c != 0 {
		return c
	}
	return rank(a) - rank(b)
}

// deletedRange is the range a delete covers; false when it covers nothing.
func deletedRange(r *pb.DeleteRangeRequest, op int) (write, bool) {
	key, end := r.GetKey(), r.GetRangeEnd()
	switch {
	case len(end) == 0: // one key: [key, key+"\0")
		return write{key: key, end: append(bytes.Clone(key), 0), op: op}, true
	case len(end) == 1 && end[0] == 0:
		return write{key: key, toEnd: true, op: op}, true
	case bytes.Compare(key, end) >= 0:
		return write{}, false
	}
	return write{key: key, end: end, op: op}, true
}

// collide sweeps ws, which is in order, once: a put collides with a put of the same
// key, or with a range begun before it and reaching beyond it, of another
// operation. For that, the furthest-reaching range and the furthest-reaching
// one of any other operation are enough to remember.
func collide(ws []write) bool {
	var far, other, put *write
	for i := range ws {
		w := &ws[i]
		if !w.isPut() {
			far, other = further(far, other, w)
			continue
		}
		if put != nil && put.op != w.op && bytes.Equal(put.key, w.key) {
			return true
		}
		if covers(far, w) || covers(other, w) {
			return true
		}
		put = w
	}
	return false
}

func rank(w *write) int {
	if w.isPut() {
		return 1
	}
	return 0
}

// covers tells whether range r of another operation reaches beyond put w; its
// start is known to be at or before w.
func covers(r, w *write) bool {
	return r != nil && r.op != w.op && (r.toEnd || bytes.Compare(r.end, w.key) > 0)
}

// further updates the two furthest-reaching ranges of different operations.
func further(far, other, w *write) (*write, *write) {
	switch {
	case far == nil || reaches(w, far):
		if far != nil && far.op != w.op {
			other = far
		}
		return w, other
	case far.op != w.op && (other == nil || reaches(w, other)):
		return far, w
	}
	return far, other
}

func reaches(a, b *write) bool {
	if a.toEnd || b.toEnd {
		return a.toEnd
	}
	return bytes.Compare(a.end, b.end) > 0
}
