package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/audit"
	"github.com/conclave-kv/conclave/auth"
	"github.com/conclave-kv/conclave/member"
)

// auditor makes the records of the audit log. Nil: there is none.
type auditor struct {
	log    *audit.Log
	who    identifier
	tokens audit.Proof // what a token is
}

func newAuditor(o Options, who identifier) *auditor {
	if o.Audit == nil {
		return nil
	}
	a := &auditor{log: o.Audit, who: who, tokens: audit.Token}
	if o.SignedTokens {
		a.tokens = audit.JWT
	}
	return a
}

// audited is one request on its way to a record. Nil: it gets none.
type audited struct {
	by      *auditor
	record  audit.Record
	level   audit.Level // from which on it is recorded when it is allowed
	further bool        // see follow
}

// begun is a pool: a record is large, and is copied when it is added.
var begun = sync.Pool{New: func() any { return new(audited) }}

// begin notes what a request asks for, before whoever answers it may change it. req
// is nil if it comes later. end has to follow, once.
func (a *auditor) begin(method string, req any, start time.Time) *audited {
	if a == nil {
		return nil
	}
	c := begun.Get().(*audited)
	c.by, c.record.Method, c.record.Time = a, method, start
	c.level = auditLevel(method, req)
	if req != nil {
		c.about(req)
	}
	return c
}

// about says what the request is.
func (c *audited) about(req any) {
	if c == nil {
		return
	}
	c.level = auditLevel(c.record.Method, req)
	c.record.Target = targetOf(req)
	if r, ok := req.(*pb.AuthenticateRequest); ok {
		c.record.User, c.record.Proof = r.GetName(), audit.Password
	}
}

// follow says whether a record of the same stream stands for this request as well,
// unless it is denied.
func (c *audited) follow(further bool) {
	if c != nil {
		c.further = further
	}
}

// admit refuses a request that would have to be recorded and cannot be.
func (c *audited) admit(ctx context.Context) error {
	if c == nil || c.further || !c.by.log.Records(c.level) {
		return nil
	}
	return c.by.log.Admit(ctx, &c.record)
}

// end makes the record, if the request is worth one. err is as it came from who
// answered, sent as the client gets it; resp may be nil.
func (c *audited) end(ctx context.Context, resp any, err, sent error) {
	c.endStream(ctx, resp, false, err, sent)
}

// endStream is end for a stream. served says that some of the answer was sent: whatever
// came then, it was allowed.
func (c *audited) endStream(ctx context.Context, resp any, served bool, err, sent error) {
	if c == nil {
		return
	}
	defer func() {
		*c = audited{}
		begun.Put(c)
	}()
	r := &c.record
	id := auth.FromContext(ctx)
	enabled := c.by.who.backend.AuthView().Enabled()
	switch {
	case err == nil, served:
		r.Decision = audit.Allowed
	case enabled && c.by.denied(id, err), refusedCode(status.Code(sent)):
		r.Decision, c.level = audit.RefusedRight, audit.Denied
	default:
		r.Decision = audit.Failed
	}
	if !c.by.log.Records(c.level) || c.further && r.Decision != audit.RefusedRight {
		return
	}
	r.Latency = time.Since(r.Time)
	r.Code = status.Code(sent).String()
	if sent != nil {
		r.Error = status.Convert(sent).Message()
	}
	if err == nil {
		answered(r, resp)
	}
	r.AuthOff = !enabled
	c.by.identify(ctx, id, r)
	c.by.log.Add(r)
}

// answered notes what an answer says of what was done.
func answered(r *audit.Record, resp any) {
	if h, ok := resp.(interface{ GetHeader() *pb.ResponseHeader }); ok {
		r.Revision = h.GetHeader().GetRevision()
	}
	switch a := resp.(type) {
	case *pb.DeleteRangeResponse:
		r.Facts = append(r.Facts, audit.Fact{Name: "deleted", Value: a.GetDeleted()})
	case *pb.TxnResponse:
		r.Facts = append(r.Facts, audit.Fact{Name: "succeeded", Value: a.GetSucceeded()})
	case *pb.LeaseGrantResponse:
		r.Facts = append(r.Facts, audit.Fact{Name: "granted", Value: a.GetID()})
	case *pb.MemberAddResponse:
		r.Facts = append(r.Facts, audit.Fact{Name: "added", Value: hexID(a.GetMember().GetID())})
	}
}

// identify tells who made a call, how that was proven, and from where.
func (a *auditor) identify(ctx context.Context, id *auth.Identity, r *audit.Record) {
	if p, ok := peer.FromContext(ctx); ok {
		r.Remote = p.Addr
		_, r.JSON = p.Addr.(addrText)
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(info.State.VerifiedChains) > 0 {
			r.Certificate = info.State.VerifiedChains[0][0]
		}
	}
	switch {
	case r.Proof != "": // a login
	case id != nil && hasToken(ctx):
		r.User, r.Proof = id.User, a.tokens
	case id != nil:
		r.User, r.Proof = id.User, audit.Certificate
	default:
		r.Proof = audit.NoProof
		if name := a.who.certificateName(ctx); name != "" && r.AuthOff {
			r.User, r.Proof = name, audit.Certificate
		}
	}
}

func hasToken(ctx context.Context) bool {
	return len(metadata.ValueFromIncomingContext(ctx, rpctypes.TokenFieldNameGRPC)) > 0 ||
		len(metadata.ValueFromIncomingContext(ctx, rpctypes.TokenFieldNameSwagger)) > 0
}

// denials are the errors by which package auth refuses who asks.
var denials = []error{auth.ErrPermissionDenied, auth.ErrInvalidToken, auth.ErrOldRevision, auth.ErrFailed, auth.ErrNoPassword, member.ErrLoginsSlowed}

// denied tells whether an error is for want of a right, or of a proof.
func (a *auditor) denied(id *auth.Identity, err error) bool {
	for _, d := range denials {
		if errors.Is(err, d) {
			return true
		}
	}
	switch {
	case errors.Is(err, auth.ErrUserEmpty):
		return id == nil
	case errors.Is(err, auth.ErrUserNotFound): // it may also be about another user
		return id != nil && a.who.backend.AuthView().User(id.User) == nil
	}
	// Locks and elections give etcd's errors of what they are made of.
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		return refusedCode(e.Code())
	}
	return false
}

func refusedCode(c codes.Code) bool { return c == codes.PermissionDenied || c == codes.Unauthenticated }

// refusedHTTP records a request that was refused before it became a call.
func (a *auditor) refusedHTTP(r *http.Request, start time.Time, code int, reason string) {
	if a == nil || !a.log.Records(audit.Denied) {
		return
	}
	rec := audit.Record{
		Time: start, Proof: audit.NoProof, AuthOff: !a.who.backend.AuthView().Enabled(), Remote: addrText(r.RemoteAddr), JSON: true,
		Method: r.Method + " " + r.URL.Path, Decision: audit.RefusedRight, Code: strconv.Itoa(code), Error: reason,
		Latency: time.Since(start),
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		rec.Certificate = r.TLS.VerifiedChains[0][0]
	}
	a.log.Add(&rec)
}
