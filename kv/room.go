package kv

import (
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// hitBytes is about what a key takes of memory beside its record while an answer
// with it is built.
const hitBytes = 192

// A Room bounds the memory that an answer takes while it is built and sent, by
// asking for it before it is taken. The answer has records in up to two forms,
// and both count.
type Room struct {
	// Take asks for so many bytes more. What it refuses ends with ErrNoRoom.
	Take func(bytes int64) bool
	// Measure only asks: nothing is kept, and the answer has no keys. A range that
	// would be longer than Longest ends with ErrTooLong.
	Measure bool
	Longest int64 // in bytes
}

// MaxAnswer is the length that an answer may have, in bytes: gRPC's.
const MaxAnswer = math.MaxInt32

func (r *Room) take(n int64) error {
	if r != nil && !r.Take(n) {
		return ErrNoRoom
	}
	return nil
}

// within is s with a bound on what is read from it.
func (s *state) within(room *Room) *state {
	if room == nil {
		return s
	}
	c := *s
	c.room = room
	return &c
}

// measuring reports whether what is read is not to be kept.
func (s *state) measuring() bool { return s.room != nil && s.room.Measure }

// measureRange asks for the room that the answer to r takes.
func (s *state) measureRange(r *pb.RangeRequest, sp span, at int64) (*pb.RangeResponse, error) {
	var err error
	length := int64(0)
	hits := make([]hit, 0, chunkRecords)
	limit := rangeLimit(r)
	measure := func() bool {
		var n int64
		n, err = s.measure(hits, at, r.SortTarget == pb.RangeRequest_VALUE || !r.KeysOnly)
		length += n
		if err == nil && length > s.room.Longest && r.Limit <= 0 && !filtered(r) && !r.KeysOnly {
			err = ErrTooLong
		}
		hits = hits[:0]
		return err == nil
	}
	n := 0
	s.seek(sp, at, func(h hit) bool {
		n++
		if hits = append(hits, h); len(hits) == chunkRecords && !measure() {
			return false
		}
		return limit == 0 || n < limit
	})
	if err == nil {
		measure()
	}
	return &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: s.rev}}, err
}

// measure asks for room for records that are not kept, and returns their length.
func (s *state) measure(hits []hit, at int64, values bool) (length int64, err error) {
	slab := make([]mvccpb.KeyValue, min(len(hits), chunkRecords))
	for len(hits) > 0 {
		part := hits[:min(len(hits), chunkRecords)]
		hits = hits[len(part):]
		clear(slab)
		n, err := s.loadPart(part, slab[:len(part)], at, values)
		if err != nil {
			return 0, err
		}
		if err := s.room.take(int64(len(part)) * hitBytes); err != nil {
			return 0, err
		}
		length += n
	}
	return length, nil
}

// loadPart is load that asks for room, and returns the records' length. So much
// as one part has, it is late.
func (s *state) loadPart(hits []hit, kvs []mvccpb.KeyValue, at int64, values bool) (length int64, err error) {
	if err := s.load(hits, kvs, at, values); err != nil || s.room == nil {
		return 0, err
	}
	for i := range kvs {
		length += int64(kvSize(&kvs[i]))
	}
	return length, s.room.take(2 * length)
}
