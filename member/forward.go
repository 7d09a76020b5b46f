package member

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/conclave-kv/conclave/raftstore"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// headRoom is more than an entry's header and a Forward around it take, in bytes.
const headRoom = 64

// message makes what propose takes: the entry of a batch for the leader of a
// term, and around it a Forward if that is another member. Both are one copy of
// the batch, which is most of what a busy follower would copy.
func (m *Member) message(lead raftstore.Leadership, b *batch) []byte {
	msg := make([]byte, 0, len(b.payload)+headRoom)
	if lead.Leader == m.cfg.ID {
		return append(fsm.AppendHeader(msg, lead.Term, b.id), b.payload...)
	}
	var room [headRoom]byte
	head := fsm.AppendHeader(room[:0], lead.Term, b.id)
	msg = appendForward(msg, lead.Term, b.id, len(head)+len(b.payload))
	return append(append(msg, head...), b.payload...)
}

// propose brings a message to the leader of its term: this member, or a peer.
// raftstore.ErrNotLeader means that it was definitely not proposed.
func (m *Member) propose(ctx context.Context, lead raftstore.Leadership, msg []byte) error {
	if lead.Leader == m.cfg.ID {
		return m.node.Propose(ctx, lead.Term, msg)
	}
	return resend(ctx, func() error {
		_, err := m.mesh.Call(ctx, lead.Leader, raftstore.KindForward, msg)
		return err
	}, func() bool {
		// Who knows no leader for a while, as when it is cut off, may come back to
		// the same one in the same term, and nobody else leads that.
		now, _ := m.node.Leadership()
		return now.Term == lead.Term
	})
}

// resend asks the leader of one term to take a batch, until it answers, or same
// says that the term is over. Once a connection was lost in between, the
// batch may be there: then no later refusal is definite, asking that leader
// again is safe, because it takes a batch once, and asking anybody else is not.
func resend(ctx context.Context, ask func() error, same func() bool) error {
	for uncertain := false; ; {
		err := ask()
		lost := errors.Is(err, raftstore.ErrConnectionLost)
		uncertain = uncertain || lost
		switch {
		case err == nil:
			return nil
		case untaken(err) && !uncertain:
			return fmt.Errorf("%w: %w", raftstore.ErrNotLeader, err)
		case !lost && !untaken(err), !same():
			return err
		}
		pause := time.NewTimer(retryPropose)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
	}
}

// untaken reports whether err says that this asking brought no batch to the
// leader.
func untaken(err error) bool {
	var refused *raftstore.CallError
	if errors.As(err, &refused) {
		return refused.Code == codeNotLeader || refused.Code == raftstore.CodeNoHandler || refused.Code == raftstore.CodeBusy
	}
	return errors.Is(err, raftstore.ErrUnreachable) || errors.Is(err, raftstore.ErrBusy)
}

// codeNotLeader is the code of a forward that was definitely not proposed.
const codeNotLeader = 1

// errLate leaves open whether a batch was proposed; the log tells.
var errLate = errors.New("member: batch arrived too late to know whether it was proposed already")

// answerForward proposes a follower's batch; it answers when the batch was
// applied here or refused.
func (m *Member) answerForward(ctx context.Context, from uint64, payload []byte) ([]byte, error) {
	msg, err := decodeForward(payload)
	if err != nil {
		return nil, err
	}
	if lead, _ := m.node.Leadership(); lead.Leader != m.cfg.ID || lead.Term != msg.term {
		return nil, &raftstore.CallError{Code: codeNotLeader, Text: "not the leader of that term"}
	}
	if m.behind() {
		return nil, &raftstore.CallError{Code: raftstore.CodeBusy, Text: "the disk of the leader is too slow"}
	}
	switch m.forwarded.take(from, msg.term, msg.batch) {
	case takenBefore:
		return nil, nil
	case takenMaybe:
		return nil, errLate
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.RequestTimeout)
	defer cancel()
	err = m.node.Propose(ctx, msg.term, msg.entry)
	if errors.Is(err, raftstore.ErrNotLeader) {
		m.forwarded.release(from, msg.term, msg.batch)
		return nil, &raftstore.CallError{Code: codeNotLeader, Text: err.Error()}
	}
	return nil, err
}

// behind reports whether the state file is so far behind what was applied that
// nothing more should be.
func (m *Member) behind() bool { return m.machine != nil && m.machine.Backlog() > m.backlogLimit }
