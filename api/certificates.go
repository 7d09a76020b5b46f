package api

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// What the issuer given as Options.Certificates may wrap its errors in.
var (
	// ErrCertificateRequest: the request can never be granted as it stands.
	ErrCertificateRequest = errors.New("certificate request refused")
	// ErrCertificateUnavailable: this member cannot issue at present.
	ErrCertificateUnavailable = errors.New("certificates are not available here")
)

// certificates is the certificate service as clients reach it: over TLS only,
// whatever else the port speaks.
type certificates struct {
	conclavepb.UnimplementedPKIServer
	issuer  conclavepb.PKIServer
	backend AuthBackend
}

// Issue has a certificate signed.
func (c *certificates) Issue(ctx context.Context, r *conclavepb.IssueRequest) (*conclavepb.IssueResponse, error) {
	if err := requireTLS(ctx); err != nil {
		return nil, err
	}
	// Nobody else is asked whether the caller may, and a certificate lasts.
	if err := c.backend.Confirm(ctx, conclavepb.PKI_Issue_FullMethodName, r); err != nil {
		return nil, err
	}
	resp, err := c.issuer.Issue(ctx, r)
	switch {
	case err == nil:
		return resp, nil
	case errors.Is(err, ErrCertificateRequest):
		return nil, status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, ErrCertificateUnavailable):
		return nil, status.Error(codes.Unavailable, err.Error())
	default:
		return nil, toGRPC(err)
	}
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
