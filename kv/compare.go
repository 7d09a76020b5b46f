package kv

import (
	"bytes"
	"cmp"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

const (
	// MaxCompared is how many keys the compares of one transaction may look at,
	// those of nested ones included. It is counted in living keys, which are the
	// same on every member; so all come to the same answer.
	MaxCompared = 1 << 18
	// valueWeight is as how many keys one counts whose value is compared: it may
	// have to be read from the file.
	valueWeight = 8
)

// A comparer evaluates compares within a bound of work.
type comparer struct {
	*state
	left int               // keys that may still be looked at
	hits []hit             // reused
	kvs  []mvccpb.KeyValue // reused
}

// again begins with the compares of another transaction.
func (c *comparer) again(s *state) comparer {
	return comparer{state: s, left: MaxCompared, hits: c.hits[:0], kvs: c.kvs[:0]}
}

func (c *comparer) all(cs []*pb.Compare) (bool, error) {
	for _, q := range cs {
		if ok, err := c.compare(q); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// compare reports whether all keys of q's range satisfy it. Without any key, a
// compare with a value fails, and others see zeros. Errors: ErrTooManyCompares,
// ErrCorrupt.
func (c *comparer) compare(q *pb.Compare) (bool, error) {
	weight, values := 1, q.Target == pb.Compare_VALUE
	if values {
		weight = valueWeight
	}
	sp := spanOf(q.Key, q.RangeEnd)
	for step := 1; ; step = min(2*step, chunkRecords) {
		more, err := c.look(sp, step, values)
		switch {
		case err != nil:
			return false, err
		case step == 1 && len(c.kvs) == 0:
			return !values && satisfies(q, &mvccpb.KeyValue{}), nil
		}
		// Counted one by one: how far a compare comes is the same everywhere,
		// how much of it was read at a time is not.
		for i := range c.kvs {
			if c.left -= weight; c.left < 0 {
				return false, ErrTooManyCompares
			}
			if !satisfies(q, &c.kvs[i]) {
				return false, nil
			}
		}
		if !more {
			return true, nil
		}
		sp.lo = append(bytes.Clone(c.kvs[len(c.kvs)-1].Key), 0)
	}
}

// look reads the first n keys of sp.
func (c *comparer) look(sp span, n int, values bool) (more bool, err error) {
	c.hits = c.hits[:0]
	c.seek(sp, c.rev, func(h hit) bool {
		if more = len(c.hits) == n; !more {
			c.hits = append(c.hits, h)
		}
		return !more
	})
	c.kvs = append(c.kvs[:0], make([]mvccpb.KeyValue, len(c.hits))...)
	return more, c.load(c.hits, c.kvs, c.rev, values)
}

// satisfies compares one record. A compare whose operand is of another kind
// than its target compares with zero.
func satisfies(c *pb.Compare, kv *mvccpb.KeyValue) bool {
	var order int
	switch c.Target {
	case pb.Compare_VALUE:
		order = bytes.Compare(kv.Value, c.GetValue())
	case pb.Compare_CREATE:
		order = cmp.Compare(kv.CreateRevision, c.GetCreateRevision())
	case pb.Compare_MOD:
		order = cmp.Compare(kv.ModRevision, c.GetModRevision())
	case pb.Compare_VERSION:
		order = cmp.Compare(kv.Version, c.GetVersion())
	case pb.Compare_LEASE:
		order = cmp.Compare(kv.Lease, c.GetLease())
	}
	switch c.Result {
	case pb.Compare_EQUAL:
		return order == 0
	case pb.Compare_NOT_EQUAL:
		return order != 0
	case pb.Compare_GREATER:
		return order > 0
	case pb.Compare_LESS:
		return order < 0
	}
	return true
}
