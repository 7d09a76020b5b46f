package kv

import (
	"bytes"
	"cmp"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

func (s *state) compareAll(cs []*pb.Compare) (bool, error) {
	for _, c := range cs {
		if ok, err := s.compare(c); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// compare reports whether all keys of c's range satisfy it. Without any key, a
// compare with a value fails, and others see zeros.
func (s *state) compare(c *pb.Compare) (bool, error) {
	sp := spanOf(c.Key, c.RangeEnd)
	wantValue := c.Target == pb.Compare_VALUE
	any, all := false, true
	var err error
	s.seek(sp, s.rev, func(h hit) bool {
		any = true
		var kv mvccpb.KeyValue
		switch {
		case wantValue && !h.e.whole():
			var p *mvccpb.KeyValue
			if p, err = s.loadOne(h, s.rev); err != nil {
				return false
			}
			all = satisfies(c, p)
		case !fill(&kv, h.e.enc):
			err = ErrCorrupt
		default:
			all = satisfies(c, &kv)
		}
		return all && err == nil
	})
	if err != nil {
		return false, err
	}
	if !any {
		return !wantValue && satisfies(c, &mvccpb.KeyValue{}), nil
	}
	return all, nil
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
