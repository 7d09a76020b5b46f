package kv

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// scan merges the parts of a scan, with between called after each but the last.
func scan(t *testing.T, f *fixture, r *pb.RangeRequest, target int, between func()) (*pb.RangeResponse, int) {
	t.Helper()
	c := NewScan(r, target)
	merged := &pb.RangeResponse{}
	for parts := 1; ; parts++ {
		part, last, err := c.Next(f.s.View())
		if err != nil {
			t.Fatalf("%v: %v", r, err)
		}
		if !last && (part.Header != nil || part.More || part.Count != 0 || len(part.Kvs) == 0) {
			t.Fatalf("%v: part %d before the last has %d keys, %v", r, parts, len(part.Kvs), part)
		}
		proto.Merge(merged, part)
		if last {
			return merged, parts
		}
		between()
	}
}

// TestScan_mergesToRange compares scans, with writes and commits between their
// parts, with the range at their first view.
func TestScan_mergesToRange(t *testing.T) {
	const seed = 11
	rnd := rand.New(rand.NewPCG(seed, seed))
	f := newFixture(t, Options{MaxInline: 40, InlineBudget: 4000})
	key := func() string { return fmt.Sprintf("k%03d", rnd.IntN(200)) }
	change := func() {
		switch rnd.IntN(8) {
		case 0:
			f.del(key(), key())
		case 1:
			f.flush(rnd.IntN(len(f.queue) + 1))
		default:
			f.put(key(), string(bytes.Repeat([]byte("v"), rnd.IntN(60))))
		}
	}
	for range 600 {
		change()
	}
	most := 0
	for range 400 {
		r := &pb.RangeRequest{Key: []byte(key()), KeysOnly: rnd.IntN(4) == 0, CountOnly: rnd.IntN(10) == 0}
		switch rnd.IntN(4) {
		case 0:
			r.Key, r.RangeEnd = []byte{0}, []byte{0}
		case 1, 2:
			r.RangeEnd = []byte(key())
		}
		if rnd.IntN(2) == 0 {
			r.Limit = rnd.Int64N(50) - 2
		}
		if rnd.IntN(2) == 0 {
			r.Revision = rnd.Int64N(f.s.View().Rev()+1) - 1
		}
		want, err := f.s.View().Range(r)
		if err != nil {
			t.Fatal(err)
		}
		got, parts := scan(t, f, r, 50+rnd.IntN(3000), change)
		if !proto.Equal(got, want) {
			t.Fatalf("%v in %d parts\ngot  %v\nwant %v", r, parts, got, want)
		}
		most = max(most, parts)
	}
	if most < 10 {
		t.Errorf("no scan had more than %d parts: the test sees too little", most)
	}
}

func TestScan_compactedBetweenParts(t *testing.T) {
	f := newFixture(t, Options{})
	for i := range 30 {
		f.put(fmt.Sprintf("k%02d", i), "v")
	}
	c := NewScan(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}, 1<<20)
	if _, last, err := c.Next(f.s.View()); err != nil || last {
		t.Fatal(last, err)
	}
	at := f.s.View().Rev()
	f.put("k00", "w")
	f.compact(at) // what is read can still be read
	if _, last, err := c.Next(f.s.View()); err != nil || !last {
		t.Fatal(last, err)
	}
	c = NewScan(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: at}, 1<<20)
	if _, last, err := c.Next(f.s.View()); err != nil || last {
		t.Fatal(last, err)
	}
	f.compact(at + 1)
	if _, _, err := c.Next(f.s.View()); !errors.Is(err, ErrCompacted) {
		t.Errorf("got %v", err)
	}
}

// TestScan_partsAreBounded counts keys and bytes of parts: ten keys at first,
// then towards the target, and never much more than twice that.
func TestScan_partsAreBounded(t *testing.T) {
	const target, value = 10_000, 100
	f := newFixture(t, Options{MaxInline: -1})
	for i := range 1000 {
		f.put(fmt.Sprintf("k%04d", i), string(make([]byte, value)))
	}
	for i := range 200 { // after many small ones, when parts have many keys
		f.put(fmt.Sprintf("l%04d", i), string(make([]byte, target)))
	}
	c := NewScan(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}, target)
	for part := 0; ; part++ {
		resp, last, err := c.Next(f.s.View())
		if err != nil {
			t.Fatal(err)
		}
		if want := 10 << part; part < 4 && len(resp.Kvs) != want {
			t.Errorf("part %d has %d keys, want %d", part, len(resp.Kvs), want)
		}
		if size := proto.Size(resp); size > 2*target+target+value {
			t.Errorf("part %d has %d bytes", part, size)
		}
		if last {
			if resp.Count != 1200 {
				t.Errorf("count %d", resp.Count)
			}
			return
		}
	}
}
