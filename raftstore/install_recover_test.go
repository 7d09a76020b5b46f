package raftstore

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

// interrupted is a member whose process ended after a step of an install.
func interrupted(t *testing.T, after string) (dir string) {
	t.Helper()
	b, c := crashBed(t)
	b.begin(t)
	c.record(true)
	args, content := leaderState(50, 3, 0)
	b.mustInstall(t, args, content)
	c.record(false)
	for _, p := range c.points {
		if strings.HasSuffix(p.name, "after "+after) {
			return p.dir
		}
	}
	t.Fatalf("no step is %q: %v", after, c.points)
	return ""
}

// A received file that was damaged on disk before it became the state is not
// used: the old state and its log are whole.
func TestRecover_damagedFile(t *testing.T) {
	dir := interrupted(t, "write the intent")
	if err := os.WriteFile(statePath(dir)+stagedSuffix, []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	checkCrash(t, crashPoint{dir: dir})
}

func TestRecover_damagedIntent(t *testing.T) {
	for _, text := range []string{"", "{", `{"index":0}`} {
		dir := interrupted(t, "rename the staged file")
		intent := statePath(dir) + intentSuffix
		if err := os.WriteFile(intent, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := Recover(filepath.Join(dir, "wal"), statePath(dir), zerolog.Nop())
		if err == nil || !strings.HasPrefix(err.Error(), intent+" is damaged: ") || strings.Contains(err.Error(), "%!") || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v", err)
		}
	}
}

// A directory that no install was interrupted in is left alone, a new one too.
func TestRecover_nothingToDo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "[new]")
	if err := Recover(filepath.Join(dir, "wal"), statePath(dir), zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Error("a directory was made")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, stays := range map[string]bool{
		"db": true, "db.part": false, ".db.install.tmp-1": false, ".identity.json.tmp-1": true, "db.partly": true,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if got := exists(filepath.Join(dir, name)); got != stays {
				t.Errorf("%s: there %v, want %v", name, got, stays)
			}
		}()
	}
	for range 2 {
		if err := Recover(filepath.Join(dir, "wal"), statePath(dir), zerolog.Nop()); err != nil {
			t.Fatal(err)
		}
	}
}

// A log that cannot be emptied is said, and the intent stays for the next try.
func TestRecover_logFails(t *testing.T) {
	dir := interrupted(t, "sync the directory")
	wal := filepath.Join(dir, "wal")
	if err := os.RemoveAll(wal); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(wal, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Recover(wal, statePath(dir), zerolog.Nop()); err == nil || !exists(statePath(dir)+intentSuffix) {
		t.Errorf("got %v, intent there: %v", err, exists(statePath(dir)+intentSuffix))
	}
	if err := os.Remove(wal); err != nil {
		t.Fatal(err)
	}
	if err := Recover(wal, statePath(dir), zerolog.Nop()); err != nil || exists(statePath(dir)+intentSuffix) {
		t.Error(fmt.Errorf("second try: %w", err))
	}
}
