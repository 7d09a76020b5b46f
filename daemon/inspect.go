package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/internal/durable"
	"github.com/conclave-kv/conclave/raftstore"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// Inspect reports what the data directory of a stopped member holds: who it is,
// its log, term and vote, and how far its state file is. Nothing is changed in
// it but its lock, which is taken meanwhile. walDir is --wal-dir, "" for the
// usual place.
func Inspect(path, walDir string) (*conclavepb.RaftReport, error) {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("--data-dir %q is not a directory; give the one of the member", path)
	}
	d, err := openDataDir(path, walDir)
	if errors.Is(err, durable.ErrInUse) {
		return nil, fmt.Errorf("%w; ask the member itself with --endpoints instead", err)
	}
	if err != nil {
		return nil, err
	}
	defer d.close() //nolint:errcheck // the lock ends with the process at the latest
	id, ok, err := d.load()
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("--data-dir %q holds no member: there is no %s", path, d.identityPath())
	}
	r, err := raftstore.Inspect(d.wal)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r = &conclavepb.RaftReport{Role: "stopped", Log: &conclavepb.RaftLog{}}
		r.Troubles = append(r.Troubles, fmt.Sprintf("the log in %s is missing", d.wal))
	case err != nil:
		return nil, fmt.Errorf("--data-dir %q: %w", path, err)
	}
	r.ClusterId, r.MemberId, r.Name = hex(id.ClusterID), hex(id.MemberID), id.Name
	return r, d.inspectState(r)
}

// inspectState adds what the state file says.
func (d *dataDir) inspectState(r *conclavepb.RaftReport) error {
	state, err := fsm.Inspect(d.statePath())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.Troubles = append(r.Troubles, fmt.Sprintf("the state file %s is missing; the log makes it anew if it is whole", d.statePath()))
		return nil
	case errors.Is(err, fsm.ErrCorrupt), errors.Is(err, fsm.ErrNewerFormat):
		r.Troubles = append(r.Troubles, err.Error())
		return nil
	case err != nil:
		return fmt.Errorf("--data-dir %q: %w", d.path, err)
	}
	r.StateIndex, r.StateTerm = state.Index, state.Term
	r.CommitIndex = max(r.CommitIndex, state.Index)
	agreed := raftstore.StoppedMembership(state.MembershipIndex, state.Membership)
	if r.Membership == nil {
		r.Membership = agreed
	} else if r.Membership.Index > agreed.Index {
		r.AgreedMembership = agreed
	}
	if state.Index > max(r.Log.LastIndex, r.Log.StartIndex) {
		r.Troubles = append(r.Troubles, fmt.Sprintf("the state file is at entry %d and the log ends at %d: the log was lost, or is another member's", state.Index, r.Log.LastIndex))
	}
	for _, m := range []*conclavepb.RaftMembership{r.Membership, r.AgreedMembership} {
		for _, s := range m.GetServers() {
			if e, ok := state.Members.Get(number(s.Id)); ok {
				s.Name = e.Name
			}
		}
	}
	return nil
}

// number is the id that a report shows as text.
func number(id string) uint64 {
	n, err := strconv.ParseUint(id, 16, 64)
	if err != nil {
		return 0
	}
	return n
}
