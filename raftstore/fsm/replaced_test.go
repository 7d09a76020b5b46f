package fsm

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// deletedFiles are those below a directory that this process has open and that
// have no name any more: they still take space.
func deletedFiles(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("this system does not tell which files are open")
	}
	for _, e := range entries {
		name, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		if err == nil && strings.HasPrefix(name, dir) && strings.HasSuffix(name, " (deleted)") {
			names = append(names, name)
		}
	}
	return names
}

// A copy that was begun before a defragmentation is read to its end from the
// file that was replaced; it keeps nothing in the new one, and so is not what
// ends when too much is kept there.
func TestReplaced_copyGoesOn(t *testing.T) {
	m := openMachine(t, filepath.Join(t.TempDir(), "db"))
	defer closeMachine(t, m)
	feed(t, m, "a", 1, 50)
	commit(t, m)
	was := hashOf(t, m)
	before, err := m.Backup()
	if err != nil {
		t.Fatal(err)
	}
	old, err := defragment(m, func() {})
	if err != nil {
		t.Fatal(err)
	}
	if _, inUse, err := m.Size(); err != nil || m.Used() != inUse {
		t.Errorf("%d bytes in use, %d used, %v", inUse, m.Used(), err)
	}
	after, err := m.Backup()
	if err != nil {
		t.Fatal(err)
	}
	m.file.Load().minPinned = 1 << 20
	bulk(t, m, 51, 200)
	if _, err := after.Read(make([]byte, 1)); !errors.Is(err, ErrBackupEnded) {
		t.Errorf("the copy of the new file: %v", err)
	}
	path := filepath.Join(t.TempDir(), "copy")
	data, err := io.ReadAll(before)
	if err := errors.Join(err, os.WriteFile(path, data, 0o600), before.Close(), old.Close()); err != nil {
		t.Fatal(err)
	}
	c := openMachine(t, path)
	defer closeMachine(t, c)
	if now := hashOf(t, c); now != was {
		t.Errorf("the copy of the old file hashes to %s, the state was %s", now, was)
	}
}

// Ending the copies of the file that was replaced gives its space back, and
// leaves those of the new one alone.
func TestReplaced_endsItsCopies(t *testing.T) {
	dir := t.TempDir()
	m := openMachine(t, filepath.Join(dir, "db"))
	defer closeMachine(t, m)
	feed(t, m, "a", 1, 50)
	commit(t, m)
	before, err := m.Backup()
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	old, err := defragment(m, func() {})
	if err != nil {
		t.Fatal(err)
	}
	after, err := m.Backup()
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	if left := deletedFiles(t, dir); len(left) == 0 {
		t.Error("the old file is gone while it is read")
	}
	old.EndBackups("that is enough")
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	if left := deletedFiles(t, dir); len(left) > 0 {
		t.Errorf("still open: %v", left)
	}
	if _, err := before.Read(make([]byte, 1)); !errors.Is(err, ErrBackupEnded) || !strings.Contains(err.Error(), "that is enough") {
		t.Errorf("the copy of the old file: %v", err)
	}
	if _, err := io.ReadAll(after); err != nil {
		t.Errorf("the copy of the new file: %v", err)
	}
}
