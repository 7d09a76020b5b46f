package kv

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A View is the state after one batch. It never changes and needs no release;
// but while one is held, what newer batches replaced stays in memory.
//
// Slices in responses share the store's memory: they must not be modified.
type View struct{ state }

// Rev returns the revision of the view: 1 in an empty store.
func (v *View) Rev() int64 { return v.rev }

// CompactRev returns the newest compaction, which is the oldest revision that
// can be read; -1 if there was none.
func (v *View) CompactRev() int64 { return v.compactRev }

// Len returns the number of living keys.
func (v *View) Len() int { return v.root.live }

// Living returns how many living keys there are between key and end, which are
// those of a request. It takes O(log n).
func (v *View) Living(key, end []byte) int { return v.count(spanOf(key, end), v.rev) }

// ValueSize returns the length of the value of key in bytes, 0 if there is none
// or it cannot be read.
func (v *View) ValueSize(key []byte) int {
	kv, err := v.get(key)
	if err != nil || kv == nil {
		return 0
	}
	return len(kv.Value)
}

// Range answers r, whose consistency is the caller's affair: the answer is the
// state of this view. Errors: ErrCompacted, ErrFutureRevision, ErrCorrupt.
// A view that is older than the newest compaction may answer ErrCompacted where
// a value has left the file meanwhile.
func (v *View) Range(r *pb.RangeRequest) (*pb.RangeResponse, error) {
	v.st.opts.Counts.Ranges.Add(1)
	return v.answerRange(r)
}

// RangeWithin is Range with a bound, which may be nil. Errors also: ErrNoRoom,
// ErrTooLong.
func (v *View) RangeWithin(r *pb.RangeRequest, room *Room) (*pb.RangeResponse, error) {
	return v.within(room).answerRange(r)
}

// ReadTxn answers a transaction whose chosen branches only read. Errors as for
// RangeWithin, and ErrTooManyCompares.
func (v *View) ReadTxn(r *pb.TxnRequest, room *Room) (*pb.TxnResponse, error) {
	t := txn{comparer: comparer{state: v.within(room), left: MaxCompared}, answer: Full}
	if err := t.plan(r); err != nil {
		return nil, err
	}
	return t.run(r)
}
