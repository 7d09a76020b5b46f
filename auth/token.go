package auth

import (
	"bytes"
	"maps"
	"slices"
)

// TokenHash is the SHA-256 of a token. The token itself is nowhere in the state.
type TokenHash [32]byte

// A Token lets whoever has it act as a user until it ends.
type Token struct {
	User string
	// Deadline is in Unix milliseconds.
	Deadline int64
}

const (
	// maxUserTokens bounds the tokens of one user. A member gives a user who logs
	// in again the token it has, so that there are a few for each member.
	maxUserTokens = 100
	// sweepEvery is how long, in milliseconds of the commands' time, expired tokens
	// may stay after the last were dropped.
	sweepEvery = 10_000
)

// tokenShards is how many parts the table of tokens has: a login copies one of
// them, not all.
const tokenShards = 256

// tokenTable is the tokens of a View, by the first byte of their hashes.
type tokenTable [tokenShards]map[TokenHash]Token

// Token returns the token of a hash. Whether it has expired only a clock can
// tell.
func (v *View) Token(h TokenHash) (t Token, found bool) {
	t, found = v.tokens[h[0]][h]
	return t, found
}

// Tokens is the number of tokens, expired ones included.
func (v *View) Tokens() int {
	n := 0
	for _, shard := range v.tokens {
		n += len(shard)
	}
	return n
}

// IssueToken makes a token known. credential is that of the user when the
// password was checked; if it is not the user's any more, the answer is
// ErrOldRevision. Other errors: ErrNotEnabled, ErrFailed.
func (s *Store) IssueToken(h TokenHash, t Token, credential uint64, now int64) error {
	v := s.Current()
	u := v.users[t.User]
	switch {
	case !v.enabled:
		return ErrNotEnabled
	case u == nil:
		return ErrFailed
	case u.credential != credential:
		return ErrOldRevision
	}
	s.sweep(now)
	if of := s.tokensOf[t.User]; len(of) >= maxUserTokens {
		s.dropToken(slices.MinFunc(of, s.soonest))
	}
	s.putToken(h, t)
	s.tokensOf[t.User] = append(s.tokensOf[t.User], h)
	return nil
}

// RenewTokens gives tokens that there are a later deadline.
func (s *Store) RenewTokens(hashes []TokenHash, deadline, now int64) {
	for _, h := range hashes {
		if t, found := s.Current().Token(h); found && t.Deadline < deadline {
			t.Deadline = deadline
			s.putToken(h, t)
		}
	}
	s.sweep(now)
}

// soonest orders tokens by their deadlines.
func (s *Store) soonest(a, b TokenHash) int {
	x, _ := s.Current().Token(a)
	y, _ := s.Current().Token(b)
	if x.Deadline != y.Deadline {
		return int(min(max(x.Deadline-y.Deadline, -1), 1))
	}
	return bytes.Compare(a[:], b[:])
}

// sweep drops what had expired at now, once in a while.
func (s *Store) sweep(now int64) {
	if now < s.Current().swept+sweepEvery {
		return
	}
	s.begin().swept = now
	s.changes.swept = true
	s.dropTokens(func(t Token) bool { return t.Deadline < now })
}

// dropTokens drops all tokens that match.
func (s *Store) dropTokens(match func(Token) bool) {
	for _, shard := range s.Current().tokens {
		for h, t := range shard {
			if match(t) {
				s.dropToken(h)
			}
		}
	}
}

// dropUser drops the tokens of a user.
func (s *Store) dropUser(name string) {
	for _, h := range slices.Clone(s.tokensOf[name]) {
		s.dropToken(h)
	}
}

func (s *Store) dropToken(h TokenHash) {
	t, _ := s.Current().Token(h)
	delete(s.shard(h), h)
	s.changes.tokens[h] = nil
	of := slices.DeleteFunc(s.tokensOf[t.User], func(o TokenHash) bool { return o == h })
	if s.tokensOf[t.User] = of; len(of) == 0 {
		delete(s.tokensOf, t.User)
	}
}

func (s *Store) putToken(h TokenHash, t Token) {
	s.shard(h)[h] = t
	s.changes.tokens[h] = &t
	s.changes.size += recordBytes
}

// shard returns the part of the draft's table that h is in, to be changed.
func (s *Store) shard(h TokenHash) map[TokenHash]Token {
	d := s.begin()
	if s.owned.tokens == nil {
		table := *d.tokens
		d.tokens, s.owned.tokens = &table, make(map[byte]bool)
	}
	if i := h[0]; !s.owned.tokens[i] {
		s.owned.tokens[i] = true
		if d.tokens[i] = maps.Clone(d.tokens[i]); d.tokens[i] == nil {
			d.tokens[i] = make(map[TokenHash]Token)
		}
	}
	return d.tokens[h[0]]
}
