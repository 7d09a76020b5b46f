package pki

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

// A sealed text is: format byte, salt, nonce, AES-256-GCM ciphertext. The key
// of each is derived from the seal key by HKDF-SHA256 (RFC 5869) with a salt of
// its own, so nonces cannot meet however much is sealed. The context is bound
// twice, in the derivation and as associated data: a text sealed for one purpose
// does not open for another.
const (
	sealFormat  = 1
	sealKeySize = 32
	saltSize    = 32
	nonceSize   = 12
)

// ErrUnseal means that a sealed text was made with another cluster secret or
// for another purpose, or is damaged.
var ErrUnseal = errors.New("cannot be unsealed: another --cluster-secret-file, or damaged")

// Seal encrypts plain for the purpose named by context.
func (s *Secret) Seal(context string, plain []byte) ([]byte, error) {
	out := make([]byte, 1+saltSize+nonceSize, 1+saltSize+nonceSize+len(plain)+16)
	out[0] = sealFormat
	if _, err := rand.Read(out[1:]); err != nil {
		return nil, fmt.Errorf("seal %s: %w", context, err)
	}
	aead, err := s.aead(out[1:1+saltSize], context)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", context, err)
	}
	return aead.Seal(out, out[1+saltSize:], plain, []byte(context)), nil
}

// Unseal decrypts what Seal made with the same secret and context. Other input
// gives an error that wraps ErrUnseal.
func (s *Secret) Unseal(context string, sealed []byte) ([]byte, error) {
	const head = 1 + saltSize + nonceSize
	if len(sealed) < head || sealed[0] != sealFormat {
		return nil, fmt.Errorf("%s %w", context, ErrUnseal)
	}
	aead, err := s.aead(sealed[1:1+saltSize], context)
	if err != nil {
		return nil, fmt.Errorf("unseal %s: %w", context, err)
	}
	plain, err := aead.Open(nil, sealed[1+saltSize:head], sealed[head:], []byte(context))
	if err != nil {
		return nil, fmt.Errorf("%s %w", context, ErrUnseal)
	}
	return plain, nil
}

func (s *Secret) aead(salt []byte, context string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, s.sealKey[:], salt, "conclave seal "+context, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
