package kv

import (
	"bytes"
	"math"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

func FuzzRecord_encodesAsProtobuf(f *testing.F) {
	f.Add([]byte("key"), []byte("value"), int64(1), int64(2), int64(3), int64(4))
	f.Add([]byte{}, []byte{}, int64(0), int64(0), int64(0), int64(0))
	f.Add(bytes.Repeat([]byte("k"), 127), bytes.Repeat([]byte("v"), 128), int64(-1), int64(math.MaxInt64), int64(127), int64(128))
	f.Add(bytes.Repeat([]byte("k"), 20_000), []byte(nil), int64(math.MinInt64), int64(1<<35), int64(1), int64(-5))
	f.Fuzz(func(t *testing.T, key, value []byte, create, mod, version, lease int64) {
		want, err := proto.Marshal(&mvccpb.KeyValue{
			Key: key, Value: value, CreateRevision: create, ModRevision: mod, Version: version, Lease: lease,
		})
		if err != nil {
			t.Fatal(err)
		}
		r := record{key: key, value: value, create: create, mod: mod, version: version, lease: lease}
		got := r.encode()
		if !bytes.Equal(got, want) {
			t.Fatalf("encoded %x, proto.Marshal %x", got, want)
		}
		if len(got) != cap(got) || len(got) != r.size() {
			t.Fatalf("%d bytes in %d, announced %d", len(got), cap(got), r.size())
		}
		if !bytes.Equal(encodedKey(got), key) {
			t.Fatalf("key %x, want %x", encodedKey(got), key)
		}
		var back record
		if !back.decode(got) {
			t.Fatal("own encoding refused")
		}
		if !bytes.Equal(back.encode(), want) {
			t.Fatalf("decoded to %+v", back)
		}
	})
}

func FuzzRecord_decodesAsProtobuf(f *testing.F) {
	seed, _ := proto.Marshal(&mvccpb.KeyValue{Key: []byte("k"), Value: []byte("v"), ModRevision: 300, Lease: -1})
	f.Add(seed)
	f.Add(append(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 7), seed...))
	f.Add([]byte{0x3d, 1, 2, 3, 4, 0x0a, 1, 'k'})
	f.Add([]byte{0x0a, 1, 'k', 0x02, 1, 'v'}) // a field 0
	f.Add(append(protowire.AppendVarint(nil, 1<<32), seed...))
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r record
		if !r.decode(b) {
			return // refusing is safe: the process stops and says so
		}
		var kv mvccpb.KeyValue
		if err := proto.Unmarshal(b, &kv); err != nil {
			t.Fatalf("%x is taken, and protobuf says %v", b, err)
		}
		got := mvccpb.KeyValue{Key: r.key, Value: r.value, CreateRevision: r.create, ModRevision: r.mod, Version: r.version, Lease: r.lease}
		kv.ProtoReflect().SetUnknown(nil)
		if !proto.Equal(&got, &kv) {
			t.Fatalf("%x decodes to %v, protobuf says %v", b, &got, &kv)
		}
	})
}

func FuzzRevision_key(f *testing.F) {
	f.Add(int64(1), uint32(0), false, []byte("x"))
	f.Add(int64(math.MaxInt64), uint32(maxSub), true, []byte{})
	f.Fuzz(func(t *testing.T, main int64, sub uint32, tomb bool, junk []byte) {
		if _, err := parseRevKey(junk); err == nil && len(junk) < revKeyLen {
			t.Fatalf("%x taken for a revision", junk)
		}
		if main < 0 || sub > maxSub {
			return
		}
		want := revision{main, sub, tomb}
		got, err := parseRevKey(appendRevKey(nil, want))
		if err != nil || got != want {
			t.Fatalf("%v became %v, %v", want, got, err)
		}
		if back := packRev(want).unpack(); back != want {
			t.Fatalf("%v packed became %v", want, back)
		}
	})
}
