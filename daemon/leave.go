package daemon

import (
	"errors"
	"fmt"
	"time"
)

// errRemoved is the end of a member that was removed from the cluster. The text
// is etcd's.
var errRemoved = errors.New("the member has been permanently removed from the cluster")

// leaveAfter is how long a removed member goes on, so that it can answer what it
// was asked, its own removal among it. It is etcd's.
const leaveAfter = time.Second

// followRemoval ends the process after the member was removed, and has the data
// directory remember it: a member that comes back under its id would be refused
// by all others.
func (d *Daemon) followRemoval() {
	select {
	case <-d.node.Gone():
	case <-d.ctx.Done():
		return
	}
	d.log.Warn().Err(errRemoved).Msg("server error")
	d.log.Warn().Str("data-dir", d.dir.path).Msg("the data-dir used by this member must be removed.")
	err := d.record(func(id *identity) { id.Removed = time.Now().UTC().Format(time.RFC3339) })
	if err != nil {
		d.log.Warn().Err(err).Msg("the removal is not noted in the data directory; the next start will ask the peers again")
	}
	select {
	case <-time.After(leaveAfter):
	case <-d.ctx.Done():
		return
	}
	d.fail(d.removed(d.id))
}

// removed is what a start of a removed member is refused with.
func (d *Daemon) removed(id identity) error {
	return fmt.Errorf("--data-dir %q: %w: it was member %s (%s); to use this host again, run \"conclave member add %s --peer-urls=URL\" on the cluster and start with an empty data directory and --initial-cluster-state %s",
		d.dir.path, errRemoved, id.Name, hex(id.MemberID), id.Name, ClusterStateExisting)
}

// record changes what the data directory says of this member.
func (d *Daemon) record(change func(*identity)) error {
	d.recording.Lock()
	defer d.recording.Unlock()
	next := d.recorded
	change(&next)
	if err := d.dir.save(next); err != nil {
		return err
	}
	d.recorded = next
	return nil
}
