package member

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/auth"
	"github.com/conclave-kv/conclave/raftstore"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// retryChange is the pause before a change that was definitely not made is
// tried again, unless leadership or membership change first.
const retryChange = 20 * time.Millisecond

// MemberAdd adds a member under a new id, as a voter or as a learner. It returns
// before the new member runs.
func (m *Member) MemberAdd(ctx context.Context, r *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	c := raftstore.Change{Op: raftstore.OpAdd, PeerURLs: slices.Sorted(slices.Values(r.PeerURLs))}
	if r.IsLearner {
		c.Op = raftstore.OpAddLearner
	}
	c.ID = m.newID(c.PeerURLs)
	members, err := m.changeMembers(ctx, pb.Cluster_MemberAdd_FullMethodName, r, c)
	if err != nil {
		return nil, err
	}
	added := &pb.Member{ID: c.ID, PeerURLs: c.PeerURLs, IsLearner: r.IsLearner}
	return &pb.MemberAddResponse{Header: m.Header(0), Member: added, Members: members}, nil
}

// newID names a member that is added now. An id that was removed never comes
// back, so that the same URLs, added again within a second, take the next one.
func (m *Member) newID(urls []string) uint64 {
	for at := time.Now().Unix(); ; at++ {
		id := m.cfg.MemberID(urls, strconv.FormatInt(at, 10))
		if id != 0 && !m.View().Members.Removed(id) {
			return id
		}
	}
}

// MemberPromote gives a learner that has caught up its vote.
func (m *Member) MemberPromote(ctx context.Context, r *pb.MemberPromoteRequest) (*pb.MemberPromoteResponse, error) {
	members, err := m.changeMembers(ctx, pb.Cluster_MemberPromote_FullMethodName, r, raftstore.Change{Op: raftstore.OpPromote, ID: r.ID})
	if err != nil {
		return nil, err
	}
	return &pb.MemberPromoteResponse{Header: m.Header(0), Members: members}, nil
}

// MemberUpdate changes the peer URLs of a member.
func (m *Member) MemberUpdate(ctx context.Context, r *pb.MemberUpdateRequest) (*pb.MemberUpdateResponse, error) {
	c := raftstore.Change{Op: raftstore.OpUpdate, ID: r.ID, PeerURLs: slices.Sorted(slices.Values(r.PeerURLs))}
	members, err := m.changeMembers(ctx, pb.Cluster_MemberUpdate_FullMethodName, r, c)
	if err != nil {
		return nil, err
	}
	return &pb.MemberUpdateResponse{Header: m.Header(0), Members: members}, nil
}

// Relocate is MemberUpdate of this member by itself.
func (m *Member) Relocate(ctx context.Context, peerURLs []string) error {
	_, err := m.MemberUpdate(auth.AsMember(ctx), &pb.MemberUpdateRequest{ID: m.cfg.ID, PeerURLs: peerURLs})
	return err
}

// MemberRemove removes a member for ever. Where it leads, it hands leadership
// to another voter first.
func (m *Member) MemberRemove(ctx context.Context, r *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	members, err := m.changeMembers(ctx, pb.Cluster_MemberRemove_FullMethodName, r, raftstore.Change{Op: raftstore.OpRemove, ID: r.ID})
	if err != nil {
		return nil, err
	}
	return &pb.MemberRemoveResponse{Header: m.Header(0), Members: members}, nil
}

// changeMembers has one change agreed, and returns the members as they are on
// this member after it. The change is made against the membership that the
// checks looked at; when that has changed meanwhile, they are made again. That the
// request req of a method is allowed is confirmed before it is sent to the leader.
func (m *Member) changeMembers(ctx context.Context, method string, req any, c raftstore.Change) ([]*pb.Member, error) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.RequestTimeout)
	defer cancel()
	for uncertain, confirmed := false, false; ; {
		leading, changed := m.node.Leadership()
		tableChanged := m.Changed()
		prev, _ := m.node.Membership()
		view, err := m.reached(ctx, prev)
		if err != nil {
			return nil, err
		}
		if uncertain && madeTo(view.Members, c) {
			return memberList(view.Members), nil
		}
		if err := m.mayChange(c, view.Members); err != nil && !uncertain {
			return nil, err
		}
		if !confirmed {
			if err := m.Confirm(ctx, method, req); err != nil {
				return nil, err
			}
			confirmed = true
		}
		index, err := m.requestChange(ctx, leading, prev, c)
		switch {
		case err == nil:
			return m.membersAfter(ctx, c, index)
		case isUnknown(err):
			uncertain = true
		case !isPassing(err) && !uncertain:
			return nil, err
		}
		pause := time.NewTimer(retryChange)
		select {
		case <-changed:
		case <-tableChanged:
		case <-pause.C:
		case <-ctx.Done():
		}
		pause.Stop()
		if uncertain && m.removedBy(c) {
			return m.membersAfter(ctx, c, prev)
		}
		if ctx.Err() != nil {
			return nil, m.changeTimeout(ctx)
		}
	}
}

// changeTimeout says why a change was not made in time, or is not known to be.
func (m *Member) changeTimeout(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) && m.ctx.Err() == nil {
		return ctx.Err()
	}
	return m.timeoutError()
}

// reached returns a view of this member that contains the membership of an
// index. Each agreed membership closes Changed.
func (m *Member) reached(ctx context.Context, index uint64) (*fsm.View, error) {
	for {
		changed := m.Changed()
		if view := m.View(); view.Applied >= index {
			return view, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, m.changeTimeout(ctx)
		case <-m.ctx.Done():
			return nil, ErrStopped
		}
	}
}

// removedBy reports whether a change removes this member and that is known to be
// done.
func (m *Member) removedBy(c raftstore.Change) bool {
	select {
	case <-m.node.Gone():
		return c.Op == raftstore.OpRemove && c.ID == m.cfg.ID
	default:
		return false
	}
}

// membersAfter waits for this member's own state to hold the change. One that
// is removed may never be told by its log, and needs not be.
func (m *Member) membersAfter(ctx context.Context, c raftstore.Change, index uint64) ([]*pb.Member, error) {
	if c.Op == raftstore.OpRemove && c.ID == m.cfg.ID {
		left := memberList(m.View().Members)
		return slices.DeleteFunc(left, func(e *pb.Member) bool { return e.ID == c.ID }), nil
	}
	view, err := m.reached(ctx, index)
	if err != nil {
		return nil, err
	}
	return memberList(view.Members), nil
}

// madeTo reports whether a change is in the table. Ids are never used twice, so
// that this tells the outcome of a change that may have been lost on its way.
func madeTo(members *fsm.Members, c raftstore.Change) bool {
	e, found := members.Get(c.ID)
	switch c.Op {
	case raftstore.OpAdd, raftstore.OpAddLearner:
		return found
	case raftstore.OpRemove:
		return !found
	case raftstore.OpPromote:
		return found && !e.Learner
	default:
		return found && slices.Equal(e.PeerURLs, c.PeerURLs)
	}
}

// memberList writes the table as etcd does: sorted by id, and a voter that
// waits for its vote is a voter.
func memberList(members *fsm.Members) []*pb.Member {
	var out []*pb.Member
	for _, e := range members.All() {
		out = append(out, &pb.Member{
			ID: e.ID, Name: e.Name, PeerURLs: e.PeerURLs, ClientURLs: e.ClientURLs, IsLearner: e.Learner,
		})
	}
	return out
}

// IsLearner reports whether this member has no vote and serves no more than a
// learner may.
func (m *Member) IsLearner() bool {
	self, _ := m.View().Members.Get(m.cfg.ID)
	return self.Learner
}
