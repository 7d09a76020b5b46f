package token

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func newHMAC(t testing.TB, ttl time.Duration) *JWT {
	t.Helper()
	j, err := NewJWT("HS256", []byte("a secret of some length"), nil, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func issue(t testing.TB, j *JWT, user string) string {
	t.Helper()
	text, err := j.Issue(user, 7)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A token that is known is not verified again, until it ends, and no other is taken
// for it.
func TestJWT_known(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newHMAC(t, time.Minute)
		text := issue(t, j, "alice")
		first, err := j.Identify(text)
		if err != nil || first.User != "alice" || first.Revision != 7 {
			t.Fatal(first, err)
		}
		j.verify = []byte("another secret") // by which it would be refused
		if again, err := j.Identify(text); err != nil || again != first {
			t.Errorf("a token that is known: %v, %v", again, err)
		}
		for _, forged := range []string{text + "x", text[:len(text)-1], ""} {
			if id, err := j.Identify(forged); err == nil {
				t.Errorf("%q is %s's token", forged, id.User)
			}
		}
		if n := len(j.known.young) + len(j.known.old); n != 1 {
			t.Errorf("%d tokens are known: also forged ones?", n)
		}
		time.Sleep(time.Minute - time.Nanosecond)
		if _, err := j.Identify(text); err != nil {
			t.Errorf("just before its end: %v", err)
		}
		time.Sleep(time.Nanosecond)
		j.verify = j.sign
		if _, err := j.Identify(text); err == nil {
			t.Error("it outlives its end")
		}
		if n := len(j.known.young) + len(j.known.old); n != 0 {
			t.Errorf("%d tokens are known after their end", n)
		}
	})
}

func TestJWT_knownIsBounded(t *testing.T) {
	j := newHMAC(t, time.Hour)
	used := issue(t, j, "used")
	id, err := j.Identify(used)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 * maxVerified {
		if _, err := j.Identify(issue(t, j, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		if i%1000 == 0 {
			if again, err := j.Identify(used); err != nil || again != id {
				t.Fatalf("one that is used was forgotten: %v, %v", again, err)
			}
		}
	}
	if n := len(j.known.young) + len(j.known.old); n > 2*maxVerified {
		t.Errorf("%d tokens are known", n)
	}
}

// What finding out who asks costs with each request.
func BenchmarkJWT_identify(b *testing.B) {
	key, _ := rsaPair(b)
	j, err := NewJWT("RS256", key, nil, time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	text := issue(b, j, "alice")
	b.Run("verified each time", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := j.Verify(text); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := j.Identify(text); err != nil {
				b.Fatal(err)
			}
		}
	})
}
