package member

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/raftstore"
)

// propose brings an entry to the leader of a term: this member, or a peer.
// raftstore.ErrNotLeader means that it was definitely not proposed.
func (m *Member) propose(ctx context.Context, lead raftstore.Leadership, batch uint64, data []byte) error {
	if lead.Leader == m.cfg.ID {
		return m.node.Propose(ctx, lead.Term, data)
	}
	payload, err := proto.Marshal(&conclavepb.Forward{Term: lead.Term, Batch: batch, Payload: data})
	if err != nil {
		return fmt.Errorf("%w: %w", raftstore.ErrNotLeader, err)
	}
	return resend(ctx, func() error {
		_, err := m.mesh.Call(ctx, lead.Leader, raftstore.KindForward, payload)
		return err
	}, func() bool {
		now, _ := m.node.Leadership()
		return now == lead
	})
}

// resend asks the leader of one term to take a batch, until it answers, or same
// says that it may lead no more. Once a connection was lost in between, the
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
	var msg conclavepb.Forward
	if err := proto.Unmarshal(payload, &msg); err != nil {
		return nil, err
	}
	if lead, _ := m.node.Leadership(); lead.Leader != m.cfg.ID || lead.Term != msg.Term {
		return nil, &raftstore.CallError{Code: codeNotLeader, Text: "not the leader of that term"}
	}
	if m.behind() {
		return nil, &raftstore.CallError{Code: raftstore.CodeBusy, Text: "the disk of the leader is too slow"}
	}
	switch m.forwarded.take(from, msg.Term, msg.Batch) {
	case takenBefore:
		return nil, nil
	case takenMaybe:
		return nil, errLate
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.RequestTimeout)
	defer cancel()
	err := m.node.Propose(ctx, msg.Term, msg.Payload)
	if errors.Is(err, raftstore.ErrNotLeader) {
		m.forwarded.release(from, msg.Term, msg.Batch)
		return nil, &raftstore.CallError{Code: codeNotLeader, Text: err.Error()}
	}
	return nil, err
}

// behind reports whether the state file is so far behind what was applied that
// nothing more should be.
func (m *Member) behind() bool { return m.machine != nil && m.machine.Backlog() > m.backlogLimit }
