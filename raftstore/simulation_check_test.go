package raftstore

import (
	"slices"

	"github.com/hashicorp/raft"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// durable reports whether some membership in force around an entry has a
// majority with the entry on disk.
func (s *simulation) durable(index, term uint64) bool {
	disks := s.disks()
	has := map[uint64]bool{}
	for i, d := range disks {
		has[uint64(i+1)] = d.holds(index, term)
	}
	for _, conf := range s.memberships(index, disks) {
		yes, all := 0, 0
		for _, v := range conf.Servers {
			if v.Learner || v.Pending {
				continue
			}
			all++
			if has[v.Id] {
				yes++
			}
		}
		if yes > all/2 {
			return true
		}
	}
	return false
}

// agreedMembership is the newest one that is agreed.
func (s *simulation) agreedMembership() *conclavepb.Configuration {
	s.history.mu.Lock()
	defer s.history.mu.Unlock()
	return s.history.membershipAt(s.history.newest + 1)
}

// memberships are the one that was agreed last before index, and those after
// it that are in any log.
func (s *simulation) memberships(index uint64, disks []*simDisk) []*conclavepb.Configuration {
	s.history.mu.Lock()
	out := []*conclavepb.Configuration{s.history.membershipAt(index)}
	s.history.mu.Unlock()
	for _, d := range disks {
		d.mu.Lock()
		for _, l := range slices.Backward(d.logs) {
			if l.Index < index {
				break
			}
			if l.Type != raft.LogConfiguration {
				continue
			}
			if conf, err := decodeConfiguration(raft.DecodeConfiguration(l.Data)); err == nil {
				out = append(out, conf)
			}
		}
		d.mu.Unlock()
	}
	return out
}

// check judges the state of all members while everybody waits.
func (s *simulation) check() {
	s.checkLeaders()
	disks := s.disks()
	for i, d := range disks {
		if d.files.installing() {
			continue // Recover would do the rest
		}
		d.mu.Lock()
		if at, last := d.state.position.index, d.end(); at > last {
			s.history.fail("member %d: the state file is at %d and the log ends at %d", i+1, at, last)
		}
		if first, _ := d.span(); first > d.state.position.index+1 {
			s.history.fail("member %d: the state file is at %d and the log begins at %d", i+1, d.state.position.index, first)
		}
		d.mu.Unlock()
		for j := range i {
			s.checkLogs(j, i, disks[j], d)
		}
	}
}

// checkLeaders: no two members lead one term.
func (s *simulation) checkLeaders() {
	leads := map[uint64]uint64{}
	for _, run := range s.runs() {
		lead, _ := run.node.Leadership()
		if lead.Leader != run.id {
			continue
		}
		if other, ok := leads[lead.Term]; ok {
			s.history.fail("members %d and %d both lead term %d", other, run.id, lead.Term)
		}
		leads[lead.Term] = run.id
	}
}

// checkLogs: logs that agree in one place agree before it (section 5.3 of the
// paper).
func (s *simulation) checkLogs(i, j int, a, b *simDisk) {
	a.mu.Lock()
	x := a.logs
	a.mu.Unlock()
	b.mu.Lock()
	y := b.logs
	b.mu.Unlock()
	if len(x) == 0 || len(y) == 0 {
		return
	}
	first := max(x[0].Index, y[0].Index)
	last := min(x[len(x)-1].Index, y[len(y)-1].Index)
	same := false
	for index := last; index >= first && index > 0; index-- {
		l, r := x[index-x[0].Index], y[index-y[0].Index]
		equal := l.Term == r.Term
		if equal && string(l.Data) != string(r.Data) || same && !equal {
			s.history.fail("the logs of members %d and %d agree after entry %d and differ in it", i+1, j+1, index)
			return
		}
		same = same || equal
	}
}
