package member

import (
	"cmp"
	"context"
	"time"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// retryLevel is the pause after a level was not agreed, unless something changes
// first.
const retryLevel = time.Second

// level is the highest feature level that this member says it understands.
func (m *Member) level() uint32 { return cmp.Or(m.cfg.Level, fsm.NewestLevel) }

// capable refuses kinds of requests that some member of the cluster may not
// understand: one that finds them in its log has to stop. Error: ErrNotCapable.
func (m *Member) capable(kind fsm.Kind) error {
	if level := fsm.LevelOf(kind); level > 1 && level > m.View().Level {
		return ErrNotCapable
	}
	return nil
}

// raiseLevel has the leader agree on the highest feature level that all members
// understand, each time that one says it understands more or leaves. It never goes
// back.
func (m *Member) raiseLevel() {
	m.atChanges(func() (again time.Duration, done bool) {
		view := m.View()
		level := view.Members.Capable()
		if level <= view.Level || m.Leader() != m.cfg.ID {
			return 0, false
		}
		if err := m.proposeLevel(level); err != nil && m.ctx.Err() == nil {
			m.cfg.Log.Warn().Err(err).Uint32("level", level).Msg("the feature level is not agreed yet")
		}
		return retryLevel, false
	})
}

func (m *Member) proposeLevel(level uint32) error {
	ctx, cancel := context.WithTimeout(m.ctx, m.cfg.RequestTimeout)
	defer cancel()
	_, err := m.proposer.do(ctx, fsm.ByMember, fsm.KindFeatureLevel, &conclavepb.FeatureLevel{Level: level})
	if err == nil {
		m.cfg.Log.Info().Uint32("level", level).Msg("all members understand a higher feature level, which is in force now")
	}
	return err
}
