package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// pemPair is a private key and its public one.
func pemPair(t testing.TB, key crypto.Signer, err error) (priv, pub []byte) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
}

func rsaPair(t testing.TB) (priv, pub []byte) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	return pemPair(t, key, err)
}

func ecPair(t testing.TB, curve elliptic.Curve) (priv, pub []byte) {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	return pemPair(t, key, err)
}

func edPair(t testing.TB) (priv, pub []byte) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return pemPair(t, key, err)
}

func TestJWT_methods(t *testing.T) {
	rsaPriv, rsaPub := rsaPair(t)
	for method, pair := range map[string]func() (priv, pub []byte){
		"RS256": func() ([]byte, []byte) { return rsaPriv, rsaPub }, "RS512": func() ([]byte, []byte) { return rsaPriv, rsaPub },
		"PS256": func() ([]byte, []byte) { return rsaPriv, rsaPub }, "PS384": func() ([]byte, []byte) { return rsaPriv, rsaPub },
		"ES256": func() ([]byte, []byte) { return ecPair(t, elliptic.P256()) },
		"ES384": func() ([]byte, []byte) { return ecPair(t, elliptic.P384()) },
		"ES512": func() ([]byte, []byte) { return ecPair(t, elliptic.P521()) },
		"EdDSA": func() ([]byte, []byte) { return edPair(t) },
		"HS256": func() ([]byte, []byte) { return []byte("a secret of some length"), nil },
		"HS512": func() ([]byte, []byte) { return []byte("a secret of some length"), nil },
	} {
		priv, pub := pair()
		signer, err := NewJWT(method, priv, pub, time.Minute)
		if err != nil {
			t.Errorf("%s: %v", method, err)
			continue
		}
		text, err := signer.Issue("alice", 12)
		if err != nil {
			t.Fatal(err)
		}
		verifiers := []*JWT{signer}
		if pub != nil {
			only, err := NewJWT(method, nil, pub, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := only.Issue("alice", 12); !errors.Is(err, ErrVerifyOnly) {
				t.Errorf("%s signs with a public key: %v", method, err)
			}
			verifiers = append(verifiers, only)
		}
		for _, v := range verifiers {
			if user, revision, err := v.Verify(text); err != nil || user != "alice" || revision != 12 {
				t.Errorf("%s: %q, %d, %v", method, user, revision, err)
			}
			for i := 0; i < len(text); i += 7 {
				forged := []byte(text)
				if forged[i] ^= 1; forged[i] == '.' || text[i] == '.' {
					continue
				}
				if _, _, err := v.Verify(string(forged)); err == nil {
					t.Errorf("%s: byte %d may be changed", method, i)
				}
			}
		}
	}
}

// What was not signed by the key and the method that were given is refused,
// whatever it says of itself.
func TestJWT_forged(t *testing.T) {
	priv, pub := rsaPair(t)
	j, err := NewJWT("RS256", priv, pub, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	key, err := jwt.ParseRSAPrivateKeyFromPEM(priv)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Minute).Unix()
	good := jwt.MapClaims{"username": "root", "revision": 1, "exp": later}
	for what, c := range map[string]struct {
		method jwt.SigningMethod
		key    any
		claims jwt.MapClaims
	}{
		"alg none":             {jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good},
		"HS with the RSA key":  {jwt.SigningMethodHS256, pub, good},
		"another method":       {jwt.SigningMethodPS256, key, good},
		"another key":          {jwt.SigningMethodRS256, other, good},
		"expired":              {jwt.SigningMethodRS256, key, jwt.MapClaims{"username": "root", "revision": 1, "exp": time.Now().Add(-time.Second).Unix()}},
		"without an end":       {jwt.SigningMethodRS256, key, jwt.MapClaims{"username": "root", "revision": 1}},
		"without a user":       {jwt.SigningMethodRS256, key, jwt.MapClaims{"revision": 1, "exp": later}},
		"without a revision":   {jwt.SigningMethodRS256, key, jwt.MapClaims{"username": "root", "exp": later}},
		"a user of digits":     {jwt.SigningMethodRS256, key, jwt.MapClaims{"username": 5, "revision": 1, "exp": later}},
		"a negative revision":  {jwt.SigningMethodRS256, key, jwt.MapClaims{"username": "root", "revision": -1, "exp": later}},
		"not good until later": {jwt.SigningMethodRS256, key, jwt.MapClaims{"username": "root", "revision": 1, "exp": later, "nbf": later}},
	} {
		text, err := jwt.NewWithClaims(c.method, c.claims).SignedString(c.key)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := j.Verify(text); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	text, err := jwt.NewWithClaims(jwt.SigningMethodRS256, good).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	if user, _, err := j.Verify(text); err != nil || user != "root" {
		t.Error(user, err)
	}
}

func TestParse_options(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	priv, pub := ecPair(t, elliptic.P256())
	_, otherPub := ecPair(t, elliptic.P256())
	_, largePub := ecPair(t, elliptic.P384())
	key, public, other, large := write("key", priv), write("pub", pub), write("other", otherPub), write("large", largePub)
	for value, want := range map[string]string{
		"simple":                                "",
		"jwt,sign-method=ES256,priv-key=" + key: "",
		"jwt,priv-key=" + key + ",pub-key=" + public + ",sign-method=ES256,ttl=10m": "",
		"jwt,sign-method=ES256,pub-key=" + public:                                   "",
		"":                                      "neither simple nor jwt",
		"opaque":                                "neither simple nor jwt",
		"simple,ttl=5m":                         "simple takes no options",
		"jwt":                                   "sign-method=:",
		"jwt,sign-method=none":                  "sign-method=none",
		"jwt,sign-method=ES256":                 "needs a key",
		"jwt,sign-method=HS256":                 "needs a key",
		"jwt,sign-method":                       "not name=value",
		"jwt,ttl=1m,ttl=2m":                     "given twice",
		"jwt,ttl=0s":                            "not positive",
		"jwt,ttl=soon":                          "soon",
		"jwt,speed=high":                        "no such option",
		"jwt,priv-key=" + dir + "/nofile":       "no such file",
		"jwt,sign-method=RS256,priv-key=" + key: "priv-key",
		"jwt,sign-method=EdDSA,pub-key=" + public:                     "pub-key",
		"jwt,sign-method=ES384,priv-key=" + key:                       "does not fit",
		"jwt,sign-method=ES256,pub-key=" + large:                      "needs a key of 256 bits",
		"jwt,sign-method=ES256,priv-key=" + key + ",pub-key=" + other: "not that of priv-key",
	} {
		j, err := Parse(value)
		switch {
		case want == "" && (err != nil || (j == nil) != (value == "simple")):
			t.Errorf("%s: %v, %v", value, j, err)
		case want != "" && (!errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %s", value, err, want)
		}
	}
}
