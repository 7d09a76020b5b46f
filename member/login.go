package member

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/auth"
	"github.com/conclave-kv/conclave/auth/token"
	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

const (
	// loginTries bounds how often a login begins again because the user was changed
	// meanwhile.
	loginTries = 3
	// maxLoggedName bounds what is logged of a name that may be anything, in bytes.
	maxLoggedName = 100
	// defaultTokenTTL is --auth-token-ttl.
	defaultTokenTTL = 5 * time.Minute
)

// Authenticate gives a user who knows the password a token. After some failures the
// next login of that user from auth.SourceOf(ctx) is delayed, or refused. Errors:
// auth.ErrNotEnabled, auth.ErrFailed, auth.ErrNoPassword, ErrLoginsBusy,
// ErrLoginsSlowed, token.ErrVerifyOnly.
func (m *Member) Authenticate(ctx context.Context, r *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	ctx, cancel := m.bounded(ctx)
	defer cancel()
	if err := m.linearize(ctx); err != nil {
		return nil, err
	}
	user, password := r.GetName(), r.GetPassword()
	r.Password = "" // nobody needs it any more
	source := auth.SourceOf(ctx)
	attempt, err := m.throttle.Enter(ctx, user, source)
	if err != nil {
		if ctx.Err() != nil {
			err = contextError(ctx)
		}
		return nil, err
	}
	defer attempt.Leave()
	for try := 1; ; try++ {
		text, err := m.login(ctx, attempt, user, password)
		if errors.Is(err, auth.ErrOldRevision) && try < loginTries {
			continue
		}
		if err != nil {
			if errors.Is(err, auth.ErrFailed) {
				m.cfg.Log.Warn().Str("user", user[:min(len(user), maxLoggedName)]).Str("source", source).Msg("a login failed")
			}
			return nil, err
		}
		return &pb.AuthenticateResponse{Header: m.Header(m.View().KV.Rev()), Token: text}, nil
	}
}

// login checks a password on the newest state. A user who does not exist takes as
// long as a wrong password.
func (m *Member) login(ctx context.Context, attempt *token.Attempt, user, password string) (text string, err error) {
	v := m.View().Auth
	u := v.User(user)
	if !v.Enabled() {
		return "", auth.ErrNotEnabled
	}
	attempt.Try()
	switch {
	case u != nil && !u.HasPassword():
		return "", auth.ErrNoPassword
	case u == nil:
		if _, err := m.passwords.Check(ctx, nil, password); err != nil {
			return "", err
		}
		return "", auth.ErrFailed
	}
	login, err := m.logins.Enter(ctx, user, u.PasswordHash(), password)
	switch {
	case err != nil:
		return "", err
	case login == nil:
		return "", auth.ErrFailed
	}
	defer login.Leave()
	attempt.Right()
	if m.cfg.JWT != nil {
		return m.cfg.JWT.Issue(user, v.Revision())
	}
	if m.lasts(login.Token) {
		return login.Token, nil
	}
	text = token.New()
	hash, now := token.Hash(text), time.Now()
	_, err = m.proposer.do(ctx, fsm.ByMember, fsm.KindTokenIssue, &conclavepb.TokenIssue{
		Hash: hash[:], User: user, Credential: u.Credential(),
		Deadline: now.Add(m.tokenTTL()).UnixMilli(), Now: now.UnixMilli(),
	})
	if err != nil {
		return "", err
	}
	login.Token = text
	return text, nil
}

func (m *Member) tokenTTL() time.Duration {
	if m.cfg.TokenTTL == 0 {
		return defaultTokenTTL
	}
	return m.cfg.TokenTTL
}

// lasts reports whether a token is still good for half of its time.
func (m *Member) lasts(text string) bool {
	if text == "" {
		return false
	}
	t, found := m.View().Auth.Token(token.Hash(text))
	return found && time.Until(time.UnixMilli(t.Deadline)) > m.tokenTTL()/2
}

// Identify tells whom a token stands for. One that this member does not know may
// have been given out by another. Errors: auth.ErrInvalidToken, those of a read.
func (m *Member) Identify(ctx context.Context, text string) (*auth.Identity, error) {
	if m.cfg.JWT != nil {
		id, err := m.cfg.JWT.Identify(text)
		if err != nil {
			return nil, auth.ErrInvalidToken
		}
		return id, nil
	}
	hash := token.Hash(text)
	if id := m.bearer(hash); id != nil {
		return id, nil
	}
	ctx, cancel := m.bounded(ctx)
	defer cancel()
	if err := m.linearize(ctx); err != nil {
		return nil, err
	}
	if id := m.bearer(hash); id != nil {
		return id, nil
	}
	return nil, auth.ErrInvalidToken
}

// bearer is whom a token stands for as far as this member knows, nil if nobody. A
// token that is used lasts longer.
func (m *Member) bearer(hash auth.TokenHash) *auth.Identity {
	v := m.View().Auth
	t, found := v.Token(hash)
	if !found {
		return nil
	}
	left := time.Until(time.UnixMilli(t.Deadline))
	u := v.User(t.User)
	if left <= 0 || u == nil {
		return nil
	}
	if left < m.tokenTTL()/2 {
		m.tokens.use(hash)
	}
	return u.Identity()
}
