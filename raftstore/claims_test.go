package raftstore

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestClaims_firstDirectoryForEver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "claims.json")
	c := NewClaims()
	if err := c.Keep(path); err != nil {
		t.Fatal(err)
	}
	if err := c.Claim(7, "first"); err != nil {
		t.Fatal(err)
	}
	if err := c.Claim(7, "first"); err != nil {
		t.Fatalf("the same directory again: %v", err)
	}
	if err := c.Claim(7, "second"); !errors.Is(err, ErrClaimed) {
		t.Fatalf("another directory: %v", err)
	}
	again, err := LoadClaims(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Admit(Hello{From: 7, Instance: "second"}); !errors.Is(err, ErrClaimed) {
		t.Fatalf("after a restart: %v", err)
	}
	if err := again.Admit(Hello{From: 8, Instance: "any"}); err != nil {
		t.Fatalf("a member that claimed nothing: %v", err)
	}
}

// A member that is known to have been started makes no first claim.
func TestClaims_startedElsewhere(t *testing.T) {
	c, err := LoadClaims(filepath.Join(t.TempDir(), "claims.json"))
	if err != nil {
		t.Fatal(err)
	}
	c.KnowStarted(func(id uint64) bool { return id == 7 })
	if err := c.Claim(7, "new"); !errors.Is(err, ErrClaimed) {
		t.Fatalf("got %v", err)
	}
	if err := c.Claim(8, "new"); err != nil {
		t.Fatal(err)
	}
}

// What is not on disk was not granted.
func TestClaims_notKept(t *testing.T) {
	dir := t.TempDir()
	c, err := LoadClaims(filepath.Join(dir, "gone", "claims.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Claim(7, "first"); err == nil {
		t.Fatal("a claim that could not be written was granted")
	}
	if err := os.WriteFile(filepath.Join(dir, "claims.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadClaims(filepath.Join(dir, "claims.json")); err == nil {
		t.Fatal("a damaged record was read as empty")
	}
}
