package kv

import (
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/protowire"
)

// An Event is one record as watches see it. It is shared by all watches that
// get it: nobody alters what its methods return.
type Event struct {
	rev   revision
	enc   []byte // of mvccpb.KeyValue
	proto atomic.Pointer[mvccpb.Event]
	prev  atomic.Pointer[mvccpb.Event] // with prev_kv
}

// newEvent makes the event of a record. A deletion's record has the key alone;
// its event tells the revision too.
func newEvent(r revision, enc []byte) *Event {
	if r.tomb {
		del := record{key: encodedKey(enc), mod: r.main}
		enc = del.encode()
	}
	return &Event{rev: r, enc: enc}
}

// Rev is the revision of the event.
func (e *Event) Rev() int64 { return e.rev.main }

// Deleted reports whether the event is the deletion of its key.
func (e *Event) Deleted() bool { return e.rev.tomb }

// Key is the key that changed.
func (e *Event) Key() []byte { return encodedKey(e.enc) }

// Proto is the event in etcd's form, without prev_kv.
func (e *Event) Proto() *mvccpb.Event {
	if p := e.proto.Load(); p != nil {
		return p
	}
	p := &mvccpb.Event{Kv: &mvccpb.KeyValue{}}
	if e.rev.tomb {
		p.Type = mvccpb.Event_DELETE
	}
	if !fill(p.Kv, e.enc) {
		panic("kv: the record of an event cannot be decoded")
	}
	e.proto.Store(p)
	return p
}

// AppendField appends what Proto encodes to, as a field of a message.
func (e *Event) AppendField(b []byte, field protowire.Number) []byte {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(e.size()))
	if e.rev.tomb {
		b = protowire.AppendTag(b, 1, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(mvccpb.Event_DELETE))
	}
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	return protowire.AppendBytes(b, e.enc)
}

// FieldSize is the length, in bytes, of what AppendField appends.
func (e *Event) FieldSize(field protowire.Number) int {
	return protowire.SizeTag(field) + protowire.SizeBytes(e.size())
}

func (e *Event) size() int {
	n := protowire.SizeTag(2) + protowire.SizeBytes(len(e.enc))
	if e.rev.tomb {
		n += protowire.SizeTag(1) + protowire.SizeVarint(uint64(mvccpb.Event_DELETE))
	}
	return n
}

// WithPrev is Proto with prev_kv, for events that a watch with PrevKV got.
func (e *Event) WithPrev() *mvccpb.Event {
	if p := e.prev.Load(); p != nil {
		return p
	}
	return e.Proto()
}

// withPrev returns an event whose WithPrev tells what v knows of the value that the
// key had at the revision before: nothing if there was none or that revision is
// compacted. The first of the watches that want it looks it up for all; what it
// found may be compacted for a later one.
func (e *Event) withPrev(v *View) (*Event, error) {
	before := e.rev.main - 1
	if before < v.compactRev {
		bare := &Event{rev: e.rev, enc: e.enc}
		bare.prev.Store(bare.Proto())
		return bare, nil
	}
	if e.prev.Load() != nil {
		return e, nil
	}
	p := e.Proto()
	with := &mvccpb.Event{Type: p.Type, Kv: p.Kv}
	if entry := v.root.get(e.Key()); entry != nil {
		if r, found := entry.at(before); found {
			kvs := make([]mvccpb.KeyValue, 1)
			switch err := v.load([]hit{{entry, r}}, kvs, before, true); {
			case err == nil:
				with.PrevKv = &kvs[0]
			case !IsAnswer(err):
				return nil, err
			}
		}
	}
	e.prev.Store(with)
	return e, nil
}
