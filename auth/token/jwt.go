package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// DefaultJWTTTL is how long a JWT lasts without the option ttl.
const DefaultJWTTTL = 5 * time.Minute

var (
	// ErrVerifyOnly: this member has a public key only, so that somebody else has
	// to give out tokens.
	ErrVerifyOnly = errors.New("auth: token signing attempted with verify-only key")
	errNoKey      = errors.New("sign-method needs a key: give priv-key, or pub-key to only verify")
	errKeyPair    = errors.New("pub-key is not that of priv-key")
)

// JWT signs and verifies tokens of one signature method: those of etcd, with the
// claims username, revision and exp.
type JWT struct {
	method jwt.SigningMethod
	sign   any // nil: verifies only
	verify any
	ttl    time.Duration
	parser *jwt.Parser
	known  *verified
	// audience is the claim aud of tokens, "" for none. Then aud is not looked at.
	audience string
}

// NewJWT makes one of a method such as RS256 and of keys in PEM; that of the HS
// methods is priv, as it stands.
func NewJWT(method string, priv, pub []byte, ttl time.Duration) (*JWT, error) {
	m := jwt.GetSigningMethod(method)
	if m == nil || m == jwt.SigningMethodNone {
		return nil, fmt.Errorf("sign-method=%s: there are RS, PS, ES and HS with 256, 384 or 512, and EdDSA", method)
	}
	j := &JWT{method: m, ttl: ttl, known: newVerified()}
	j.parser = jwt.NewParser(j.rules()...)
	var err error
	switch m.(type) {
	case *jwt.SigningMethodHMAC:
		if len(priv) == 0 {
			return nil, errNoKey
		}
		j.sign, j.verify = priv, priv
	case *jwt.SigningMethodECDSA:
		err = j.keys(priv, pub, func(b []byte) (crypto.Signer, error) { return asSigner(jwt.ParseECPrivateKeyFromPEM(b)) },
			func(b []byte) (crypto.PublicKey, error) { return jwt.ParseECPublicKeyFromPEM(b) })
	case *jwt.SigningMethodEd25519:
		err = j.keys(priv, pub, edSigner, func(b []byte) (crypto.PublicKey, error) { return jwt.ParseEdPublicKeyFromPEM(b) })
	default:
		err = j.keys(priv, pub, func(b []byte) (crypto.Signer, error) { return asSigner(jwt.ParseRSAPrivateKeyFromPEM(b)) },
			func(b []byte) (crypto.PublicKey, error) { return jwt.ParseRSAPublicKeyFromPEM(b) })
	}
	if err != nil {
		return nil, err
	}
	return j, j.tried()
}

// rules are what a token must keep to, beside its signature.
func (j *JWT) rules() []jwt.ParserOption {
	return []jwt.ParserOption{jwt.WithValidMethods([]string{j.method.Alg()}), jwt.WithExpirationRequired(), jwt.WithStrictDecoding()}
}

// restrict has tokens be for an audience, and only such be taken: where others with
// the same key sign tokens for other services. It must be called before any use.
func (j *JWT) restrict(audience string) {
	j.audience = audience
	j.parser = jwt.NewParser(append(j.rules(), jwt.WithAudience(audience))...)
}

// asSigner keeps a key that could not be read from becoming one.
func asSigner[T crypto.Signer](key T, err error) (crypto.Signer, error) {
	if err != nil {
		return nil, err
	}
	return key, nil
}

func edSigner(b []byte) (crypto.Signer, error) {
	key, err := jwt.ParseEdPrivateKeyFromPEM(b)
	if err != nil {
		return nil, err
	}
	return key.(ed25519.PrivateKey), nil // the only one it returns
}

// keys takes a private key, a public one, or a pair.
func (j *JWT) keys(priv, pub []byte, private func([]byte) (crypto.Signer, error), public func([]byte) (crypto.PublicKey, error)) error {
	if len(priv) == 0 && len(pub) == 0 {
		return errNoKey
	}
	if len(pub) > 0 {
		key, err := public(pub)
		if err != nil {
			return fmt.Errorf("pub-key: %w", err)
		}
		j.verify = key
	}
	if len(priv) == 0 {
		return nil
	}
	key, err := private(priv)
	if err != nil {
		return fmt.Errorf("priv-key: %w", err)
	}
	if given, ok := j.verify.(interface{ Equal(crypto.PublicKey) bool }); ok && !given.Equal(key.Public()) {
		return errKeyPair
	}
	j.sign, j.verify = key, key.Public()
	return nil
}

// tried signs and verifies once, so that a key which does not fit the method, such
// as one of another curve, is found at the start.
func (j *JWT) tried() error {
	if j.sign == nil {
		if _, ok := j.verify.(*ecdsa.PublicKey); ok {
			return j.fits()
		}
		return nil
	}
	token, err := j.Issue("x", 1)
	if err == nil {
		_, _, err = j.Verify(token)
	}
	if err != nil {
		return fmt.Errorf("the key does not fit %s: %w", j.method.Alg(), err)
	}
	return nil
}

// fits compares the curve of a public key with the method's.
func (j *JWT) fits() error {
	bits := j.verify.(*ecdsa.PublicKey).Curve.Params().BitSize
	if want := j.method.(*jwt.SigningMethodECDSA).CurveBits; bits != want {
		return fmt.Errorf("%s needs a key of %d bits, pub-key has %d", j.method.Alg(), want, bits)
	}
	return nil
}

// Issue makes a token of a user at an auth revision. Error: ErrVerifyOnly.
func (j *JWT) Issue(user string, revision uint64) (string, error) {
	if j.sign == nil {
		return "", ErrVerifyOnly
	}
	claims := jwt.MapClaims{"username": user, "revision": revision, "exp": time.Now().Add(j.ttl).Unix()}
	if j.audience != "" {
		claims["aud"] = j.audience
	}
	return jwt.NewWithClaims(j.method, claims).SignedString(j.sign)
}

// errClaims: a token is signed well and lacks what it must say.
var errClaims = errors.New("claims username and revision are missing")

// claims are what is read of a token.
type claims struct {
	jwt.RegisteredClaims
	User     *string `json:"username"`
	Revision *uint64 `json:"revision"`
}

// Verify returns what a token says, if its signature is good and it has not ended.
// Errors are for logs: none of them has the token in it.
func (j *JWT) Verify(token string) (user string, revision uint64, err error) {
	c, err := j.claims(token)
	if err != nil {
		return "", 0, err
	}
	return *c.User, *c.Revision, nil
}

func (j *JWT) claims(token string) (*claims, error) {
	var c claims
	if _, err := j.parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return j.verify, nil }); err != nil {
		return nil, err
	}
	if c.User == nil || c.Revision == nil {
		return nil, errClaims
	}
	return &c, nil
}
