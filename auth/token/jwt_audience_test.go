package token

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// With an audience only tokens for it are taken, though others are signed with the
// same key; without one nobody looks.
func TestJWT_audience(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	key := []byte("a secret of some length")
	if err := os.WriteFile(file, key, 0o600); err != nil {
		t.Fatal(err)
	}
	parse := func(more string) *JWT {
		j, err := Parse("jwt,sign-method=HS256,priv-key=" + file + more)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	ours, anybody := parse(",audience=kv"), parse("")
	signed := func(audience any) string {
		c := jwt.MapClaims{"username": "alice", "revision": 7, "exp": time.Now().Add(time.Minute).Unix()}
		if audience != nil {
			c["aud"] = audience
		}
		text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for what, c := range map[string]struct {
		token string
		taken bool
	}{
		"given out here":      {issue(t, ours, "alice"), true},
		"for it":              {signed("kv"), true},
		"for it, too":         {signed([]string{"mail", "kv"}), true},
		"for another service": {signed("mail"), false},
		"for nobody":          {signed(nil), false},
		"for an empty name":   {signed(""), false},
		"a part of the name":  {signed("k"), false},
		"not a name":          {signed(5), false},
	} {
		if id, err := ours.Identify(c.token); (err == nil) != c.taken {
			t.Errorf("%s: %v, %v", what, id, err)
		}
		if id, err := anybody.Identify(c.token); (err == nil) != (what != "not a name") {
			t.Errorf("%s, without an audience: %v, %v", what, id, err)
		}
	}
}
