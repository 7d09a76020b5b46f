package auth

import (
	"context"
	"math"
)

// Root is the name of the user and of the role that may do everything.
const Root = "root"

// Certified is the revision of an identity that a certificate proves: it is proven
// with each request, and so never old.
const Certified = math.MaxUint64

// Identity is who asks, proven by a token or a certificate.
type Identity struct {
	// User is the name, which need not be one of a user that exists.
	User string
	// Revision is the auth revision of the last change of this user's rights or
	// credentials that was known when the identity was proven, or Certified.
	Revision uint64
}

type identityInContext struct{}

// NewContext returns ctx with the identity of who asks. The identity must not be
// changed afterwards.
func NewContext(ctx context.Context, id *Identity) context.Context {
	return context.WithValue(ctx, identityInContext{}, id)
}

// FromContext returns the identity of who asks, nil if nobody was proven.
func FromContext(ctx context.Context) *Identity {
	id, _ := ctx.Value(identityInContext{}).(*Identity)
	return id
}

type memberInContext struct{}

// AsMember returns ctx for what a member asks of itself, such as whether reading
// works; it may do everything.
func AsMember(ctx context.Context) context.Context {
	return context.WithValue(ctx, memberInContext{}, true)
}

// IsMember reports whether ctx is of AsMember.
func IsMember(ctx context.Context) bool {
	return ctx.Value(memberInContext{}) != nil
}

type sourceInContext struct{}

// WithSource returns ctx with where a request comes from: whatever tells one source
// of logins from another.
func WithSource(ctx context.Context, source string) context.Context {
	return context.WithValue(ctx, sourceInContext{}, source)
}

// SourceOf returns what WithSource was given, "" without.
func SourceOf(ctx context.Context) string {
	source, _ := ctx.Value(sourceInContext{}).(string)
	return source
}
