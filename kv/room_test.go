package kv

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// counting is a room that has no end, and counts.
func counting(n *int64, measure bool) *Room {
	return &Room{Take: func(bytes int64) bool { *n += bytes; return true }, Measure: measure, Longest: math.MaxInt64}
}

// An answer within a room is the same, takes what it was measured to take, and is
// refused where one byte of that is missing.
func TestRoom_randomAnswers(t *testing.T) {
	r := &runner{fixture: newFixture(t, Options{MaxInline: 20}), m: newModel(), keys: 3000, rnd: rand.New(rand.NewPCG(8, 8))}
	r.run(100)
	v := r.s.View()
	for range 300 {
		q := r.rangeReq()
		if q.Revision > 0 { // at older revisions what is taken is an estimate
			q.Revision = v.Rev()
		}
		want, wantErr := v.Range(q)
		var taken, measured int64
		got, err := v.RangeWithin(q, counting(&taken, false))
		r.same(q, got, err, want, wantErr)
		empty, err := v.RangeWithin(q, counting(&measured, true))
		if !errors.Is(err, wantErr) || err == nil && len(empty.Kvs) != 0 {
			t.Fatalf("%v: measured with %d keys, %v", q, len(empty.GetKvs()), err)
		}
		if taken != measured {
			t.Fatalf("%v: took %d bytes, measured %d", q, taken, measured)
		}
		left := taken - 1
		_, err = v.RangeWithin(q, &Room{Take: func(n int64) bool { left -= n; return left >= 0 }})
		if taken > 0 && !errors.Is(err, ErrNoRoom) {
			t.Fatalf("%v: %v in a room of %d bytes, of %d", q, err, taken-1, taken)
		}
	}
}

func TestRoom_tooLong(t *testing.T) {
	f := newFixture(t, Options{})
	f.put("a", "1", "b", "2", "c", "3")
	all := &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte{0}}
	resp, err := f.s.View().Range(all)
	if err != nil {
		t.Fatal(err)
	}
	length := int64(0)
	for _, kv := range resp.Kvs {
		length += int64(proto.Size(kv))
	}
	var n int64
	room := counting(&n, true)
	for _, c := range []struct {
		longest int64
		want    error
		limit   int64
	}{{length, nil, 0}, {length - 1, ErrTooLong, 0}, {length - 1, nil, 3}} {
		room.Longest = c.longest
		all.Limit = c.limit
		if _, err := f.s.View().RangeWithin(all, room); !errors.Is(err, c.want) {
			t.Errorf("at most %d bytes of %d: %v, want %v", c.longest, length, err, c.want)
		}
	}
}
