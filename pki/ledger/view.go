package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "github.com/conclave-kv/conclave/internal/conclavepb"
)

// View is the ledger at one point of the log. It never changes and is safe for
// concurrent use; so are the messages it hands out, which nobody may modify.
type View struct {
	generations []*pb.Generation // by number, from 1
	members     map[uint64]*pb.CertifiedMember
	issued      map[string]*pb.Issued // by serial
	earliest    int64                 // no record ends before this
}

// Generation returns the running CAs. ok is false before the cluster has any;
// a nil View has none.
func (v *View) Generation() (g *pb.Generation, ok bool) {
	if v == nil || len(v.generations) == 0 {
		return nil, false
	}
	return v.generations[len(v.generations)-1], true
}

// Certified returns the latest certificate of a member. ok is false for a
// member that never had one of the running CAs.
func (v *View) Certified(id uint64) (m *pb.CertifiedMember, ok bool) {
	if v == nil {
		return nil, false
	}
	m, ok = v.members[id]
	return m, ok
}

// Members returns the latest certificates of all members, by id.
func (v *View) Members() []*pb.CertifiedMember {
	if v == nil {
		return nil
	}
	out := make([]*pb.CertifiedMember, 0, len(v.members))
	for _, id := range slices.Sorted(maps.Keys(v.members)) {
		out = append(out, v.members[id])
	}
	return out
}

// Issued returns the inventory, by end of validity and then serial.
func (v *View) Issued() []*pb.Issued {
	if v == nil {
		return nil
	}
	return slices.SortedFunc(maps.Values(v.issued), func(a, b *pb.Issued) int {
		if a.GetNotAfter() != b.GetNotAfter() {
			return int(min(max(a.GetNotAfter()-b.GetNotAfter(), -1), 1))
		}
		return bytes.Compare(a.GetSerial(), b.GetSerial())
	})
}

// Digest is a hash over everything in the view, for comparing members that run
// the same program.
func (v *View) Digest() [sha256.Size]byte {
	h := sha256.New()
	if v != nil {
		for _, g := range v.generations {
			digest(h, g)
		}
		for _, m := range v.Members() {
			digest(h, m)
		}
		for _, i := range v.Issued() {
			digest(h, i)
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// digest adds one message with its type and length.
func digest(h io.Writer, m proto.Message) {
	b := mustMarshal(m)
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(b)))
	_, _ = io.WriteString(h, string(m.ProtoReflect().Descriptor().Name())) // a hash does not fail
	_, _ = h.Write(n[:])
	_, _ = h.Write(b)
}

// mustMarshal encodes a message that was decoded from a command: it cannot
// fail, and below the log there is no answer to it if it did.
func mustMarshal(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("ledger: encode a record: %v", err))
	}
	return b
}
