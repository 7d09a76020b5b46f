package daemon

import (
	"os"
	"path/filepath"
	"testing"
)

// A refused start removes what it made, and nothing that a member may need.
func TestDataDir_discard(t *testing.T) {
	for name, c := range map[string]struct {
		file string // what was there, relative to the data directory
		wal  bool   // elsewhere
		gone bool
	}{
		"fresh":                   {gone: true},
		"fresh, log elsewhere":    {wal: true, gone: true},
		"with a log":              {file: "member/wal/segment"},
		"with a log elsewhere":    {file: "wal/segment", wal: true},
		"with a state, empty log": {file: "member/snap/db"},
	} {
		t.Run(name, func(t *testing.T) {
			path, wal := t.TempDir(), ""
			if c.wal {
				wal = filepath.Join(path, "wal")
			}
			d, err := openDataDir(path, wal)
			if err != nil {
				t.Fatal(err)
			}
			defer d.close()
			if err := d.save(identity{Format: directoryFormat}); err != nil {
				t.Fatal(err)
			}
			if c.file != "" {
				if err := os.WriteFile(filepath.Join(path, c.file), []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			d.discard()
			_, err = os.Stat(d.identityPath())
			if c.gone != os.IsNotExist(err) {
				t.Fatalf("the identity: %v", err)
			}
			if c.file != "" {
				if _, err := os.Stat(filepath.Join(path, c.file)); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
