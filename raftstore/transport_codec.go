package raftstore

import (
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// Appends are written and read by hand in the wire format of RaftAppend: a
// decoded entry shares the frame's memory, where the generated code would copy
// each entry twice. A test compares the two.

// memberText is how raft knows a member.
func memberText(id uint64) string { return fmt.Sprintf("%016x", id) }

// entryOverhead is more than an entry's fields take besides its bytes.
const entryOverhead = 64

// appendSize is enough room for encodeAppend.
func appendSize(a *raft.AppendEntriesRequest) int {
	size := 128 + len(a.ID) + len(a.Addr)
	for _, e := range a.Entries {
		size += entryOverhead + len(e.Data) + len(e.Extensions)
	}
	return size
}

func encodeAppend(b []byte, a *raft.AppendEntriesRequest) []byte {
	b = putHeader(b, 1, a.RPCHeader)
	b = putUint(b, 2, a.Term)
	b = putUint(b, 3, a.PrevLogEntry)
	b = putUint(b, 4, a.PrevLogTerm)
	b = putUint(b, 5, a.LeaderCommitIndex)
	for _, e := range a.Entries {
		b = protowire.AppendTag(b, 6, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(entrySize(e)))
		b = putEntry(b, e)
	}
	return b
}

func putEntry(b []byte, e *raft.Log) []byte {
	b = putUint(b, 1, e.Index)
	b = putUint(b, 2, e.Term)
	b = putUint(b, 3, uint64(e.Type))
	b = putBytes(b, 4, e.Data)
	b = putBytes(b, 5, e.Extensions)
	return putUint(b, 6, uint64(unixNanos(e.AppendedAt)))
}

func entrySize(e *raft.Log) int {
	return uintSize(e.Index) + uintSize(e.Term) + uintSize(uint64(e.Type)) +
		bytesSize(e.Data) + bytesSize(e.Extensions) + uintSize(uint64(unixNanos(e.AppendedAt)))
}

func decodeAppend(b []byte) (*raft.AppendEntriesRequest, error) {
	a := &raft.AppendEntriesRequest{}
	err := eachField(b, func(num protowire.Number, n uint64, v []byte) error {
		switch num {
		case 1:
			return getHeader(v, &a.RPCHeader)
		case 2:
			a.Term = n
		case 3:
			a.PrevLogEntry = n
		case 4:
			a.PrevLogTerm = n
		case 5:
			a.LeaderCommitIndex = n
		case 6:
			e := &raft.Log{}
			a.Entries = append(a.Entries, e)
			return getEntry(v, e)
		}
		return nil
	})
	a.Leader = a.Addr // the field that raft keeps for its older versions
	return a, err
}

func getEntry(b []byte, e *raft.Log) error {
	return eachField(b, func(num protowire.Number, n uint64, v []byte) error {
		switch num {
		case 1:
			e.Index = n
		case 2:
			e.Term = n
		case 3:
			e.Type = raft.LogType(n)
		case 4:
			e.Data = v
		case 5:
			e.Extensions = v
		case 6:
			e.AppendedAt = time.Unix(0, int64(n))
		}
		return nil
	})
}

func encodeAppendReply(b []byte, r *raft.AppendEntriesResponse) []byte {
	b = putHeader(b, 1, r.RPCHeader)
	b = putUint(b, 2, r.Term)
	b = putUint(b, 3, r.LastLog)
	b = putUint(b, 4, protowire.EncodeBool(r.Success))
	return putUint(b, 5, protowire.EncodeBool(r.NoRetryBackoff))
}

func decodeAppendReply(b []byte, r *raft.AppendEntriesResponse) error {
	*r = raft.AppendEntriesResponse{}
	return eachField(b, func(num protowire.Number, n uint64, v []byte) error {
		switch num {
		case 1:
			return getHeader(v, &r.RPCHeader)
		case 2:
			r.Term = n
		case 3:
			r.LastLog = n
		case 4:
			r.Success = n != 0
		case 5:
			r.NoRetryBackoff = n != 0
		}
		return nil
	})
}

func putHeader(b []byte, num protowire.Number, h raft.RPCHeader) []byte {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(uintSize(uint64(h.ProtocolVersion))+bytesSize(h.ID)+bytesSize(h.Addr)))
	b = putUint(b, 1, uint64(h.ProtocolVersion))
	b = putBytes(b, 2, h.ID)
	return putBytes(b, 3, h.Addr)
}

func getHeader(b []byte, h *raft.RPCHeader) error {
	return eachField(b, func(num protowire.Number, n uint64, v []byte) error {
		switch num {
		case 1:
			h.ProtocolVersion = raft.ProtocolVersion(n)
		case 2:
			h.ID = v
		case 3:
			h.Addr = v
		}
		return nil
	})
}

// putUint leaves out a zero, as protobuf does. Field numbers are below 16, so
// that a tag is one byte.
func putUint(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

func putBytes(b []byte, num protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
}

func uintSize(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(v)
}

func bytesSize(v []byte) int {
	if len(v) == 0 {
		return 0
	}
	return 1 + protowire.SizeBytes(len(v))
}

// eachField walks a message; n is the value of a varint field, v of a bytes
// field, within b's memory.
func eachField(b []byte, field func(num protowire.Number, n uint64, v []byte) error) error {
	for len(b) > 0 {
		num, typ, size := protowire.ConsumeTag(b)
		if size < 0 {
			return fmt.Errorf("%w: %w", errBadFrame, protowire.ParseError(size))
		}
		b = b[size:]
		var n uint64
		var v []byte
		switch typ {
		case protowire.VarintType:
			n, size = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			v, size = protowire.ConsumeBytes(b)
		default:
			size = protowire.ConsumeFieldValue(num, typ, b)
		}
		if size < 0 {
			return fmt.Errorf("%w: %w", errBadFrame, protowire.ParseError(size))
		}
		if err := field(num, n, v[:len(v):len(v)]); err != nil {
			return err
		}
		b = b[size:]
	}
	return nil
}

func unixNanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func headerMessage(h raft.RPCHeader) *conclavepb.RaftHeader {
	return &conclavepb.RaftHeader{ProtocolVersion: int64(h.ProtocolVersion), Id: h.ID, Addr: h.Addr}
}

func headerOf(h *conclavepb.RaftHeader) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersion(h.GetProtocolVersion()), ID: h.GetId(), Addr: h.GetAddr()}
}

// unmarshal reads a message that peers exchange rarely.
func unmarshal(b []byte, msg proto.Message) error {
	if err := proto.Unmarshal(b, msg); err != nil {
		return fmt.Errorf("%w: %w", errBadFrame, err)
	}
	return nil
}
