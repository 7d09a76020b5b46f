package member

import (
	"context"
	"time"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// AnchorAudit has the cluster remember what record seq of this member's audit log
// is, by its hash. Errors: ErrNotCapable while a member would not understand it,
// fsm.ErrAnchorBack, those of a proposal.
func (m *Member) AnchorAudit(ctx context.Context, seq uint64, hash [32]byte) error {
	if err := m.capable(fsm.KindAuditAnchor); err != nil {
		return err
	}
	ctx, cancel := m.bounded(ctx)
	defer cancel()
	_, err := m.proposer.do(ctx, fsm.ByMember, fsm.KindAuditAnchor, &conclavepb.AuditAnchor{
		Member: m.cfg.ID, Seq: seq, Hash: hash[:], Time: time.Now().UnixMilli(),
	})
	return err
}

// AuditHead is the newest anchor of this member's audit log that this member knows;
// 0 if there is none.
func (m *Member) AuditHead() (seq uint64, hash [32]byte) {
	a, _ := m.View().Anchors.Newest(m.cfg.ID)
	return a.Seq, a.Hash
}

// Anchors returns what is remembered of a member's audit log, confirmed by a
// majority. Errors: those of a read.
func (m *Member) Anchors(ctx context.Context, r *conclavepb.AnchorsRequest) (*conclavepb.AnchorsResponse, error) {
	ctx, cancel := m.bounded(ctx)
	defer cancel()
	if err := m.linearize(ctx); err != nil {
		return nil, err
	}
	resp := &conclavepb.AnchorsResponse{}
	for _, a := range m.View().Anchors.Of(r.GetMember()) {
		resp.Anchors = append(resp.Anchors, &conclavepb.Anchor{Seq: a.Seq, Hash: a.Hash[:], Time: a.Time})
	}
	return resp, nil
}
