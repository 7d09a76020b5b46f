package fsm

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// A look at a state file finds where it is, refuses one in use, names damage,
// and writes nothing.
func TestInspect_stateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	if _, err := Inspect(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("without a file: %v", err)
	}
	m, err := Open(Options{Path: path, Quota: 1 << 20, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	m.Configure(1, 1, &conclavepb.Configuration{Servers: []*conclavepb.Server{{Id: 7, PeerUrls: []string{"http://a:1"}}}})
	m.Publish()
	if err := m.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(path); !errors.Is(err, ErrInUse) {
		t.Errorf("in use: %v", err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Inspect(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, known := got.Members.Get(7); !known || got.Index != 1 || got.Term != 1 || got.MembershipIndex != 1 || len(got.Membership.Servers) != 1 {
		t.Errorf("found %+v", got)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the file was changed, %v", err)
	}
	if err := os.Truncate(path, 2*int64(os.Getpagesize())); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(path); !errors.Is(err, ErrCorrupt) {
		t.Errorf("cut off behind its head: %v", err)
	}
}
