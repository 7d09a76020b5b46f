package member

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/conclave-kv/conclave/raftstore"
)

// When free space in the state file is given back without being asked for.
const (
	// quietEvery is how often a member looks.
	quietEvery = time.Minute
	// quietLeast is how much must be free in the file, and quietShare what part
	// of it, for copying the rest to be worth it.
	quietLeast = 64 << 20
	quietShare = 3
	// quietAgain is the shortest time between two attempts.
	quietAgain = 10 * time.Minute
	// turnLasts is how long a member that the leader gave its turn may go
	// without asking again, and turnAsk how often it does.
	turnLasts = 30 * time.Second
	turnAsk   = 5 * time.Second
	// busyCommit is a commit to the state file that took so long that the disk
	// has something else to do, and busyBacklog so much waiting for one.
	busyCommit  = 500 * time.Millisecond
	busyBacklog = 8 << 20
)

// errNotMyTurn: another member is defragmenting.
var errNotMyTurn = errors.New("another member is defragmenting its state file")

var errMalformed = errors.New("malformed request of a member")

// quiet is defragmentation that nobody asked for: on one member at a time, and
// not on a busy disk.
type quiet struct {
	d     *defragmenter
	every time.Duration
	least int64
	last  time.Time
	asked time.Time // when the leader was last asked for the turn
}

func newQuiet(d *defragmenter) *quiet {
	q := &quiet{d: d, every: quietEvery, least: quietLeast}
	if own := d.m.cfg.DefragFree; own > 0 {
		q.least, q.every = own, time.Second
	}
	return q
}

// atStart is --bootstrap-defrag-threshold-megabytes. Unlike etcd's it is done
// beside serving.
func (q *quiet) atStart() {
	m := q.d.m
	if m.cfg.DefragAtStart == 0 {
		return
	}
	total, inUse, err := m.machine.Size()
	if err == nil && total-inUse >= m.cfg.DefragAtStart {
		q.d.serve(func() error { return nil })
		return
	}
	m.cfg.Log.Info().Int64("current-db-size-bytes", total).Int64("current-db-size-in-use-bytes", inUse).
		Int64("bootstrap-defrag-threshold-bytes", m.cfg.DefragAtStart).Msg("Skipping defragmentation")
}

// look defragments if it is worth it, there is room, nobody reads a snapshot,
// which would be ended before long, and it is this member's turn.
func (q *quiet) look() {
	m := q.d.m
	if !m.cfg.BackgroundDefrag || time.Since(q.last) < quietAgain && q.every == quietEvery || m.snapshots.Load() > 0 || !q.worth() || q.busy() {
		return
	}
	if q.turn(turnTake) != nil {
		return
	}
	q.last, q.asked = time.Now(), time.Now()
	q.d.serve(q.more)
	_ = q.turn(turnEnd) // it ends by itself
}

// worth reports whether enough is free, and a copy has room.
func (q *quiet) worth() bool {
	total, inUse, err := q.d.m.machine.Size()
	free := total - inUse
	return err == nil && free >= q.least && free >= total/quietShare && q.d.room(inUse) == nil
}

// busy reports whether the disk has other work to do.
func (q *quiet) busy() bool {
	m := q.d.m
	return m.machine.Backlog() > busyBacklog || m.committer.last() > busyCommit || m.node.Stuck() > busyCommit || m.node.Full()
}

// more is asked between steps.
func (q *quiet) more() error {
	for range 10 { // a disk that stays busy is slow, and so are the steps
		if !q.busy() {
			break
		}
		if !pause(q.d.m.ctx, 100*time.Millisecond) {
			return ErrStopped
		}
	}
	if time.Since(q.asked) < turnAsk {
		return nil
	}
	q.asked = time.Now()
	return q.turn(turnTake)
}

// What a member tells the leader: one byte.
const (
	turnTake = 't' // it wants to begin, or go on
	turnEnd  = 'e'
)

// turn asks the leader.
func (q *quiet) turn(what byte) error {
	m := q.d.m
	ctx, cancel := context.WithTimeout(m.ctx, turnAsk)
	defer cancel()
	switch leader := m.Leader(); leader {
	case 0:
		return ErrNoLeader
	case m.cfg.ID:
		return m.turns.ask(m.cfg.ID, what, time.Now())
	default:
		_, err := m.mesh.Call(ctx, leader, raftstore.KindDefragTurn, []byte{what})
		return err
	}
}

// answerTurn is the leader's part.
func (m *Member) answerTurn(_ context.Context, from uint64, payload []byte) ([]byte, error) {
	if m.Leader() != m.cfg.ID {
		return nil, ErrNotLeader
	}
	if len(payload) != 1 {
		return nil, errMalformed
	}
	return nil, m.turns.ask(from, payload[0], time.Now())
}

// defragTurns has one member at a time defragment in the background. After a change of
// leader there may be two for a while, which is no harm.
type defragTurns struct {
	mu     sync.Mutex
	holder uint64 // 0: none
	until  time.Time
}

func (t *defragTurns) ask(member uint64, what byte, now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.holder != 0 && t.holder != member && now.Before(t.until):
		return errNotMyTurn
	case what == turnEnd:
		t.holder = 0
	default:
		t.holder, t.until = member, now.Add(turnLasts)
	}
	return nil
}
