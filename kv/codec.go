package kv

import (
	"encoding/binary"
	"math/bits"
)

// The wire tags of mvccpb.KeyValue's fields: field number << 3 | wire type.
const (
	tagKey     = 1<<3 | 2
	tagCreate  = 2<<3 | 0
	tagMod     = 3<<3 | 0
	tagVersion = 4<<3 | 0
	tagValue   = 5<<3 | 2
	tagLease   = 6<<3 | 0
)

// What a tag may be: fields are numbered from 1 to 2^29-1.
const (
	minTag = 1 << 3
	maxTag = (1<<29-1)<<3 | 7
)

// A record is a decoded mvccpb.KeyValue. Decoded slices alias the encoding.
type record struct {
	key, value           []byte
	create, mod, version int64
	lease                int64
}

func varintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

func bytesFieldLen(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	return 1 + varintLen(uint64(len(b))) + len(b)
}

func intFieldLen(v int64) int {
	if v == 0 {
		return 0
	}
	return 1 + varintLen(uint64(v))
}

// size returns the length of the record's encoding.
func (r *record) size() int {
	return bytesFieldLen(r.key) + intFieldLen(r.create) + intFieldLen(r.mod) +
		intFieldLen(r.version) + bytesFieldLen(r.value) + intFieldLen(r.lease)
}

// encode returns the record as proto.Marshal would encode it: fields in the
// order of their numbers, zero values left out. The result has no spare
// capacity and shares nothing with r.
func (r *record) encode() []byte { return r.appendTo(make([]byte, 0, r.size())) }

// appendTo appends to b what encode returns.
func (r *record) appendTo(b []byte) []byte {
	b = appendBytesField(b, tagKey, r.key)
	b = appendIntField(b, tagCreate, r.create)
	b = appendIntField(b, tagMod, r.mod)
	b = appendIntField(b, tagVersion, r.version)
	b = appendBytesField(b, tagValue, r.value)
	return appendIntField(b, tagLease, r.lease)
}

func appendBytesField(b []byte, tag byte, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	b = append(b, tag)
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

func appendIntField(b []byte, tag byte, v int64) []byte {
	if v == 0 {
		return b
	}
	b = append(b, tag)
	return binary.AppendUvarint(b, uint64(v))
}

// decode reads an encoding of mvccpb.KeyValue with its fields in any order.
// Unknown fields are skipped. It reports whether b is well formed, and takes
// nothing that protobuf refuses, which etcd and its tools decode it with.
func (r *record) decode(b []byte) bool {
	*r = record{}
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag < minTag || tag > maxTag {
			return false
		}
		b = b[n:]
		var num uint64
		var data []byte
		switch tag & 7 {
		case 0, 2:
			if num, n = binary.Uvarint(b); n <= 0 {
				return false
			}
			b = b[n:]
		case 1:
			num = 8
		case 5:
			num = 4
		default:
			return false
		}
		if tag&7 != 0 {
			if num > uint64(len(b)) {
				return false
			}
			data, b = b[:num:num], b[num:]
		}
		r.set(tag, num, data)
	}
	return true
}

func (r *record) set(tag, num uint64, data []byte) {
	switch tag {
	case tagKey:
		r.key = data
	case tagCreate:
		r.create = int64(num)
	case tagMod:
		r.mod = int64(num)
	case tagVersion:
		r.version = int64(num)
	case tagValue:
		r.value = data
	case tagLease:
		r.lease = int64(num)
	}
}

// encodedKey returns the key of an encoding that begins with it, as every
// encoding made here does. An empty encoding has the empty key: etcd's restore
// tool writes such a record to raise the revision.
func encodedKey(b []byte) []byte {
	if len(b) < 2 || b[0] != tagKey {
		return nil
	}
	if n := int(b[1]); n < 0x80 {
		return b[2 : 2+n : 2+n]
	}
	n, w := binary.Uvarint(b[1:])
	start, end := 1+w, 1+w+int(n)
	return b[start:end:end]
}
