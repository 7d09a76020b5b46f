package token

import (
	"sync"
	"time"

	"github.com/conclave-kv/conclave/auth"
)

// maxVerified bounds each of the two generations of tokens that are remembered.
const maxVerified = 10_000

// verified remembers tokens whose signature was found good, by their hashes, so that
// it is not verified with each request. That a token is known says what it says, not
// that its user may still use it: this is decided with each request all the same.
type verified struct {
	mu         sync.Mutex
	young, old map[auth.TokenHash]verifiedToken
}

type verifiedToken struct {
	id  *auth.Identity
	end time.Time
}

func newVerified() *verified { return &verified{young: make(map[auth.TokenHash]verifiedToken)} }

// Identify is Verify for whom a token may stand more than once. The identity is
// shared, and must not be changed.
func (j *JWT) Identify(token string) (*auth.Identity, error) {
	hash := Hash(token)
	if id := j.known.find(hash); id != nil {
		return id, nil
	}
	c, err := j.claims(token)
	if err != nil {
		return nil, err
	}
	id := &auth.Identity{User: *c.User, Revision: *c.Revision}
	j.known.add(hash, verifiedToken{id: id, end: c.ExpiresAt.Time})
	return id, nil
}

// find returns nil for a token that is not known, or has ended. What was not used
// for a whole generation is forgotten.
func (v *verified) find(hash auth.TokenHash) *auth.Identity {
	v.mu.Lock()
	defer v.mu.Unlock()
	t, young := v.young[hash]
	if !young {
		t = v.old[hash]
	}
	switch {
	case t.id == nil:
		return nil
	case !time.Now().Before(t.end):
		delete(v.young, hash)
		delete(v.old, hash)
		return nil
	case !young:
		v.put(hash, t)
	}
	return t.id
}

func (v *verified) add(hash auth.TokenHash, t verifiedToken) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.put(hash, t)
}

// put is called with the lock held.
func (v *verified) put(hash auth.TokenHash, t verifiedToken) {
	if len(v.young) >= maxVerified {
		v.young, v.old = make(map[auth.TokenHash]verifiedToken), v.young
	}
	v.young[hash] = t
}
