package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// ErrAnchorBack: an anchor is of a record that is not newer than the member's last
// one, and not that one.
var ErrAnchorBack = errors.New("fsm: the audit log of a member must not go back")

// Bounds of the anchors kept. What is older is covered by what is newer: the
// records are a chain.
const (
	maxAnchors = 1440 // of a member: a day of one a minute
	// maxAnchored bounds the members, removed ones included, since their files may
	// still be looked at. The one whose newest anchor is the oldest makes room.
	maxAnchored = 64
)

// Anchor says what the record of a number is in a member's audit log.
type Anchor struct {
	Member, Seq uint64
	Hash        [sha256.Size]byte
	Time        int64  // in milliseconds since 1970, by that member's clock
	Index       uint64 // where it is in the replicated log
}

// Anchors is the immutable set of anchors.
type Anchors struct {
	of map[uint64][]Anchor // by member, in the order of Seq
}

// Of returns the anchors of a member, the oldest first; the caller must not change
// them.
func (a *Anchors) Of(member uint64) []Anchor { return a.of[member] }

// Newest returns the newest anchor of a member.
func (a *Anchors) Newest(member uint64) (Anchor, bool) {
	list := a.of[member]
	if len(list) == 0 {
		return Anchor{}, false
	}
	return list[len(list)-1], true
}

// anchorChange is one record of the bucket to be written, or removed.
type anchorChange struct {
	Anchor
	gone bool
}

// add returns the set with one more anchor, and what that changes.
func (a *Anchors) add(e Anchor) (*Anchors, []anchorChange) {
	next := &Anchors{of: maps.Clone(a.of)}
	if next.of == nil {
		next.of = make(map[uint64][]Anchor)
	}
	changes := []anchorChange{{Anchor: e}}
	list, known := next.of[e.Member]
	if !known && len(next.of) >= maxAnchored {
		out := next.longestSilent()
		for _, gone := range next.of[out] {
			changes = append(changes, anchorChange{gone, true})
		}
		delete(next.of, out)
	}
	for len(list) >= maxAnchors {
		changes = append(changes, anchorChange{list[0], true})
		list = list[1:]
	}
	// Views that are older see no more of the array than there was.
	next.of[e.Member] = append(list, e)
	return next, changes
}

// longestSilent is the member whose newest anchor is the oldest.
func (a *Anchors) longestSilent() (member uint64) {
	oldest := uint64(0)
	for id, list := range a.of {
		if at := list[len(list)-1].Index; oldest == 0 || at < oldest {
			member, oldest = id, at
		}
	}
	return member
}

// applyAnchor notes an anchor of a member. One that it had noted already is no
// error: the answer may have been lost.
func (m *Machine) applyAnchor(index uint64, body []byte) Result {
	var r conclavepb.AuditAnchor
	m.decode(index, body, &r)
	e := Anchor{Member: r.Member, Seq: r.Seq, Time: r.Time, Index: index}
	if len(r.Hash) != len(e.Hash) {
		m.fatal(index, fmt.Errorf("%w: the hash of an audit record has %d bytes", ErrMalformed, len(r.Hash)))
	}
	copy(e.Hash[:], r.Hash)
	if newest, there := m.anchors.Newest(e.Member); there && e.Seq <= newest.Seq {
		if e.Seq == newest.Seq && e.Hash == newest.Hash {
			return Result{}
		}
		return Result{Err: ErrAnchorBack}
	}
	next, changes := m.anchors.add(e)
	m.anchors = next
	m.changed.anchors = append(m.changed.anchors, changes...)
	m.changed.other += len(changes) * anchorBytes
	return Result{}
}

// bucketAnchors is there from the first anchor on: member and number, 8 bytes
// big-endian each: hash, time and index.
var bucketAnchors = []byte("conclave_audit_anchors")

const (
	anchorKey   = 16
	anchorValue = sha256.Size + 16
	anchorBytes = anchorKey + anchorValue
)

func (e *Anchor) key() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(make([]byte, 0, anchorKey), e.Member), e.Seq)
}

func (e *Anchor) value() []byte {
	v := append(make([]byte, 0, anchorValue), e.Hash[:]...)
	v = binary.BigEndian.AppendUint64(v, uint64(e.Time))
	return binary.BigEndian.AppendUint64(v, e.Index)
}

func writeAnchors(tx *bbolt.Tx, changes []anchorChange) error {
	bucket, err := tx.CreateBucketIfNotExists(bucketAnchors)
	if err != nil {
		return fmt.Errorf("create bucket %s: %w", bucketAnchors, err)
	}
	for _, c := range changes {
		if c.gone {
			err = bucket.Delete(c.key())
		} else {
			err = bucket.Put(c.key(), c.value())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// loadAnchors reads what writeAnchors wrote.
func loadAnchors(tx *bbolt.Tx) (*Anchors, error) {
	a := &Anchors{of: make(map[uint64][]Anchor)}
	bucket := tx.Bucket(bucketAnchors)
	if bucket == nil {
		return a, nil
	}
	err := bucket.ForEach(func(k, v []byte) error {
		if len(k) != anchorKey || len(v) != anchorValue {
			return damage{-1, fmt.Sprintf("the anchor %x of an audit log is cut", k)}
		}
		e := Anchor{
			Member: binary.BigEndian.Uint64(k), Seq: binary.BigEndian.Uint64(k[8:]),
			Time: int64(binary.BigEndian.Uint64(v[sha256.Size:])), Index: binary.BigEndian.Uint64(v[sha256.Size+8:]),
		}
		copy(e.Hash[:], v)
		a.of[e.Member] = append(a.of[e.Member], e) // bbolt keeps the order of keys
		return nil
	})
	for id, list := range a.of {
		a.of[id] = slices.Clip(list)
	}
	return a, err
}
