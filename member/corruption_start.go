package member

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// startCheckWithin is how long a start waits for the comparison. What takes
// longer is left to the comparison after the next compaction.
const startCheckWithin = 30 * time.Second

// CheckAtStart compares this member's data with the others', before it serves
// clients. Error: errInconsistent, if a majority of the voters has others. A
// difference that nobody can decide is logged. It is to be called when the
// member is level.
func (m *Member) CheckAtStart(ctx context.Context) error {
	if !m.cfg.InitialCorruptCheck || len(m.View().Members.All()) < 2 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startCheckWithin)
	defer cancel()
	m.cfg.Log.Info().Msg("starting initial corruption check")
	revision := m.View().KV.Rev()
	v := m.judge(m.hashAll(ctx, revision, false), anyCompaction)
	if len(v.guilty) > 0 || v.split {
		again := m.judge(m.hashAll(ctx, revision, true), anyCompaction)
		if !slices.Equal(again.guilty, v.guilty) {
			v = verdict{}
		}
	}
	m.tell(v, revision)
	if slices.Contains(v.guilty, m.cfg.ID) {
		return fmt.Errorf("%016x %w: %s", m.cfg.ID, errInconsistent, m.rebuild())
	}
	for _, id := range v.guilty {
		if err := m.RaiseAlarm(ctx, pb.AlarmType_CORRUPT, id); err != nil {
			return errors.Join(err, ctx.Err())
		}
	}
	if m.Damaged() && v.complete && !v.split {
		return m.ClearAlarm(ctx, pb.AlarmType_CORRUPT, m.cfg.ID) // its data were put right
	}
	return nil
}
