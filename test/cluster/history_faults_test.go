package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

var prefixed = []clientv3.OpOption{clientv3.WithPrefix()}

// faults are what happens in each history after an install, in an order of its
// own.
var faults = []struct {
	name string
	play func(*history)
}{
	{"the leader ends", func(h *history) { h.restart(h.leader(), 50) }},
	{"a follower ends", func(h *history) { h.restart((h.leader()+1+h.rng.IntN(2))%3, 50) }},
	{"leadership moves", (*history).move},
	{"compaction", func(h *history) { h.compact(h.rng.Int64N(100)) }},
	{"compaction of all", func(h *history) { h.compact(0) }},
	{"the leader is cut off", func(h *history) { h.cutOff(h.leader()) }},
	{"a follower is cut off", func(h *history) { h.cutOff((h.leader() + 1) % 3) }},
	{"clients do not read", (*history).stall},
}

// leader waits until a member leads.
func (h *history) leader() (leader int) {
	h.t.Helper()
	eventually(h.t, outageOfWriters, "a leader", func() error {
		if leader = h.sys.leader(); leader < 0 {
			return errNobody
		}
		return nil
	})
	return leader
}

// restart ends a member and starts it again when so many writes went by.
func (h *history) restart(member, writes int) {
	h.t.Helper()
	h.sys.end(member) // with writes through it under way
	h.writers.avoid.Store(int64(member))
	h.writers.more(writes)
	h.sys.begin(member)
	h.serves(member)
	h.writers.avoid.Store(nobody)
	h.writers.more(20)
}

// serves waits until a member answers a linearizable read.
func (h *history) serves(member int) {
	h.t.Helper()
	eventually(h.t, outageOfWriters, fmt.Sprintf("member %d to serve", member), func() error {
		ctx, cancel := context.WithTimeout(h.ctx, 3*time.Second)
		defer cancel()
		_, err := h.members[member].Get(ctx, historyPrefix)
		return err
	})
}

// install keeps a follower from the others until they have cut their logs: it
// gets the state as a whole, under watches that go on. After an install a leader
// keeps its log for a minute, so this comes before the other faults.
func (h *history) install() {
	h.t.Helper()
	before := h.sys.installs()
	for range 3 {
		follower := (h.leader() + 1 + h.rng.IntN(2)) % 3
		h.sys.cutOff(follower)
		h.writers.avoid.Store(int64(follower))
		h.writers.more(2000) // of which one entry of the log may hold several
		h.sys.rejoin(follower)
		h.serves(follower)
		h.writers.avoid.Store(nobody)
		if h.sys.installs() > before {
			return
		}
	}
	h.t.Error("no member got the state as a whole")
}

// move hands leadership over.
func (h *history) move() {
	h.t.Helper()
	eventually(h.t, outageOfWriters, "leadership to move", func() error {
		leader := h.leader()
		to := (leader + 1 + h.rng.IntN(2)) % 3
		ctx, cancel := context.WithTimeout(h.ctx, 3*time.Second)
		defer cancel()
		status, err := h.members[to].Status(ctx, h.sys.config(to).Endpoints[0])
		if err != nil {
			return err
		}
		_, err = h.members[leader].MoveLeader(ctx, status.Header.MemberId)
		return err
	})
	h.writers.more(50)
}

// compact compacts to what the watch of everything has seen, less some.
func (h *history) compact(less int64) {
	h.t.Helper()
	least := max(h.first, h.compacted) + 1
	eventually(h.t, outageOfWriters, "something to compact", func() error {
		if at := h.scribe.at(); at < least {
			return fmt.Errorf("revision %d of %d was seen", at, least)
		}
		return nil
	})
	to := max(least, h.scribe.at()-less)
	var opts []clientv3.CompactOption
	if h.rng.IntN(2) == 0 {
		opts = append(opts, clientv3.WithCompactPhysical())
	}
	eventually(h.t, outageOfWriters, "a compaction", func() error {
		ctx, cancel := context.WithTimeout(h.ctx, 5*time.Second)
		defer cancel()
		_, err := h.all.Compact(ctx, to, opts...)
		if err != nil && h.compacted < to && errors.Is(err, rpctypes.ErrCompacted) {
			return nil // by an attempt without an answer
		}
		return err
	})
	h.compacted = max(h.compacted, to)
	h.writers.more(50)
}

// cutOff keeps a member from the others, for less or more than they wait for a
// leader.
func (h *history) cutOff(member int) {
	h.t.Helper()
	h.sys.cutOff(member)
	time.Sleep(time.Duration(200+h.rng.IntN(1500)) * time.Millisecond) // how long it lasts is the fault
	h.sys.rejoin(member)
	h.serves(member)
	h.writers.more(20)
}

// stall has clients not read while a lot is written.
func (h *history) stall() {
	h.t.Helper()
	h.stalled.shut()
	defer h.stalled.unshut()
	h.writers.more(400)
}
