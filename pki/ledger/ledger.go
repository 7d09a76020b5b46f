package ledger

import (
	"maps"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "github.com/conclave-kv/conclave/internal/conclavepb"
)

// grace is how long after its end an issued certificate stays in the
// inventory, in seconds: longer than any clock that may have proposed.
const grace = 24 * 60 * 60

// Ledger is the writer's side. It is not safe for concurrent use.
type Ledger struct {
	view    *View    // the last frozen state
	draft   *View    // a copy of view with this batch's changes; nil: none yet
	owned   owned    // which maps of draft are copies already
	changes *Changes // what this batch changed; nil: nothing
}

// owned tells which parts of a draft are its own and may be written.
type owned struct{ generations, members, issued bool }

// View returns the last frozen state.
func (l *Ledger) View() *View { return l.view }

// Apply executes one command. changed tells whether the state differs from
// before. An error that wraps ErrRejected is the command's answer, the same on
// every member: nothing it asked for was done, though records that expired
// before its time may have been dropped. Any other error must stop the process.
func (l *Ledger) Apply(cmd []byte) (changed bool, err error) {
	c, err := decode(cmd)
	if err != nil {
		return false, err
	}
	switch k := c.GetKind().(type) {
	case *pb.LedgerCommand_CreateGeneration:
		changed, err = l.create(k.CreateGeneration.GetGeneration())
	case *pb.LedgerCommand_CertifyMember:
		changed, err = l.certify(k.CertifyMember, c.GetNow())
	case *pb.LedgerCommand_RecordIssued:
		changed, err = l.record(k.RecordIssued.GetIssued(), c.GetNow())
	default:
		return false, ErrUnknownCommand
	}
	return changed, err
}

// Freeze ends the batch: the returned View is never changed again, and the
// Changes (nil when nothing changed) bring the state file from the previous
// View to it.
func (l *Ledger) Freeze() (*View, *Changes) {
	if l.draft == nil {
		return l.view, nil
	}
	changes := l.changes
	l.view, l.draft, l.changes, l.owned = l.draft, nil, nil, owned{}
	return l.view, changes
}

// current is the state with this batch's changes so far.
func (l *Ledger) current() *View {
	if l.draft != nil {
		return l.draft
	}
	return l.view
}

// begin makes the draft of this batch.
func (l *Ledger) begin() *View {
	if l.draft == nil {
		v := *l.view
		l.draft, l.changes = &v, newChanges()
	}
	return l.draft
}

// create adopts the first generation. A later one of the same number lost the
// race between two leaders and changes nothing.
func (l *Ledger) create(g *pb.Generation) (bool, error) {
	if err := checkGeneration(g); err != nil {
		return false, err
	}
	have := uint64(len(l.current().generations))
	switch {
	case g.GetNumber() != 1:
		return false, reject("CA generation %d, only 1 can be created", g.GetNumber())
	case have >= g.GetNumber():
		return false, nil
	}
	d := l.begin()
	if !l.owned.generations {
		d.generations, l.owned.generations = slices.Clone(d.generations), true
	}
	d.generations = append(d.generations, g)
	l.changes.generations[g.GetNumber()] = g
	return true, nil
}

// certify replaces what is known of a member; the log's order decides which of
// two certificates is the latest.
func (l *Ledger) certify(c *pb.CertifyMember, now int64) (bool, error) {
	cur := l.current()
	if err := checkMember(c.GetMember(), len(cur.generations)); err != nil {
		return false, err
	}
	if err := checkIssued(c.GetIssued(), len(cur.generations)); err != nil {
		return false, err
	}
	changed := false
	if m := c.GetMember(); !proto.Equal(cur.members[m.GetId()], m) {
		d := l.begin()
		if !l.owned.members {
			d.members, l.owned.members = cloneMap(d.members), true
		}
		d.members[m.GetId()] = m
		l.changes.members[m.GetId()] = m
		changed = true
	}
	dropped := l.drop(now)
	added := l.add(c.GetIssued())
	return changed || dropped || added, nil
}

// record adds to the inventory, or refuses all of the command.
func (l *Ledger) record(list []*pb.Issued, now int64) (bool, error) {
	if err := checkIssued(list, len(l.current().generations)); err != nil {
		return false, err
	}
	dropped := l.drop(now)
	if have := len(l.current().issued); have+len(list) > maxIssued {
		// What was dropped stays dropped: every member dropped the same.
		return dropped, reject("inventory is full with %d certificates; wait until some have expired", have)
	}
	added := l.add(list)
	return dropped || added, nil
}

// add puts records into the inventory; one that is there already stays.
func (l *Ledger) add(list []*pb.Issued) bool {
	added := false
	for _, i := range list {
		if _, there := l.current().issued[string(i.GetSerial())]; there {
			continue
		}
		d := l.ownIssued()
		d.issued[string(i.GetSerial())] = i
		d.earliest = min(d.earliest, i.GetNotAfter())
		l.changes.issued[string(i.GetSerial())] = i
		added = true
	}
	return added
}

// drop removes records that expired well before now.
func (l *Ledger) drop(now int64) bool {
	if now <= grace || l.current().earliest >= now-grace {
		return false
	}
	d := l.ownIssued()
	d.earliest = math.MaxInt64
	dropped := false
	for serial, i := range d.issued {
		if i.GetNotAfter() < now-grace {
			delete(d.issued, serial)
			l.changes.issued[serial] = nil
			dropped = true
			continue
		}
		d.earliest = min(d.earliest, i.GetNotAfter())
	}
	return dropped
}

// ownIssued makes the inventory of the draft writable.
func (l *Ledger) ownIssued() *View {
	d := l.begin()
	if !l.owned.issued {
		d.issued, l.owned.issued = cloneMap(d.issued), true
	}
	return d
}

// cloneMap is maps.Clone that never returns nil.
func cloneMap[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return make(map[K]V)
	}
	return maps.Clone(m)
}
