package fsm

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"
)

// A start that came as far as to make the state file, because the disk was full or
// the process ended, is begun again.
func TestOpen_fileThatIsEmpty(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if found, err := Inspect(path); err != nil || found.Index != 0 || len(found.Members.All()) != 0 {
		t.Errorf("it is inspected as %+v, %v", found, err)
	}
	m, err := Open(Options{Path: path, Quota: 1 << 26, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if found, err := Inspect(path); err != nil || found.Index != 0 {
		t.Errorf("after a start it is inspected as %+v, %v", found, err)
	}
}
