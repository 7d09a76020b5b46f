package token

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// maxLogins bounds each of the two generations of logins that are remembered.
const maxLogins = 10_000

// Logins remembers which passwords were right, so that who logs in again does not
// wait for bcrypt, and gets the token it has. What it remembers is found by a
// keyed hash of the user, the stored hash and the password only: it holds no
// password, and a change of the password makes it worthless.
type Logins struct {
	passwords *Passwords
	secret    [32]byte // of this process

	mu         sync.Mutex
	young, old map[loginKey]*Login
}

type loginKey [sha256.Size]byte

// A Login is one that was seen before, or is being checked.
type Login struct {
	turn    chan struct{} // held by who checks the password or changes Token
	right   bool
	checked bool
	// Token is the one that was given, "" before. It belongs to who holds the
	// Login.
	Token string
}

// NewLogins makes an empty memory.
func NewLogins(p *Passwords) *Logins {
	l := &Logins{passwords: p, young: make(map[loginKey]*Login)}
	_, _ = rand.Read(l.secret[:]) // never fails
	return l
}

// Enter checks a password and returns the Login, held until the caller calls
// Leave; nil if the password is wrong. Who enters with the same waits for its
// turn. Errors: ErrBusy, those of ctx.
func (l *Logins) Enter(ctx context.Context, user string, hash []byte, password string) (*Login, error) {
	key := l.key(user, hash, password)
	login := l.find(key)
	select {
	case login.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if !login.checked {
		right, err := l.passwords.Check(ctx, hash, password)
		if err != nil {
			login.Leave()
			return nil, err
		}
		login.right, login.checked = right, true
	}
	if !login.right {
		l.forget(key)
		login.Leave()
		return nil, nil
	}
	return login, nil
}

// Leave lets the next one enter.
func (l *Login) Leave() { <-l.turn }

func (l *Logins) key(user string, hash []byte, password string) (k loginKey) {
	mac := hmac.New(sha256.New, l.secret[:])
	for _, part := range [][]byte{[]byte(user), hash, []byte(password)} {
		_ = binary.Write(mac, binary.BigEndian, uint64(len(part))) // a hash takes everything
		mac.Write(part)
	}
	mac.Sum(k[:0])
	return k
}

// find returns the login of a key, a new one if there is none. What was not used
// for a whole generation is forgotten.
func (l *Logins) find(k loginKey) *Login {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.young[k]; e != nil {
		return e
	}
	e := l.old[k]
	if e == nil {
		e = &Login{turn: make(chan struct{}, 1)}
	}
	if len(l.young) >= maxLogins {
		l.young, l.old = make(map[loginKey]*Login), l.young
	}
	l.young[k] = e
	return e
}

func (l *Logins) forget(k loginKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.young, k)
	delete(l.old, k)
}
