package kv

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A txn is a transaction in progress. It has two passes: plan evaluates all
// compares, also those of nested transactions, and checks the operations of
// the chosen branches, all on the state before the transaction; run performs
// them. What plan accepts, run can do.
type txn struct {
	comparer
	b      *Batch // nil: the transaction only reads
	answer Answer
	// taken holds the outcomes of the compares, in the order in which both
	// passes come to the transactions.
	taken   []bool
	at      int  // next of taken, in run
	ops     int  // performed so far
	deletes bool // the chosen branches delete
	keeps   bool // the chosen branches put with ignore_value or ignore_lease
}

// Txn performs r. Errors, all found before the first write: ErrCompacted,
// ErrFutureRevision, ErrKeyNotFound, ErrLeaseNotFound, ErrTooManyCompares.
func (b *Batch) Txn(r *pb.TxnRequest, a Answer) (*pb.TxnResponse, error) {
	b.txn = txn{comparer: b.txn.comparer.again(&b.state), b: b, answer: a, taken: b.txn.taken[:0]}
	t := &b.txn
	if err := t.plan(r); err != nil {
		return nil, err
	}
	b.begin()
	if !t.deletes || !t.keeps {
		return t.run(r)
	}
	// A put that keeps the old value may come after the deletion of its key.
	// Only this can fail after a write, so only here is a way back kept.
	undo := b.save()
	resp, err := t.run(r)
	if err != nil {
		undo()
		b.forgive()
	}
	return resp, err
}

// save returns a function that restores the state as it is now.
func (b *Batch) save() (undo func()) {
	root, rev, n, size, inline := b.root, b.rev, len(b.ch.recs), b.ch.bytes, b.st.inline
	leases := b.leases            // what is attached; transactions change nothing else of leases
	b.tree.edit = b.st.nextEdit() // what exists now is copied, not changed
	b.leaseTree.edit = b.tree.edit
	return func() {
		b.root, b.tree.root = root, root
		b.leases, b.leaseTree.root = leases, leases
		b.rev, b.ch.recs, b.ch.bytes, b.st.inline = rev, b.ch.recs[:n], size, inline
	}
}

// plan is the first pass.
func (t *txn) plan(r *pb.TxnRequest) error {
	ok, err := t.all(r.GetCompare())
	if err != nil {
		return err
	}
	t.taken = append(t.taken, ok)
	for _, op := range branch(r, ok) {
		switch op := op.GetRequest().(type) {
		case *pb.RequestOp_RequestRange:
			err = t.checkRange(op.RequestRange)
		case *pb.RequestOp_RequestPut:
			err = t.checkPut(op.RequestPut)
		case *pb.RequestOp_RequestDeleteRange:
			t.mayWrite()
			t.deletes = true
		case *pb.RequestOp_RequestTxn:
			err = t.plan(op.RequestTxn)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func branch(r *pb.TxnRequest, success bool) []*pb.RequestOp {
	if success {
		return r.GetSuccess()
	}
	return r.GetFailure()
}

// checkRange differs from a range outside of transactions, as etcd's does, in
// that negative revisions count as compacted once something was.
func (t *txn) checkRange(r *pb.RangeRequest) error {
	switch {
	case r.GetRevision() == 0:
		return nil
	case r.GetRevision() > t.rev:
		return ErrFutureRevision
	case r.GetRevision() < t.compactRev:
		return ErrCompacted
	}
	return nil
}

// mayWrite holds ReadTxn's callers to their contract.
func (t *txn) mayWrite() {
	if t.b == nil {
		panic("kv: a transaction that writes was given to ReadTxn")
	}
}

func (t *txn) checkPut(r *pb.PutRequest) error {
	t.mayWrite()
	if !t.b.leaseGranted(r.Lease) {
		return ErrLeaseNotFound
	}
	if r.IgnoreValue || r.IgnoreLease {
		t.keeps = true
		if e := t.root.get(r.Key); e == nil || e.dead() {
			return ErrKeyNotFound
		}
	}
	return nil
}

// run is the second pass. Only the outermost response's header has a revision,
// as etcd's.
func (t *txn) run(r *pb.TxnRequest) (*pb.TxnResponse, error) {
	resp, err := t.perform(r)
	if t.ops > 1 {
		t.st.opts.Counts.Txns.Add(1)
	}
	if err != nil || t.answer == None {
		return nil, err
	}
	resp.Header.Revision = t.rev
	return resp, nil
}

func (t *txn) perform(r *pb.TxnRequest) (*pb.TxnResponse, error) {
	ok := t.taken[t.at]
	t.at++
	ops := branch(r, ok)
	if t.answer == None {
		for _, op := range ops {
			if _, err := t.op(op); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}
	resp := &pb.TxnResponse{Header: &pb.ResponseHeader{}, Succeeded: ok}
	resp.Responses = make([]*pb.ResponseOp, len(ops))
	for i, op := range ops {
		var err error
		if resp.Responses[i], err = t.op(op); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

// op performs one operation of a chosen branch. An operation that names
// nothing is refused before it comes here; it does nothing.
func (t *txn) op(op *pb.RequestOp) (*pb.ResponseOp, error) {
	if op.GetRequestTxn() == nil {
		t.ops++
	}
	switch op := op.GetRequest().(type) {
	case *pb.RequestOp_RequestRange:
		t.st.opts.Counts.Ranges.Add(1)
		if t.answer == None {
			return nil, nil
		}
		if t.b != nil {
			return t.b.rangeOp(op.RequestRange, t.answer)
		}
		resp, err := t.answerRange(op.RequestRange)
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: resp}}, err
	case *pb.RequestOp_RequestPut:
		resp, err := t.b.putOp(op.RequestPut, t.answer)
		if t.answer == None {
			return nil, err
		}
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponsePut{ResponsePut: resp}}, err
	case *pb.RequestOp_RequestDeleteRange:
		resp, err := t.b.deleteOp(op.RequestDeleteRange, t.answer)
		if t.answer == None {
			return nil, err
		}
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: resp}}, err
	case *pb.RequestOp_RequestTxn:
		resp, err := t.perform(op.RequestTxn)
		if t.answer == None {
			return nil, err
		}
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseTxn{ResponseTxn: resp}}, err
	}
	return &pb.ResponseOp{}, nil
}
