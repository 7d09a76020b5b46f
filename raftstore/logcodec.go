package raftstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// entryCodecID marks segments whose entries are written by entryCodec. A changed
// encoding gets another one.
const entryCodecID = wal.FirstExternalCodecID + 0xc0c1

// An encoded entry is, in this order: the CRC-32C of what follows and the size
// of all of it (4 bytes each, little endian); the entry's type, with timeless if
// it has no time; and as
// varints its index, its term, how far below its index the log was on stable
// storage when it was written, its time in seconds (signed) and nanoseconds,
// and the length of its extensions; the extensions; the data, up to the end.
const (
	entryChecksum = 4
	entryType     = 8
	entryFields   = 9
	timeless      = 0x80
	entryHead     = entryFields + 6*binary.MaxVarintLen64
)

// errBadEntry: bytes are no encoded entry.
var errBadEntry = errors.New("raftstore: not an entry of the log")

// entryCodec is the encoding of entries on disk (a wal.Codec).
type entryCodec struct {
	// synced is the newest index on stable storage. Each entry says so of its
	// time, which later tells a write that a crash tore, behind which there is
	// nothing, from damage to what was synced: see tornTail.
	synced atomic.Uint64
}

// ID marks the encoding.
func (c *entryCodec) ID() uint64 { return entryCodecID }

// Encode writes an entry to w, with one allocation if w is a new bytes.Buffer.
func (c *entryCodec) Encode(l *raft.Log, w io.Writer) error {
	size := entryHead + len(l.Extensions) + len(l.Data)
	var b []byte
	buf, ok := w.(*bytes.Buffer)
	if ok {
		buf.Grow(size)
		b = buf.AvailableBuffer()
	} else {
		b = make([]byte, 0, size)
	}
	_, err := w.Write(c.append(b, l))
	return err
}

// append encodes an entry behind b.
func (c *entryCodec) append(b []byte, l *raft.Log) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, byte(l.Type))
	if l.AppendedAt.IsZero() {
		b[start+entryType] |= timeless
	}
	b = binary.AppendUvarint(b, l.Index)
	b = binary.AppendUvarint(b, l.Term)
	b = binary.AppendUvarint(b, l.Index-min(l.Index, c.synced.Load()))
	if !l.AppendedAt.IsZero() {
		b = binary.AppendVarint(b, l.AppendedAt.Unix())
		b = binary.AppendUvarint(b, uint64(l.AppendedAt.Nanosecond()))
	}
	b = binary.AppendUvarint(b, uint64(len(l.Extensions)))
	b = append(b, l.Extensions...)
	b = append(b, l.Data...)
	binary.LittleEndian.PutUint32(b[start+entryChecksum:], uint32(len(b)-start))
	binary.LittleEndian.PutUint32(b[start:], crc32.Checksum(b[start+entryChecksum:], castagnoli))
	return b
}

// Decode reads an entry; l then shares no memory with b.
func (c *entryCodec) Decode(b []byte, l *raft.Log) error {
	_, err := decodeEntry(b, l)
	if err != nil {
		return err
	}
	if n := len(l.Extensions) + len(l.Data); n > 0 {
		own := append(append(make([]byte, 0, n), l.Extensions...), l.Data...)
		l.Data = own[len(l.Extensions):]
		l.Extensions = own[:len(l.Extensions):len(l.Extensions)]
	}
	return nil
}

// decodeEntry reads an entry whose data stays in b, and the newest index that
// was on stable storage when it was written.
func decodeEntry(b []byte, l *raft.Log) (synced uint64, err error) {
	*l = raft.Log{}
	if len(b) <= entryType {
		return 0, fmt.Errorf("%w: %d bytes", errBadEntry, len(b))
	}
	if size := binary.LittleEndian.Uint32(b[entryChecksum:]); uint64(size) != uint64(len(b)) {
		return 0, fmt.Errorf("%w: %d bytes, recorded %d", errBadEntry, len(b), size)
	}
	want := binary.LittleEndian.Uint32(b)
	if got := crc32.Checksum(b[entryChecksum:], castagnoli); got != want {
		return 0, fmt.Errorf("%w: checksum %08x, recorded %08x", errBadEntry, got, want)
	}
	r := entryReader{b: b[entryFields:]}
	kind := b[entryType]
	l.Type = raft.LogType(kind &^ timeless)
	l.Index, l.Term = r.uvarint(), r.uvarint()
	behind := r.uvarint()
	if kind&timeless == 0 {
		seconds, nanos := r.varint(), r.uvarint()
		l.AppendedAt = time.Unix(seconds, int64(nanos))
		r.bad = r.bad || nanos >= uint64(time.Second) || l.AppendedAt.IsZero()
	}
	extensions := r.uvarint()
	if r.bad || behind > l.Index || extensions > uint64(len(r.b)) {
		return 0, fmt.Errorf("%w: bad field", errBadEntry)
	}
	if extensions > 0 {
		l.Extensions = r.b[:extensions:extensions]
	}
	if data := r.b[extensions:]; len(data) > 0 {
		l.Data = data
	}
	return l.Index - behind, nil
}

// entryReader takes varints off b; bad says that one was not there.
type entryReader struct {
	b   []byte
	bad bool
}

func (r *entryReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	return take(r, v, n)
}

func (r *entryReader) varint() int64 {
	v, n := binary.Varint(r.b)
	return take(r, v, n)
}

// take accepts a number of n bytes; only the shortest form of one is written.
func take[T int64 | uint64](r *entryReader, v T, n int) T {
	if n <= 0 || n > 1 && r.b[n-1] == 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}
