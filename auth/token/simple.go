package token

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"

	"github.com/conclave-kv/conclave/auth"
)

// New makes a random token of 256 bits.
func New() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Hash is what the state knows of a token. Tokens are random, so that a fast hash
// is good enough.
func Hash(token string) auth.TokenHash { return sha256.Sum256([]byte(token)) }
