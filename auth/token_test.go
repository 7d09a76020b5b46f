package auth

import (
	"errors"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func hash(n int) TokenHash { return TokenHash{byte(n), byte(n >> 8), 1} }

func (b *bed) issue(n int, user string, deadline int64) error {
	return b.IssueToken(hash(n), Token{User: user, Deadline: deadline}, b.Current().User(user).Credential(), 1)
}

func (b *bed) has(n int) bool {
	_, found := b.Current().Token(hash(n))
	return found
}

func TestToken_endsWithWhatItStandsFor(t *testing.T) {
	b := newBed(t)
	b.user("u")
	b.user("v")
	if err := b.issue(0, "u", 100); !errors.Is(err, ErrNotEnabled) {
		t.Errorf("while authentication is off: %v", err)
	}
	b.enable()
	for n, user := range []string{"u", "v", "u", Root} {
		must(t, b.issue(n, user, 100))
	}
	b.role("r")
	must(t, b.UserGrantRole(&pb.AuthUserGrantRoleRequest{User: "u", Role: "r"}))
	b.commit()
	b.Store = b.load()
	if !b.has(0) || !b.has(1) || !b.has(2) || !b.has(3) {
		t.Fatal("a token is gone after a restart")
	}
	must(t, b.UserChangePassword(&pb.AuthUserChangePasswordRequest{Name: "u", HashedPassword: hashed("new")}))
	if b.has(0) || b.has(2) || !b.has(1) {
		t.Error("a change of the password ends the user's tokens, and no other")
	}
	must(t, b.UserDelete(&pb.AuthUserDeleteRequest{Name: "v"}))
	if b.has(1) || !b.has(3) {
		t.Error("the deletion of the user ends its tokens, and no other")
	}
	must(t, b.Disable(nil))
	b.commit()
	b.Store = b.load()
	if b.Current().Tokens() != 0 || len(b.tokensOf) != 0 {
		t.Error("there are tokens while authentication is off")
	}
}

// What was checked against an old password is of no use.
func TestToken_ofAnOldCredential(t *testing.T) {
	b := newBed(t)
	b.user("u")
	b.enable()
	checked := b.Current().User("u").Credential()
	must(t, b.UserChangePassword(&pb.AuthUserChangePasswordRequest{Name: "u", HashedPassword: hashed("new")}))
	if err := b.IssueToken(hash(1), Token{User: "u", Deadline: 9}, checked, 1); !errors.Is(err, ErrOldRevision) {
		t.Error(err)
	}
	must(t, b.UserDelete(&pb.AuthUserDeleteRequest{Name: "u"}))
	if err := b.IssueToken(hash(1), Token{User: "u", Deadline: 9}, checked, 1); !errors.Is(err, ErrFailed) {
		t.Error(err)
	}
}

func TestToken_bounds(t *testing.T) {
	b := newBed(t)
	b.user("u")
	b.enable()
	for n := range maxUserTokens + 50 {
		must(t, b.issue(n, "u", int64(1000+n)))
	}
	if b.Current().Tokens() != maxUserTokens || b.has(49) || !b.has(50) {
		t.Errorf("%d tokens; the ones that end first have to go", b.Current().Tokens())
	}
	b.RenewTokens([]TokenHash{hash(50), hash(7)}, 90_000, 1)
	if b.has(7) {
		t.Error("a token that was gone is back")
	}
	b.RenewTokens(nil, 0, sweepEvery+1090) // those up to 1090 have expired
	if b.Current().Tokens() != 1 || !b.has(50) {
		t.Errorf("%d tokens after those that expired were dropped", b.Current().Tokens())
	}
	b.commit()
	if got, want := told(t, b.load().View()), told(t, b.View()); got != want {
		t.Errorf("the file holds\n%s\ninstead of\n%s", got, want)
	}
}
