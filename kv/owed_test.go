package kv

import (
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

func opRangeAll() *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}}}
}

func opDeleteFrom(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{
		Key: []byte(key), RangeEnd: []byte{0}, PrevKv: true}}}
}

// What a transaction read and then replaced is still answered when a compaction
// of everything before has come in between, and only so long is it kept.
func TestOwed_compactionWaits(t *testing.T) {
	f := newFixture(t, Options{MaxInline: -1})
	f.put("a", "1", "b", "2", "c", "3")
	f.flushAll()
	r := &pb.TxnRequest{Success: []*pb.RequestOp{
		opPut("a", "4"), opRangeAll(), opDeleteFrom("b"), opRangeAll(),
	}}
	m := newModel()
	for _, q := range [][2]string{{"a", "1"}, {"b", "2"}, {"c", "3"}} {
		if _, err := m.Put(&pb.PutRequest{Key: []byte(q[0]), Value: []byte(q[1])}); err != nil {
			t.Fatal(err)
		}
	}
	want, err := m.Txn(r)
	if err != nil {
		t.Fatal(err)
	}
	var got *pb.TxnResponse
	var owed *Owed
	v := f.batch(func(b *Batch) {
		if got, err = b.Txn(r, Lazy); err != nil {
			t.Fatal(err)
		}
		owed = b.Owed()
	})
	if owed == nil || len(owed.parts) != 2 {
		t.Fatalf("%+v is owed", owed)
	}
	f.compact(v.Rev())
	f.settle()
	if f.s.Pruning() || f.s.CompactedOnDisk() >= v.Rev() {
		t.Fatal("compaction took what is still to be read")
	}
	for range 2 { // the second time in place of the first
		if err := owed.Pay(nil); err != nil {
			t.Fatal(err)
		}
	}
	owed.Drop()
	if !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	f.settle()
	if f.s.CompactedOnDisk() != v.Rev() {
		t.Errorf("compacted to %d, want %d", f.s.CompactedOnDisk(), v.Rev())
	}
}

// An answer that nobody waits for, and one that failed, hold up nothing.
func TestOwed_droppedAndForgiven(t *testing.T) {
	f := newFixture(t, Options{MaxInline: -1})
	f.put("a", "1", "b", "2")
	f.batch(func(b *Batch) {
		if _, err := b.DeleteRange(opDeleteFrom("a").GetRequestDeleteRange(), Lazy); err != nil {
			t.Fatal(err)
		}
		o := b.Owed()
		o.Drop()
		o.Drop()
		// Fails after it has read.
		r := &pb.TxnRequest{Success: []*pb.RequestOp{opRangeAll(), opDelete("c"), opKeepValue("c")}}
		if _, err := b.Put(&pb.PutRequest{Key: []byte("c")}, None); err != nil {
			t.Fatal(err)
		}
		b.quick = 0
		if _, err := b.Txn(r, Lazy); err == nil {
			t.Fatal("the transaction succeeded")
		}
		if o := b.Owed(); o != nil {
			t.Errorf("%+v is owed by a request that failed", o)
		}
	})
	if n := len(f.s.holds.at); n != 0 {
		t.Errorf("%d answers are waited for", n)
	}
}

// What is in memory and short is answered at once, up to a bound for the whole
// batch.
func TestBatch_lazyReadsAtOnceWhatIsShort(t *testing.T) {
	f := newFixture(t, Options{MaxInline: 100})
	for i := range 50 {
		f.put(fmt.Sprintf("k%02d", i), "v")
	}
	f.put("long", fmt.Sprintf("%01000d", 0))
	get := func(key, end string, limit int64) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{
			Key: []byte(key), RangeEnd: []byte(end), Limit: limit}}}
	}
	for _, c := range []struct {
		name string
		op   *pb.RequestOp
		owed bool
	}{
		{"one key", get("k01", "", 0), false},
		{"one key on disk", get("long", "", 0), false},
		{"keys in memory", get("k", "l", 0), false},
		{"a key on disk among others", get("k", "\x00", 0), true},
		{"first keys", get("k", "\x00", 10), false},
		{"an old revision", &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{
			Key: []byte("k"), RangeEnd: []byte("l"), Revision: 3}}}, true},
	} {
		f.batch(func(b *Batch) {
			if _, err := b.Txn(&pb.TxnRequest{Success: []*pb.RequestOp{c.op}}, Lazy); err != nil {
				t.Fatal(err)
			}
			o := b.Owed()
			if (o != nil) != c.owed {
				t.Errorf("%s: owed %v", c.name, o != nil)
			}
			o.Drop()
		})
	}
	f.batch(func(b *Batch) {
		at := 0
		for o := (*Owed)(nil); o == nil; at++ {
			if at > quickKeys {
				t.Fatal("there is no bound")
			}
			if _, err := b.Put(&pb.PutRequest{Key: []byte("k01"), Value: []byte("v"), PrevKv: true}, Lazy); err != nil {
				t.Fatal(err)
			}
			o = b.Owed()
			o.Drop()
		}
		if at != quickKeys+1 {
			t.Errorf("%d keys were read at once, want %d", at-1, quickKeys)
		}
	})
}
