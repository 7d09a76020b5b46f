package member

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// spaceTimes are the times of the watch over space; less in tests.
type spaceTimes struct {
	// look is how often a member looks whether it is full, beside each request
	// that grows it.
	look time.Duration
	// roomy is how long there must have been space before a member takes its
	// alarm back: at once would be before who made the space, with the commands
	// that etcd's users know, came to disarm it.
	roomy time.Duration
	// away is how long a member must have been away before the leader takes its
	// alarm back. It raises it again when it comes back full.
	away time.Duration
}

var defaultSpaceTimes = spaceTimes{look: time.Second, roomy: 10 * time.Second, away: time.Minute}

// watch raises and takes back the alarm until the member stops.
func (s *space) watch() {
	look := time.NewTicker(s.times.look)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-s.m.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(s.m.ctx, s.m.cfg.RequestTimeout)
		s.look(ctx, time.Now())
		cancel()
	}
}

// look looks at this member and, as the leader, at those who cannot.
func (s *space) look(ctx context.Context, now time.Time) {
	view, id := s.m.View(), s.m.cfg.ID
	alarm, raised := view.Alarms.Get(pb.AlarmType_NOSPACE, id)
	full, roomy := s.state()
	switch self, is := view.Members.Get(id); {
	case !is || self.Learner || self.Pending: // it has no say in what is written
	case full:
		s.roomy = time.Time{}
		if !raised {
			s.m.cfg.Log.Warn().Int64("used-bytes", s.used()).Int64("quota-bytes", s.quota).Bool("disk-full", s.m.node.LowSpace()).Msg("there is no space: writes are refused until there is")
			s.raise(ctx)
		}
	case !roomy || !raised || !alarm.Own:
		s.roomy = time.Time{}
	case s.roomy.IsZero():
		s.roomy = now
	case now.Sub(s.roomy) >= s.times.roomy:
		s.clear(ctx, id, "there is space again")
	}
	if s.m.Leader() == id && !full {
		s.lookAfterOthers(ctx, view, now)
	} else {
		clear(s.away)
	}
}

// state tells whether this member is full, and whether it has space: a twentieth
// of the quota, so that the alarm does not come and go. Neither is possible.
func (s *space) state() (full, roomy bool) {
	if s.m.node.LowSpace() {
		return true, false
	}
	if s.quota < 0 {
		return false, true
	}
	used := s.used()
	return used >= s.quota, used < s.quota-s.quota/20
}

// lookAfterOthers takes back the alarms of members that are none any more, or
// have been away for long.
func (s *space) lookAfterOthers(ctx context.Context, view *fsm.View, now time.Time) {
	for _, a := range view.Alarms.All() {
		if a.Type != pb.AlarmType_NOSPACE || !a.Own || a.Member == s.m.cfg.ID {
			continue
		}
		if _, is := view.Members.Get(a.Member); !is {
			s.clear(ctx, a.Member, "it is no member any more")
			continue
		}
		if _, up := s.m.connectedSince(a.Member); up {
			delete(s.away, a.Member)
			continue
		}
		since, noted := s.away[a.Member]
		if !noted {
			s.away[a.Member] = now
		} else if now.Sub(since) >= s.times.away {
			s.clear(ctx, a.Member, "it is away")
		}
	}
}

func (s *space) clear(ctx context.Context, member uint64, why string) {
	err := s.m.ClearAlarm(ctx, pb.AlarmType_NOSPACE, member)
	if err == nil {
		s.m.cfg.Log.Info().Uint64("member", member).Msg("alarm NOSPACE is taken back: " + why)
		delete(s.away, member)
		return
	}
	if s.m.ctx.Err() == nil {
		s.m.cfg.Log.Warn().Err(err).Uint64("member", member).Msg("could not take the alarm NOSPACE back yet")
	}
}
