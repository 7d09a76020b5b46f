package api

import (
	"context"
	"crypto/x509"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/conclave-kv/conclave/auth"
)

// identifier finds out who makes a call: by its token, or else by the certificate
// of its connection.
type identifier struct {
	backend         AuthBackend
	certificateUser func(*x509.Certificate) string // nil: certificates name nobody
}

// admit finds out who makes a unary call, and decides about it, unless that is done
// on the state it is answered from. While authentication is off it does nothing.
func (i identifier) admit(ctx context.Context, method string, req any) (context.Context, error) {
	if !i.backend.AuthView().Enabled() {
		return ctx, nil
	}
	ctx, err := i.admitStream(ctx, method)
	if err != nil || auth.OnState(method) {
		return ctx, err
	}
	return ctx, i.decide(ctx, method, req)
}

// admitStream finds out who makes a call. Who may be anybody may come with a token
// that is of no use any more.
func (i identifier) admitStream(ctx context.Context, method string) (context.Context, error) {
	known, err := i.enter(ctx)
	if err != nil && auth.OpenToAll(method) {
		return ctx, nil
	}
	return known, err
}

// decide decides about a request, or a message of a stream, of whoever ctx names.
func (i identifier) decide(ctx context.Context, method string, req any) error {
	if !i.backend.AuthView().Enabled() {
		return nil
	}
	return i.backend.Authorize(ctx, method, req)
}

// enter returns ctx with the identity of who makes the call, without one if there
// is no proof of any. Errors: auth.ErrInvalidToken, those of a read.
func (i identifier) enter(ctx context.Context) (context.Context, error) {
	if !i.backend.AuthView().Enabled() {
		return ctx, nil
	}
	id, err := i.identity(ctx)
	if err != nil || id == nil {
		return ctx, err
	}
	return auth.NewContext(ctx, id), nil
}

func (i identifier) identity(ctx context.Context) (*auth.Identity, error) {
	token := metadata.ValueFromIncomingContext(ctx, rpctypes.TokenFieldNameGRPC)
	if len(token) == 0 {
		token = metadata.ValueFromIncomingContext(ctx, rpctypes.TokenFieldNameSwagger)
	}
	if len(token) > 0 {
		return i.backend.Identify(ctx, strings.TrimPrefix(token[0], "Bearer "))
	}
	name := i.certificateName(ctx)
	if name == "" {
		return nil, nil
	}
	if u := i.backend.AuthView().User(name); u != nil {
		return u.Holder(), nil
	}
	return &auth.Identity{User: name, Revision: auth.Certified}, nil
}

// certificateName is the user that the certificate names which was verified when
// the call's connection was made: for a JSON call that of the HTTP client.
func (i identifier) certificateName(ctx context.Context) string {
	if i.certificateUser == nil {
		return ""
	}
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
		return ""
	}
	return i.certificateUser(info.State.VerifiedChains[0][0])
}
