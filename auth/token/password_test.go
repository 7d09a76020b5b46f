package token

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

func hashOf(t *testing.T, p *Passwords, password string) []byte {
	t.Helper()
	text, err := p.Hash(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func TestPasswords_check(t *testing.T) {
	p := NewPasswords(MinCost)
	for _, password := range []string{"", "secret", strings.Repeat("x", maxPassword), "\x00\xff"} {
		hash := hashOf(t, p, password)
		if cost, err := bcrypt.Cost(hash); err != nil || cost != MinCost {
			t.Error(cost, err)
		}
		for _, given := range []string{"", "secret", "secret ", strings.Repeat("x", maxPassword), strings.Repeat("x", maxPassword+1), "\x00\xff"} {
			if ok, err := p.Check(t.Context(), hash, given); err != nil || ok != (given == password) {
				t.Errorf("%q for %q: %t, %v", given, password, ok, err)
			}
		}
	}
	if _, err := p.Hash(t.Context(), strings.Repeat("x", maxPassword+1)); !errors.Is(err, ErrPasswordTooLong) {
		t.Error(err)
	}
}

// A user who does not exist takes what a wrong password takes: the same work of
// bcrypt.
func TestPasswords_nobodyCostsTheSame(t *testing.T) {
	for cost := MinCost; cost <= MinCost+2; cost++ {
		p := NewPasswords(cost)
		if got, err := bcrypt.Cost(p.nobody); err != nil || got != cost {
			t.Errorf("cost %d: %d, %v", cost, got, err)
		}
		if err := bcrypt.CompareHashAndPassword(p.nobody, []byte("x")); !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
			t.Errorf("it is not compared to the end: %v", err)
		}
		for _, password := range []string{"", "x", strings.Repeat("x", 100)} {
			if ok, err := p.Check(t.Context(), nil, password); ok || err != nil {
				t.Errorf("%q is a password of nobody: %t, %v", password, ok, err)
			}
		}
	}
}

func TestPasswords_bounds(t *testing.T) {
	p := NewPasswords(MinCost)
	p.places.free = 0
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := p.Check(ctx, nil, "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while others are checked: %v", err)
	}
	p.places.waiting = maxWaiting
	if _, err := p.Check(t.Context(), nil, "x"); !errors.Is(err, ErrBusy) {
		t.Errorf("while too many wait: %v", err)
	}
}

func TestLogins_bcryptOnce(t *testing.T) {
	p := NewPasswords(MinCost)
	l := NewLogins(p)
	hash := hashOf(t, p, "secret")
	var work sync.WaitGroup
	var tokens sync.Map
	for range 50 {
		work.Go(func() {
			login, err := l.Enter(t.Context(), "u", hash, "secret")
			if err != nil || login == nil {
				t.Error(login, err)
				return
			}
			defer login.Leave()
			if login.Token == "" {
				login.Token = New()
			}
			tokens.Store(login.Token, true)
		})
	}
	work.Wait()
	n := 0
	tokens.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("50 logins at once got %d tokens", n)
	}
	p.places.free, p.places.waiting = 0, maxWaiting // no password can be checked any more
	enter := func(user string, hash []byte, password string) error {
		login, err := l.Enter(t.Context(), user, hash, password)
		if login != nil {
			login.Leave()
		}
		return err
	}
	if err := enter("u", hash, "secret"); err != nil {
		t.Errorf("a login that is known: %v", err)
	}
	other := append([]byte{}, hash...)
	other[20] ^= 1
	for what, err := range map[string]error{
		"another password": enter("u", hash, "secret2"), "another user": enter("v", hash, "secret"),
		"a new password": enter("u", other, "secret"),
	} {
		if !errors.Is(err, ErrBusy) {
			t.Errorf("%s is not checked: %v", what, err)
		}
	}
}

// A wrong password is not remembered, and memory is bounded.
func TestLogins_bounds(t *testing.T) {
	p := NewPasswords(MinCost)
	l := NewLogins(p)
	hash := hashOf(t, p, "secret")
	for range 2 {
		if login, err := l.Enter(t.Context(), "u", hash, "wrong"); login != nil || err != nil {
			t.Fatal(login, err)
		}
	}
	if len(l.young)+len(l.old) != 0 {
		t.Error("a wrong password is remembered")
	}
	for i := range 3 * maxLogins {
		l.find(loginKey{byte(i), byte(i >> 8), byte(i >> 16)})
	}
	if n := len(l.young) + len(l.old); n > 2*maxLogins {
		t.Errorf("%d logins are remembered", n)
	}
}
