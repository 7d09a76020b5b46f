package raftstore

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// confirmLead is the leader's half of a read: it notes the commit index, then
// has a majority say, by messages sent after the read began, that the term is
// still theirs. No later term can have committed anything before the read,
// because its leader would have needed a vote from that majority. One of them is
// asker, unless it is 0: the member that reads, which has said so when it asked.
func (n *Node) confirmLead(ctx context.Context, term, asker uint64) (uint64, error) {
	index, others, need, err := n.beginConfirm(term, asker)
	if err == nil && need > 0 {
		err = n.confirmedBy(ctx, term, others, need)
	}
	if err == nil {
		err = n.stillTerm(term)
	}
	return index, err
}

// beginConfirm notes the commit index, and how many of which others have to be asked.
func (n *Node) beginConfirm(term, asker uint64) (index uint64, others []uint64, need int, err error) {
	if n.openTerm.Load() != term {
		return 0, nil, 0, errDeposed
	}
	index = n.CommitIndex()
	ids := voters(n.configuration())
	need = len(ids)/2 + 1
	for _, id := range ids {
		if id == n.cfg.Self || id == asker {
			need--
		} else {
			others = append(others, id)
		}
	}
	return index, others, need, nil
}

// confirmedBy has need of the others say that the term is theirs. At first it asks
// no more of them, since each message wakes somebody, and another one for each
// that says no or cannot be reached. When they take long it asks the rest, and the
// next time others come first.
func (n *Node) confirmedBy(ctx context.Context, term uint64, others []uint64, need int) error {
	first := n.confirmFirst.Load()
	answers := make(chan callAnswer, len(others))
	yes, waiting, asked := 0, 0, 0
	forget := make([]func(), 0, len(others))
	ask := func(enough int) {
		for ; asked < len(others) && yes+waiting < enough; asked++ {
			id := others[(first+uint64(asked))%uint64(len(others))]
			f, err := n.cfg.Mesh.ask(id, KindConfirm, confirmation(term), n.cfg.ElectionTimeout, answers)
			if err == nil {
				forget = append(forget, f)
				waiting++
			}
		}
	}
	defer func() {
		for _, f := range forget {
			f()
		}
	}()
	long := time.NewTimer(n.cfg.ElectionTimeout / 100)
	defer long.Stop()
	limit := time.NewTimer(n.cfg.ElectionTimeout)
	defer limit.Stop()
	for ask(need); yes < need && waiting > 0; {
		select {
		case a := <-answers:
			waiting--
			if a.confirms(term) {
				yes++
			}
			ask(need)
		case <-long.C:
			n.confirmFirst.CompareAndSwap(first, first+uint64(need))
			ask(len(others) + need)
		case <-limit.C:
			return errDeposed
		case <-ctx.Done():
			return errDeposed
		case <-n.ctx.Done():
			return ErrStopped
		}
	}
	if yes < need {
		return errDeposed
	}
	return nil
}

// stillTerm is this member's own voice in a confirmation.
func (n *Node) stillTerm(term uint64) error {
	if n.Term() != term {
		return errDeposed
	}
	return nil
}

// confirmation says which term a member is in.
func confirmation(term uint64) []byte {
	payload, err := proto.Marshal(&conclavepb.Confirm{Term: term})
	if err != nil {
		panic(err) // one number
	}
	return payload
}

func (a callAnswer) confirms(term uint64) bool { return a.err == nil && confirms(a.payload, term) }

// confirms reports whether a confirmation is of that term.
func confirms(payload []byte, term uint64) bool {
	var msg conclavepb.Confirm
	return proto.Unmarshal(payload, &msg) == nil && msg.Term == term
}
