package token

import (
	"crypto/elliptic"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// A token is what its key has signed, to the byte, whatever header, claims and
// signature somebody puts together; signing with what everybody knows, the public
// key, does not help.
func FuzzJWT_forged(f *testing.F) {
	rsaPriv, rsaPub := rsaPair(f)
	ecPriv, ecPub := ecPair(f, elliptic.P256())
	edPriv, edPub := edPair(f)
	known := [][]byte{nil, []byte("x"), rsaPub, ecPub, edPub}
	type signer struct {
		*JWT
		good string
	}
	var signers []signer
	for method, key := range map[string][]byte{"HS256": []byte("a secret of some length"), "RS256": rsaPriv, "PS256": rsaPriv, "ES256": ecPriv, "EdDSA": edPriv} {
		j, err := NewJWT(method, key, nil, 24*time.Hour)
		if err != nil {
			f.Fatal(err)
		}
		good := issue(f, j, "alice")
		signers = append(signers, signer{j, good})
		parts := strings.Split(good, ".")
		var raw [3][]byte
		for i, p := range parts {
			if raw[i], err = base64.RawURLEncoding.DecodeString(p); err != nil {
				f.Fatal(err)
			}
		}
		f.Add(string(raw[0]), string(raw[1]), raw[2], byte(0))
		f.Add(string(raw[0]), `{"username":"root","revision":1,"exp":99999999999}`, raw[2], byte(1))
	}
	for i, header := range []string{
		`{"alg":"none"}`, `{"alg":"HS256","typ":"JWT"}`, `{"alg":"RS256","jwk":{}}`, `{"alg":"hs256"}`, `{"alg":["RS256"]}`, `{"alg":"RS256","alg":"none"}`, `{`, ``,
	} {
		f.Add(header, `{"username":"root","revision":18446744073709551615,"exp":99999999999}`, []byte{}, byte(i))
	}
	f.Fuzz(func(t *testing.T, header, claims string, signature []byte, with byte) {
		encode := base64.RawURLEncoding.EncodeToString
		signed := encode([]byte(header)) + "." + encode([]byte(claims))
		forged := []string{signed + "." + encode(signature), signed + ".", signed, header, header + "." + claims}
		mac, err := jwt.SigningMethodHS256.Sign(signed, known[int(with)%len(known)])
		if err != nil {
			t.Fatal(err)
		}
		forged = append(forged, signed+"."+encode(mac))
		for _, s := range signers {
			for _, text := range forged {
				if id, err := s.Identify(text); err == nil && text != s.good {
					t.Errorf("%s takes %q for %s's token", s.method.Alg(), text, id.User)
				}
			}
			if id, err := s.Identify(s.good); err != nil || id.User != "alice" {
				t.Errorf("%s: the token itself: %v, %v", s.method.Alg(), id, err)
			}
		}
	})
}
