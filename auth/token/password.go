package token

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/crypto/bcrypt"

	"github.com/conclave-kv/conclave/auth"
)

// Costs of --bcrypt-cost. Each step doubles the time.
const (
	DefaultCost = bcrypt.DefaultCost
	MinCost     = bcrypt.MinCost
	MaxCost     = bcrypt.MaxCost
)

// maxPassword is what bcrypt looks at, in bytes. What is longer is refused, rather
// than cut.
const maxPassword = 72

var (
	// ErrPasswordTooLong: a password has more than 72 bytes, behind which bcrypt
	// would not look.
	ErrPasswordTooLong = errors.New("password is longer than 72 bytes")
	// ErrBusy: too many passwords are being checked.
	ErrBusy = errors.New("too many passwords are being checked; try again later")
)

// Passwords hashes and checks passwords, a few at a time: bcrypt is slow on
// purpose, and must not take the processors from everything else. Those of one source
// (see auth.SourceOf) do not keep others waiting.
type Passwords struct {
	cost   int
	places *places
	nobody []byte // see there
}

// NewPasswords makes one of a cost from MinCost to MaxCost.
func NewPasswords(cost int) *Passwords {
	return &Passwords{
		cost:   cost,
		places: newPlaces(max(1, runtime.GOMAXPROCS(0)/2)),
		nobody: nobody(cost),
	}
}

// nobody is a hash as bcrypt writes them, made of chance: nobody knows a password
// for it, and finding out that a password is not its takes as long as for others.
func nobody(cost int) []byte {
	const alphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	var chance [53]byte // salt and hash
	_, _ = rand.Read(chance[:])
	for i, b := range chance {
		chance[i] = alphabet[b%64]
	}
	return fmt.Appendf(nil, "$2a$%02d$%s", cost, chance[:])
}

// Hash returns the hash of a password as it is put into the log: bcrypt's, in
// base64. Errors: ErrPasswordTooLong, ErrBusy, those of ctx.
func (p *Passwords) Hash(ctx context.Context, password string) (string, error) {
	if len(password) > maxPassword {
		return "", ErrPasswordTooLong
	}
	var hash []byte
	err := p.do(ctx, func() (err error) {
		hash, err = bcrypt.GenerateFromPassword([]byte(password), p.cost)
		return err
	})
	return base64.StdEncoding.EncodeToString(hash), err
}

// Check reports whether a password is that of a hash; nil is nobody's, and takes
// as long. Errors: ErrBusy, those of ctx.
func (p *Passwords) Check(ctx context.Context, hash []byte, password string) (ok bool, err error) {
	known := hash != nil && len(password) <= maxPassword
	if !known {
		hash, password = p.nobody, ""
	}
	err = p.do(ctx, func() error {
		ok = bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil
		return nil
	})
	return ok && known, err
}

// do runs f when it is the turn of who asks.
func (p *Passwords) do(ctx context.Context, f func() error) error {
	if err := p.places.take(ctx, auth.SourceOf(ctx)); err != nil {
		return err
	}
	defer p.places.give()
	return f()
}
