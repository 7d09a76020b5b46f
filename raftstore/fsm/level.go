package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"go.etcd.io/bbolt"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// NewestLevel is the highest feature level that this program understands. It rises
// by one with each version that adds kinds of requests or changes what one means.
const NewestLevel = 2

// firstLevel is in force where no other one was agreed.
const firstLevel = 1

// ErrLevelNotReady: a member of the cluster does not understand that level, or has
// not said so. The level stays as it is.
var ErrLevelNotReady = errors.New("fsm: not all members understand that feature level")

var keyLevel = []byte("level")

// LevelOf is the feature level from which on a kind may be proposed. A kind that is
// added to a later version gets a case here, and NewestLevel the same number.
func LevelOf(kind Kind) uint32 {
	switch kind {
	case KindReserved:
		return math.MaxUint32
	case KindAuditAnchor:
		return 2
	}
	return firstLevel
}

// Capable is the highest level that all members understand, learners too; 0 while
// one of them has not told.
func (m *Members) Capable() uint32 {
	if len(m.list) == 0 {
		return 0
	}
	lowest := m.list[0].Level
	for _, e := range m.list {
		lowest = min(lowest, e.Level)
	}
	return lowest
}

// applyLevel raises the level. Whether all members understand it is decided here:
// one may have been added since the entry was proposed. One that is added later, and
// does not, finds the level in the state that it is sent, and stops.
func (m *Machine) applyLevel(index uint64, body []byte) Result {
	var r conclavepb.FeatureLevel
	m.decode(index, body, &r)
	switch {
	case r.Level <= m.level:
		return Result{}
	case r.Level > m.members.Capable():
		return Result{Err: ErrLevelNotReady}
	case r.Level > m.newest:
		m.log.Panic().Uint64("index", index).Uint32("level", r.Level).Uint32("understood", m.newest).
			Msg("the log goes on at a feature level that this version does not understand; start a newer version on this data directory")
	}
	m.level, m.changed.level = r.Level, r.Level
	return Result{}
}

func writeLevel(tx *bbolt.Tx, level uint32) error {
	return tx.Bucket(bucketOwn).Put(keyLevel, binary.BigEndian.AppendUint32(nil, level))
}

// loadLevel reads what writeLevel wrote, into a program that understands newest.
func loadLevel(own *bbolt.Bucket, newest uint32) (uint32, error) {
	raw := own.Get(keyLevel)
	switch {
	case raw == nil:
		return firstLevel, nil
	case len(raw) != 4:
		return 0, damage{-1, fmt.Sprintf("its feature level is %x", raw)}
	}
	level := binary.BigEndian.Uint32(raw)
	if level > newest {
		return 0, fmt.Errorf("%w: it is at feature level %d, this program understands up to %d", ErrNewerFormat, level, newest)
	}
	return level, nil
}
