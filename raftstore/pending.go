package raftstore

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// pendingPoll is how often a leader asks whether an added voter is level.
const pendingPoll = 200 * time.Millisecond

// Level is how far a member is.
type Level struct {
	Term uint64
	// LastIndex is the newest entry it has on stable storage.
	LastIndex   uint64
	CommitIndex uint64
	Applied     uint64
	// LowSpace: its disk is nearly full.
	LowSpace bool
}

// Level asks a member how far it is; this member answers for itself.
func (n *Node) Level(ctx context.Context, id uint64) (Level, error) {
	if id == n.cfg.Self {
		return n.ownLevel(), nil
	}
	answer, err := n.cfg.Mesh.Call(ctx, id, KindLevel, nil)
	if err != nil {
		return Level{}, err
	}
	var msg conclavepb.Level
	if err := proto.Unmarshal(answer, &msg); err != nil {
		return Level{}, err
	}
	return Level{Term: msg.Term, LastIndex: msg.LastIndex, CommitIndex: msg.CommitIndex, Applied: msg.Applied, LowSpace: msg.LowSpace}, nil
}

func (n *Node) ownLevel() Level {
	return Level{
		Term:        n.Term(),
		LastIndex:   min(n.LastIndex(), max(n.logs.Durable(), n.cfg.Machine.Applied())),
		CommitIndex: n.CommitIndex(),
		Applied:     n.cfg.Machine.Applied(),
		LowSpace:    n.LowSpace(),
	}
}

func (n *Node) answerLevel(context.Context, uint64, []byte) ([]byte, error) {
	l := n.ownLevel()
	return proto.Marshal(&conclavepb.Level{
		Term: l.Term, LastIndex: l.LastIndex, CommitIndex: l.CommitIndex, Applied: l.Applied, LowSpace: l.LowSpace,
	})
}

// level reports whether a member answers and has everything up to an index
// that was agreed before it was asked.
func (n *Node) level(ctx context.Context, id, bound uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.ElectionTimeout/2)
	defer cancel()
	l, err := n.Level(ctx, id)
	return err == nil && l.LastIndex >= bound
}

// followPending gives added voters their vote, while this member leads. Raft
// needs the new majority for the entry that says so, and from the moment that
// it is in the log: with a member that does not run the cluster would stop.
func (n *Node) followPending() {
	for {
		index, conf, agreed := n.members.now()
		lead, changed := n.Leadership()
		var again <-chan time.Time
		if pending := firstPending(conf); pending != nil && lead.Leader == n.cfg.Self {
			if n.readyFor(conf, pending.Id) {
				n.promote(index, pending.Id)
			}
			again = time.After(pendingPoll)
		}
		select {
		case <-agreed:
		case <-changed:
		case <-again:
		case <-n.ctx.Done():
			return
		}
	}
}

func firstPending(conf *conclavepb.Configuration) *conclavepb.Server {
	for _, s := range conf.Servers {
		if s.Pending {
			return s
		}
	}
	return nil
}

func (n *Node) promote(prev, id uint64) {
	ctx, cancel := context.WithTimeout(n.ctx, n.cfg.RequestTimeout)
	defer cancel()
	_, err := n.Change(ctx, prev, Change{Op: OpPromote, ID: id})
	if err != nil && !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrMembershipChanged) {
		n.cfg.Log.Warn().Err(err).Str("member-id", string(serverID(id))).Msg("added member has no vote yet")
	}
}

// readyFor reports whether an added voter is level, and with it a majority of
// the membership in which it has a vote.
func (n *Node) readyFor(conf *conclavepb.Configuration, added uint64) bool {
	var ids []uint64
	for _, s := range conf.Servers {
		if s.Id == added || !s.Learner && !s.Pending {
			ids = append(ids, s.Id)
		}
	}
	bound := n.CommitIndex()
	type answer struct {
		id    uint64
		level bool
	}
	answers := make(chan answer, len(ids))
	for _, id := range ids {
		go func() { answers <- answer{id, n.level(n.ctx, id, bound)} }()
	}
	have := 0
	for range ids {
		a := <-answers
		if a.level {
			have++
		} else if a.id == added {
			return false
		}
	}
	return have > len(ids)/2
}
