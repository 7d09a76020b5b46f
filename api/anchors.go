package api

import (
	"context"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// auditService is conclave's own Audit service.
type auditService struct {
	conclavepb.UnimplementedAuditServer
	backend Backend
}

// Anchors tells what the cluster remembers of a member's audit log.
func (s *auditService) Anchors(ctx context.Context, r *conclavepb.AnchorsRequest) (*conclavepb.AnchorsResponse, error) {
	return s.backend.Anchors(ctx, r)
}
