package auth

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Leases are the leases of the state that is authorized on: who may change all
// keys attached to a lease may end it. Both methods stop when fn returns false.
type Leases interface {
	// EachLeaseKey calls fn for each key attached to a lease.
	EachLeaseKey(id int64, fn func(key []byte) bool)
	// EachAttachedKey calls fn for each key attached to any lease.
	EachAttachedKey(fn func(key []byte) bool)
}

// Authorize decides whether a request, or a message of a stream, may be done on
// the state that v and leases are of. method is the full gRPC method, id who
// asks, nil if nobody was proven. While authentication is off everything may;
// afterwards what has no rule may not. It keeps nothing of its arguments.
//
// Errors: ErrUserEmpty, ErrOldRevision, ErrPermissionDenied, ErrUserNotFound from a
// user that does not exist for what only root may.
func Authorize(v *View, id *Identity, method string, req any, leases Leases) error {
	if !v.enabled {
		return nil
	}
	r, ok := rules[method]
	switch {
	case !ok:
		return ErrPermissionDenied
	case r.who == anybody:
		return nil
	case id == nil:
		return ErrUserEmpty
	}
	u := v.users[id.User]
	switch {
	case u == nil && r.who == administrator:
		return ErrUserNotFound
	case u == nil:
		return ErrPermissionDenied
	case id.Revision < u.identity.Revision:
		return ErrOldRevision
	case u.root:
		return nil
	case r.who == administrator:
		return ErrPermissionDenied
	case r.may == nil:
		return nil
	}
	if !r.may(access{user: u, leases: leases}, req) {
		return ErrPermissionDenied
	}
	return nil
}

// Reauthorize decides whether what was allowed to id some time ago, and goes on,
// still is: that rights changed does not matter, what they are now does. Errors:
// those of Authorize but ErrOldRevision, and ErrInvalidToken when the user has got
// another password, or is another one of the same name.
func Reauthorize(v *View, id *Identity, method string, req any, leases Leases) error {
	if !v.enabled || id == nil {
		return Authorize(v, id, method, req, leases)
	}
	u := v.users[id.User]
	switch {
	case u == nil:
		return ErrPermissionDenied
	case id.Revision < u.credential:
		return ErrInvalidToken
	}
	return Authorize(v, &u.holder, method, req, leases)
}

// access is what a rule looks at.
type access struct {
	user   *User
	leases Leases
	// writable are the leases of a transaction that were found to be: each is looked
	// at once, since it may have many keys, and the transaction many puts.
	writable map[int64]struct{}
}

func (a access) reads(key, end []byte) bool  { return a.user.rights.read.contain(key, end) }
func (a access) writes(key, end []byte) bool { return a.user.rights.write.contain(key, end) }

// writesLease: who attaches a key to a lease can have those attached deleted with
// it, and so must be allowed to delete them.
func (a access) writesLease(id int64) bool {
	if id == 0 {
		return true
	}
	if _, known := a.writable[id]; known {
		return true
	}
	ok := true
	a.leases.EachLeaseKey(id, func(key []byte) bool {
		ok = ok && a.writes(key, nil)
		return ok
	})
	if ok && a.writable != nil {
		a.writable[id] = struct{}{}
	}
	return ok
}

func (a access) rangeOf(r *pb.RangeRequest) bool { return a.reads(r.GetKey(), r.GetRangeEnd()) }

func (a access) put(r *pb.PutRequest) bool {
	return a.writes(r.GetKey(), nil) && a.writesLease(r.GetLease()) && (!r.GetPrevKv() || a.reads(r.GetKey(), nil))
}

func (a access) deleteRange(r *pb.DeleteRangeRequest) bool {
	return a.writes(r.GetKey(), r.GetRangeEnd()) && (!r.GetPrevKv() || a.reads(r.GetKey(), r.GetRangeEnd()))
}

func (a access) txn(r *pb.TxnRequest) bool {
	if attaches(r) {
		a.writable = make(map[int64]struct{})
	}
	return a.branches(r)
}

// attaches reports whether a transaction may attach a key to a lease.
func attaches(r *pb.TxnRequest) bool {
	return !EachLease(r, func(int64) bool { return false })
}

// EachLease calls fn with the lease of every put of a transaction that names one,
// whichever branch will be taken, until fn returns false. It reports whether it never
// did.
func EachLease(r *pb.TxnRequest, fn func(id int64) bool) bool {
	for _, ops := range [2][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		for _, op := range ops {
			if id := op.GetRequestPut().GetLease(); id != 0 && !fn(id) {
				return false
			}
			if nested := op.GetRequestTxn(); nested != nil && !EachLease(nested, fn) {
				return false
			}
		}
	}
	return true
}

// branches walks both branches, whichever will be taken.
func (a access) branches(r *pb.TxnRequest) bool {
	for _, c := range r.GetCompare() {
		if !a.reads(c.GetKey(), c.GetRangeEnd()) {
			return false
		}
	}
	for _, ops := range [2][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		for _, op := range ops {
			if !a.op(op) {
				return false
			}
		}
	}
	return true
}

func (a access) op(op *pb.RequestOp) bool {
	switch op := op.GetRequest().(type) {
	case *pb.RequestOp_RequestRange:
		return a.rangeOf(op.RequestRange)
	case *pb.RequestOp_RequestPut:
		return a.put(op.RequestPut)
	case *pb.RequestOp_RequestDeleteRange:
		return a.deleteRange(op.RequestDeleteRange)
	case *pb.RequestOp_RequestTxn:
		return a.branches(op.RequestTxn)
	}
	return false
}

func (a access) timeToLive(r *pb.LeaseTimeToLiveRequest) bool {
	ok := true
	if r.GetKeys() {
		a.leases.EachLeaseKey(r.GetID(), func(key []byte) bool {
			ok = ok && a.reads(key, nil)
			return ok
		})
	}
	return ok
}

func (a access) listLeases(*pb.LeaseLeasesRequest) bool {
	ok := true
	a.leases.EachAttachedKey(func(key []byte) bool {
		ok = ok && a.reads(key, nil)
		return ok
	})
	return ok
}

// prefixed are the requests of the services Lock and Election that make a key
// below a name, or look at those that there are.
type prefixed interface{ GetName() []byte }

// below are the bounds of the keys below a name: up to the first beyond name/.
func below(name []byte) (key, end []byte) {
	key = append(append(make([]byte, 0, len(name)+1), name...), '/')
	end = append(append(make([]byte, 0, len(name)+1), name...), '/'+1)
	return key, end
}

// observes: the owner is found by looking at all keys below the name.
func (a access) observes(r prefixed) bool { return a.reads(below(r.GetName())) }

// queues: who waits for a lock or an office reads the keys below the name, and
// makes one there, which it deletes when it gives up.
func (a access) queues(r interface {
	prefixed
	GetLease() int64
}) bool {
	key, end := below(r.GetName())
	return a.reads(key, end) && a.writes(key, end) && a.writesLease(r.GetLease())
}
