package member

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/kv"
)

const (
	// compactCheckEvery is --compact-hash-check-time when it is 0.
	compactCheckEvery = time.Minute
	// hashWithin bounds one comparison: reading 8 GiB at half speed.
	hashWithin = 5 * time.Minute
)

// errInconsistent: this member's data are not those of a majority.
var errInconsistent = errors.New("found data inconsistency with peers")

// inspector compares this member's data with the others': of the newest
// compaction as the leader, and now and then if that is asked for.
type inspector struct {
	m       *Member
	checked int64 // newest compaction compared; run's goroutine's
	told    bool  // that this member is damaged; run's goroutine's
}

// Damaged reports whether this member's data were found to differ from those of
// a majority. It answers no client then. It does not block.
func (m *Member) Damaged() bool {
	a, raised := m.View().Alarms.Get(pb.AlarmType_CORRUPT, m.cfg.ID)
	return raised && a.Own
}

// Corrupt reports whether clients should not be sent here: this member is
// damaged, or a user said that the cluster is. It does not block.
func (m *Member) Corrupt() bool { return m.Damaged() || m.View().Alarms.StopWrites() }

// run compares until the member stops.
func (i *inspector) run() {
	m := i.m
	every := m.cfg.CompactHashCheckTime
	if every <= 0 {
		every = compactCheckEvery
	}
	compacted := time.NewTicker(every)
	defer compacted.Stop()
	var whole <-chan time.Time
	if m.cfg.CorruptCheckTime > 0 {
		tick := time.NewTicker(m.cfg.CorruptCheckTime)
		defer tick.Stop()
		whole = tick.C
	}
	for {
		changed := m.Changed()
		i.heed()
		select {
		case <-changed:
		case <-compacted.C:
			i.tidy()
			if m.cfg.CompactHashCheck {
				i.checkCompacted()
			}
		case <-whole:
			i.checkNewest()
		case <-m.ctx.Done():
			return
		}
	}
}

// heed says once what to do with a damaged member, and has it lead no more.
func (i *inspector) heed() {
	m := i.m
	if !m.Damaged() {
		i.told = false
		return
	}
	if !i.told {
		i.told = true
		m.cfg.Log.Error().Msg(m.rebuild())
	}
	if m.Leader() != m.cfg.ID {
		return
	}
	for _, e := range m.View().Members.All() {
		if e.ID == m.cfg.ID || e.Learner || e.Pending {
			continue
		}
		if _, bad := m.View().Alarms.Get(pb.AlarmType_CORRUPT, e.ID); bad {
			continue
		}
		ctx, cancel := context.WithTimeout(m.ctx, m.cfg.RequestTimeout)
		err := m.MoveLeader(ctx, e.ID)
		cancel()
		if err == nil {
			return
		}
	}
}

// rebuild is what to do with a member that is damaged.
func (m *Member) rebuild() string {
	return fmt.Sprintf("the data of this member (%016x) are not those of the other members: it answers no clients; "+
		"rebuild it: conclave member remove %[1]x, conclave member add %[2]s --peer-urls=URL, then start it with an empty data directory and --initial-cluster-state existing",
		m.cfg.ID, m.cfg.Name)
}

// tidy takes alarms back of members that are there no more. What fails is tried
// again at the next tick.
func (i *inspector) tidy() {
	m := i.m
	if m.Leader() != m.cfg.ID {
		return
	}
	view := m.View()
	for _, a := range view.Alarms.All() {
		if _, there := view.Members.Get(a.Member); a.Type == pb.AlarmType_CORRUPT && a.Own && !there {
			if err := m.ClearAlarm(m.ctx, a.Type, a.Member); err != nil {
				m.cfg.Log.Warn().Err(err).Msg("could not take back the alarm of a removed member; trying again")
			}
		}
	}
}

// checkCompacted compares what the newest compaction has left, which all members
// have, as the leader and once.
func (i *inspector) checkCompacted() {
	m := i.m
	compacted := m.View().KV.CompactRev()
	if m.Leader() != m.cfg.ID || compacted <= 0 || compacted == i.checked {
		return
	}
	if m.compare(compacted, compacted) {
		i.checked = compacted
	}
}

// checkNewest compares everything, as the leader.
func (i *inspector) checkNewest() {
	m := i.m
	if m.Leader() != m.cfg.ID || m.linearizeWithin(m.ctx) != nil {
		return
	}
	m.compare(m.View().KV.Rev(), anyCompaction)
}

// anyCompaction has members compared that have compacted as far as this one.
const anyCompaction = -2

// compare has all members hash their history up to a revision, and raises the
// alarm for those that a majority of the voters disagrees with. It reports
// whether all could be compared. What differs is asked twice.
func (m *Member) compare(revision, compacted int64) (done bool) {
	ctx, cancel := context.WithTimeout(m.ctx, hashWithin)
	defer cancel()
	all := m.hashAll(ctx, revision, false)
	v := m.judge(all, compacted)
	if len(v.guilty) > 0 || v.split {
		again := m.judge(m.hashAll(ctx, revision, true), compacted)
		if !slices.Equal(again.guilty, v.guilty) || again.split != v.split {
			return false
		}
	}
	m.tell(v, revision)
	for _, id := range v.guilty {
		if err := m.RaiseAlarm(ctx, pb.AlarmType_CORRUPT, id); err != nil {
			m.cfg.Log.Error().Err(err).Str("member", fmt.Sprintf("%016x", id)).Msg("could not raise the alarm for a member whose data differ")
			return false
		}
	}
	return v.complete
}

func (m *Member) tell(v verdict, revision int64) {
	switch {
	case len(v.guilty) > 0:
		m.cfg.Log.Error().Int64("revision", revision).Strs("members", names(v.guilty)).Strs("hashes", v.hashes).
			Msg("found hash mismatch: these members differ from a majority of the voters")
	case v.split:
		m.cfg.Log.Error().Int64("revision", revision).Strs("hashes", v.hashes).
			Msg("members differ, and no majority of the voters agrees: nobody can say which is damaged; compare their data with a backup (conclave snapshot status), and remove the one that is wrong")
	default:
		m.cfg.Log.Info().Int64("revision", revision).Int("members", len(v.hashes)).Bool("complete", v.complete).Msg("compared the data of members: no difference")
	}
}

func names(ids []uint64) (out []string) {
	for _, id := range ids {
		out = append(out, fmt.Sprintf("%016x", id))
	}
	return out
}

// verdict is what hashes say of the members.
type verdict struct {
	guilty   []uint64 // differ from a majority of the voters; sorted
	split    bool     // members differ, and there is no such majority
	complete bool     // all members could be compared
	hashes   []string // for the log
}

// hashed is the hash of one member.
type hashed struct {
	member uint64
	voter  bool
	kv.Hash
	err error
}

// judge finds who is wrong: those that a majority of all voters, whether these
// have answered or not, disagrees with. Only what was compacted equally far can
// be compared.
func (m *Member) judge(all []hashed, compacted int64) verdict {
	if compacted == anyCompaction {
		for _, h := range all {
			if h.member == m.cfg.ID {
				compacted = h.CompactRev
			}
		}
	}
	return judge(all, compacted)
}

func judge(all []hashed, compacted int64) verdict {
	v := verdict{complete: true}
	votes := map[uint32]int{} // by hash
	voters := 0
	var comparable []hashed
	for _, h := range all {
		if h.voter {
			voters++
		}
		if h.err != nil || h.CompactRev != compacted {
			v.complete = false
			continue
		}
		comparable = append(comparable, h)
		v.hashes = append(v.hashes, fmt.Sprintf("%016x=%08x", h.member, h.Sum))
		if _, known := votes[h.Sum]; !known {
			votes[h.Sum] = 0
		}
		if h.voter {
			votes[h.Sum]++
		}
	}
	if len(votes) < 2 {
		return v
	}
	v.split = true
	for sum, n := range votes {
		if n <= voters/2 {
			continue
		}
		v.split = false
		for _, h := range comparable {
			if h.Sum != sum {
				v.guilty = append(v.guilty, h.member)
			}
		}
	}
	slices.Sort(v.guilty)
	return v
}
