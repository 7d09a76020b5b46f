package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// CVE-2020-15113: a directory that everybody may write to is no place for a
// member, and one that is made is closed.
func TestCVE202015113_modesOfDirectories(t *testing.T) {
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil { // past the umask
		t.Fatal(err)
	}
	fresh := filepath.Join(t.TempDir(), "a", "b")
	for flag, paths := range map[string][2]string{"--data-dir": {open, ""}, "--wal-dir": {fresh, open}} {
		_, err := openDataDir(paths[0], paths[1])
		if err == nil || !strings.Contains(err.Error(), flag) || !strings.Contains(err.Error(), "chmod 700 "+open) {
			t.Errorf("%s: %v", flag, err)
		}
	}
	d, err := openDataDir(fresh, "")
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	for _, path := range []string{fresh, filepath.Dir(fresh)} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
		}
	}
}
