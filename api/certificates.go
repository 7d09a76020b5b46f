package api

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// certificates is the certificate service as clients reach it: over TLS only,
// whatever else the port speaks.
type certificates struct {
	conclavepb.UnimplementedPKIServer
	issuer conclavepb.PKIServer
}

// Issue has a certificate signed.
func (c *certificates) Issue(ctx context.Context, r *conclavepb.IssueRequest) (*conclavepb.IssueResponse, error) {
	if err := requireTLS(ctx); err != nil {
		return nil, err
	}
	resp, err := c.issuer.Issue(ctx, r)
	if err != nil {
		return nil, toGRPC(err)
	}
	return resp, nil
}

// requireTLS refuses a call that came over plaintext or without a certificate
// that was verified.
func requireTLS(ctx context.Context) error {
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(info.State.VerifiedChains) > 0 {
			return nil
		}
	}
	return status.Error(codes.PermissionDenied, "certificates are issued only to clients that show one, over TLS")
}
