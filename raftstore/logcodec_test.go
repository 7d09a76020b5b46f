package raftstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"reflect"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

var _ wal.Codec = (*entryCodec)(nil)

// fullEntry has a value in every field that raft.Log has.
func fullEntry(t *testing.T) *raft.Log {
	l := &raft.Log{
		Index:      300,
		Term:       1 << 40,
		Type:       raft.LogConfiguration,
		Data:       []byte("data"),
		Extensions: []byte("extensions"),
		AppendedAt: time.Unix(1_800_000_000, 123_456_789),
	}
	v := reflect.ValueOf(*l)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Fatalf("raft.Log has a field %s that the codec does not know", v.Type().Field(i).Name)
		}
	}
	return l
}

func sameEntry(a, b *raft.Log) bool {
	return a.Index == b.Index && a.Term == b.Term && a.Type == b.Type && bytes.Equal(a.Data, b.Data) &&
		bytes.Equal(a.Extensions, b.Extensions) && a.AppendedAt.Equal(b.AppendedAt)
}

func encoded(t *testing.T, c *entryCodec, l *raft.Log) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := c.Encode(l, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestEntryCodec_everyField(t *testing.T) {
	full := fullEntry(t)
	logs := []*raft.Log{full, {Index: 1}, {Index: 1 << 63, Term: 1<<64 - 1, Type: raft.LogNoop}}
	for i := range reflect.TypeFor[raft.Log]().NumField() { // each field empty, and each alone
		without, alone := *full, raft.Log{Index: 9}
		reflect.ValueOf(&without).Elem().Field(i).SetZero()
		reflect.ValueOf(&alone).Elem().Field(i).Set(reflect.ValueOf(full).Elem().Field(i))
		logs = append(logs, &without, &alone)
	}
	for _, synced := range []uint64{0, 7, 299, 1 << 50} {
		c := &entryCodec{}
		c.synced.Store(synced)
		for _, l := range logs {
			var got raft.Log
			b := encoded(t, c, l)
			if err := c.Decode(b, &got); err != nil || !sameEntry(&got, l) {
				t.Errorf("got %v, want %v: %v", got, *l, err)
			}
			at, err := decodeEntry(b, &got)
			if err != nil || at != min(synced, l.Index) {
				t.Errorf("entry %d was written when %d was durable, not %d: %v", l.Index, synced, at, err)
			}
			clear(b)
			if got := got; !bytes.Equal(got.Data, make([]byte, len(l.Data))) {
				t.Error("decodeEntry copied")
			}
		}
	}
}

// What is decoded does not change with the bytes it came from.
func TestEntryCodec_sharesNothing(t *testing.T) {
	c, want := &entryCodec{}, fullEntry(t)
	b := encoded(t, c, want)
	var got raft.Log
	if err := c.Decode(b, &got); err != nil {
		t.Fatal(err)
	}
	clear(b)
	got.Extensions = append(got.Extensions, "more"...)
	if got.Extensions = got.Extensions[:len(want.Extensions)]; !sameEntry(&got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// No change of any bit goes unnoticed, nor a missing end.
func TestCVE202015106And202015112_craftedLogRecords(t *testing.T) {
	c := &entryCodec{}
	b := encoded(t, c, fullEntry(t))
	var l raft.Log
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if err := c.Decode(b, &l); !errors.Is(err, errBadEntry) {
				t.Errorf("bit %d of byte %d: %v", bit, i, err)
			}
			b[i] ^= 1 << bit
		}
		if err := c.Decode(b[:i], &l); !errors.Is(err, errBadEntry) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
}

func TestEntryCodec_allocations(t *testing.T) {
	if testing.Short() {
		t.Skip("short tests run under the race detector, which allocates too")
	}
	c := &entryCodec{}
	l := fullEntry(t)
	l.Data = make([]byte, 1000)
	if n := testing.AllocsPerRun(100, func() {
		var buf bytes.Buffer
		if err := c.Encode(l, &buf); err != nil {
			t.Fatal(err)
		}
	}); n > 2 { // one is the buffer itself
		t.Errorf("encoding allocates %v times", n)
	}
	b := encoded(t, c, l)
	var got raft.Log
	if n := testing.AllocsPerRun(100, func() {
		if err := c.Decode(b, &got); err != nil {
			t.Fatal(err)
		}
	}); n > 1 {
		t.Errorf("decoding allocates %v times", n)
	}
}

// Bytes either are no entry, or exactly what encoding gives again.
func FuzzEntryCodec(f *testing.F) {
	c := &entryCodec{}
	c.synced.Store(12)
	for _, l := range []*raft.Log{
		{Index: 1, Term: 1, Data: []byte("x")},
		{Index: 20, Term: 3, Type: raft.LogNoop, Extensions: recordCommit(19), AppendedAt: time.Unix(5, 7)},
	} {
		f.Add(c.append(nil, l)[entryType:])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		b := binary.LittleEndian.AppendUint32(make([]byte, entryChecksum), uint32(entryType+len(body)))
		b = append(b, body...)
		binary.LittleEndian.PutUint32(b, crc32.Checksum(b[entryChecksum:], castagnoli))
		var l raft.Log
		c := &entryCodec{}
		if err := c.Decode(b, &l); err != nil {
			if !errors.Is(err, errBadEntry) {
				t.Fatal(err)
			}
			return
		}
		synced, err := decodeEntry(b, &l)
		c.synced.Store(synced)
		if again := c.append(nil, &l); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is read as %v, which is written as %x: %v", b, l, again, err)
		}
	})
}

func benchmarkCodec(b *testing.B, c wal.Codec) {
	l := &raft.Log{Index: 1234567, Term: 7, Data: make([]byte, 4000), Extensions: recordCommit(1234560), AppendedAt: time.Now()}
	var raw []byte
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var buf bytes.Buffer
			if err := c.Encode(l, &buf); err != nil {
				b.Fatal(err)
			}
			raw = buf.Bytes()
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		var got raft.Log
		for b.Loop() {
			if err := c.Decode(raw, &got); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkEntryCodec(b *testing.B)   { benchmarkCodec(b, &entryCodec{}) }
func BenchmarkLibraryCodec(b *testing.B) { benchmarkCodec(b, &wal.BinaryCodec{}) }
