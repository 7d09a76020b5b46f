package member

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/raftstore"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// readyPart is how much of the leader's log a learner must hold to be promoted.
// It is etcd's.
const readyPart = 0.9

// changeCodes are the definite answers to a change that travel between members.
// Any other error leaves its outcome open.
var changeCodes = []struct {
	code uint32
	err  error
}{
	{codeNotLeader, raftstore.ErrNotLeader},
	{2, raftstore.ErrMembershipChanged},
	{3, ErrMemberNotFound},
	{4, ErrMemberExists},
	{5, ErrPeerURLExists},
	{6, ErrTooManyLearners},
	{7, ErrNotLearner},
	{8, ErrLearnerNotReady},
	{9, ErrNotEnoughStarted},
}

// isPassing reports whether a change was definitely not made and may be tried
// again.
func isPassing(err error) bool {
	return errors.Is(err, raftstore.ErrNotLeader) || errors.Is(err, raftstore.ErrMembershipChanged)
}

// isUnknown reports whether a change may have been made.
func isUnknown(err error) bool {
	return err != nil && !slices.ContainsFunc(changeCodes, func(c struct {
		code uint32
		err  error
	}) bool {
		return errors.Is(err, c.err)
	})
}

// requestChange brings a change to the leader, this member or a peer, and returns the
// index at which it was agreed.
func (m *Member) requestChange(ctx context.Context, lead raftstore.Leadership, prev uint64, c raftstore.Change) (uint64, error) {
	switch lead.Leader {
	case 0:
		return 0, raftstore.ErrNotLeader
	case m.cfg.ID:
		return m.makeChange(ctx, prev, c)
	}
	payload, err := proto.Marshal(&conclavepb.MemberChange{
		Op: conclavepb.MemberChange_Op(c.Op), Id: c.ID, PeerUrls: c.PeerURLs, Prev: prev,
	})
	if err != nil {
		return 0, err
	}
	answer, err := m.mesh.Call(ctx, lead.Leader, raftstore.KindChange, payload)
	if err != nil {
		return 0, changeError(err)
	}
	var msg conclavepb.MemberChanged
	if err := proto.Unmarshal(answer, &msg); err != nil {
		return 0, err
	}
	return msg.Index, nil
}

// changeError is the meaning of a peer's answer to a change.
func changeError(err error) error {
	if untaken(err) {
		return raftstore.ErrNotLeader
	}
	var refused *raftstore.CallError
	if errors.As(err, &refused) {
		for _, c := range changeCodes {
			if c.code == refused.Code {
				return c.err
			}
		}
	}
	return err
}

// answerChange makes a change for another member.
func (m *Member) answerChange(ctx context.Context, _ uint64, payload []byte) ([]byte, error) {
	var msg conclavepb.MemberChange
	if err := proto.Unmarshal(payload, &msg); err != nil {
		return nil, err
	}
	index, err := m.makeChange(ctx, msg.Prev, raftstore.Change{Op: raftstore.ChangeOp(msg.Op), ID: msg.Id, PeerURLs: msg.PeerUrls})
	if err != nil {
		for _, c := range changeCodes {
			if errors.Is(err, c.err) {
				return nil, &raftstore.CallError{Code: c.code, Text: err.Error()}
			}
		}
		return nil, err
	}
	return proto.Marshal(&conclavepb.MemberChanged{Index: index})
}

// makeChange is the leader's part: it holds the change against the membership
// it is meant for, and has it agreed.
func (m *Member) makeChange(ctx context.Context, prev uint64, c raftstore.Change) (uint64, error) {
	if m.Leader() != m.cfg.ID {
		return 0, raftstore.ErrNotLeader
	}
	if at, _ := m.node.Membership(); at != prev {
		return 0, raftstore.ErrMembershipChanged
	}
	view, err := m.reached(ctx, prev)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", raftstore.ErrNotLeader, err)
	}
	if err := m.valid(ctx, c, view.Members); err != nil {
		err = m.refusal(ctx, prev, err)
		if c.Op == raftstore.OpPromote && !isPassing(err) {
			m.metrics.promotionsFailed.WithLabelValues(promotionReason(err)).Inc()
		}
		return 0, err
	}
	if c.Op == raftstore.OpRemove && c.ID == m.cfg.ID && m.handOver(ctx, view.Members) {
		return 0, raftstore.ErrNotLeader // the next leader removes this one
	}
	index, err := m.node.Change(ctx, prev, c)
	if err == nil {
		if c.Op == raftstore.OpPromote {
			m.metrics.promotions.Inc()
		}
		m.cfg.Log.Info().Stringer("change", conclavepb.MemberChange_Op(c.Op)).Str("changed-member-id", fmt.Sprintf("%x", c.ID)).
			Strs("peer-urls", c.PeerURLs).Uint64("index", index).Msg("changed the membership")
	}
	return index, err
}

// refusal returns why a change is refused if this member still leads and the
// membership is still the one that was looked at: a leader that was cut off
// must not say that a member is unknown.
func (m *Member) refusal(ctx context.Context, prev uint64, why error) error {
	if err := m.node.ReadIndex(ctx); err != nil {
		return fmt.Errorf("%w: %w", raftstore.ErrNotLeader, err)
	}
	if at, _ := m.node.Membership(); at != prev {
		return raftstore.ErrMembershipChanged
	}
	return why
}

// valid holds a change against the table, in the order of etcd's checks.
func (m *Member) valid(ctx context.Context, c raftstore.Change, members *fsm.Members) error {
	e, found := members.Get(c.ID)
	switch c.Op {
	case raftstore.OpAdd, raftstore.OpAddLearner:
		switch {
		case found:
			return ErrMemberExists
		case members.Removed(c.ID):
			return ErrMemberNotFound
		case taken(members, c):
			return ErrPeerURLExists
		case c.Op == raftstore.OpAddLearner && len(members.All())-len(voters(members)) >= m.cfg.MaxLearners:
			return ErrTooManyLearners
		}
		return nil
	case raftstore.OpPromote:
		return m.validPromotion(ctx, e, found, members)
	}
	switch {
	case !found:
		return ErrMemberNotFound
	case c.Op == raftstore.OpUpdate && taken(members, c):
		return ErrPeerURLExists
	case c.Op == raftstore.OpRemove && !e.Learner && len(voters(members)) == 1:
		return ErrNotEnoughStarted // nobody would be left
	}
	return nil
}

func (m *Member) validPromotion(ctx context.Context, e fsm.Member, found bool, members *fsm.Members) error {
	switch {
	case !found:
		return ErrMemberNotFound
	case !m.caughtUp(ctx, e.ID):
		return ErrLearnerNotReady
	}
	if err := m.mayPromote(members); err != nil {
		return err
	}
	if !e.Learner {
		return ErrNotLearner
	}
	return nil
}

// caughtUp asks a member whether it holds nearly all of this leader's log.
func (m *Member) caughtUp(ctx context.Context, id uint64) bool {
	l, err := m.node.Level(ctx, id)
	return err == nil && float64(l.LastIndex) >= readyPart*float64(m.node.LastIndex())
}

// taken reports whether another member has one of the URLs.
func taken(members *fsm.Members, c raftstore.Change) bool {
	return slices.ContainsFunc(members.All(), func(e fsm.Member) bool {
		return e.ID != c.ID && slices.ContainsFunc(e.PeerURLs, func(u string) bool { return slices.Contains(c.PeerURLs, u) })
	})
}

// handOver gives leadership to a voter that can take it, and reports whether
// there was one.
func (m *Member) handOver(ctx context.Context, members *fsm.Members) bool {
	for _, e := range members.All() {
		if e.ID == m.cfg.ID || e.Learner || e.Pending {
			continue
		}
		if err := m.node.MoveLeader(ctx, e.ID); err == nil {
			return true
		}
	}
	return false
}

// MoveLeader hands leadership from this member to a voter, and returns when that
// one leads.
func (m *Member) MoveLeader(ctx context.Context, to uint64) error {
	if m.Leader() != m.cfg.ID {
		return ErrNotLeader
	}
	if e, found := m.View().Members.Get(to); !found || e.Learner || e.Pending {
		return ErrBadTransferee
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.RequestTimeout)
	defer cancel()
	switch err := m.node.MoveLeader(ctx, to); {
	case err == nil:
		return nil
	case errors.Is(err, raftstore.ErrNotLeader):
		return ErrNotLeader
	case errors.Is(err, raftstore.ErrBadTransferee):
		return ErrBadTransferee
	default:
		m.cfg.Log.Warn().Err(err).Msg("leadership was not handed over")
		return ErrTransferTimeout
	}
}
