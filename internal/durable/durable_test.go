package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWriteFile_replaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, c := range []struct {
		data string
		perm fs.FileMode
	}{{"a longer first content", 0o644}, {"second", 0o600}} {
		if err := WriteFile(path, []byte(c.data), c.perm); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != c.data {
			t.Fatalf("content %q, %v; want %q", got, err, c.data)
		}
		if info, _ := os.Stat(path); info.Mode().Perm() != c.perm {
			t.Fatalf("mode %v, want %v", info.Mode().Perm(), c.perm)
		}
	}
	onlyFile(t, path)
}

func TestWriteFile_missingDirectory(t *testing.T) {
	err := WriteFile(filepath.Join(t.TempDir(), "no", "f"), nil, 0o600)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("error %v, want ErrNotExist", err)
	}
}

func TestWriteFile_failedRenameLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "d")
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, []byte("x"), 0o600); err == nil {
		t.Fatal("replaced a directory by a file")
	}
	onlyFile(t, path)
}

func TestCreateFile_keepsExisting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := CreateFile(path, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CreateFile(path, []byte("two"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("error %v, want ErrExist", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "one" {
		t.Fatalf("content %q", got)
	}
	onlyFile(t, path)
}

func TestCreateFile_keepsDanglingLink(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.Symlink("nowhere", path); err != nil {
		t.Fatal(err)
	}
	if err := CreateFile(path, []byte("x"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("error %v, want ErrExist", err)
	}
}

func TestWriteFiles_allOrNone(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(data string, names ...string) error {
		var files []File
		for _, name := range names {
			files = append(files, File{Path: at(name), Data: []byte(data), Perm: 0o600})
		}
		return WriteFiles(files...)
	}
	holds := func(want map[string]string) {
		t.Helper()
		list, err := os.ReadDir(dir)
		if err != nil || len(list) != len(want) {
			t.Fatalf("directory holds %v, %v; want %v", list, err, want)
		}
		for name, data := range want {
			if got, err := os.ReadFile(at(name)); data != "" && (err != nil || string(got) != data) {
				t.Fatalf("%s holds %q, %v; want %q", name, got, err, data)
			}
		}
	}
	if err := write("one", "a", "b"); err != nil {
		t.Fatal(err)
	}
	holds(map[string]string{"a": "one", "b": "one"})
	if err := write("two", "a", "b"); err != nil {
		t.Fatal(err)
	}
	holds(map[string]string{"a": "two", "b": "two"})
	// What cannot be replaced comes last: the others are put back, and what is
	// new is removed. What cannot be written leaves all alone.
	if err := os.Mkdir(at("d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", at("link")); err != nil {
		t.Fatal(err)
	}
	for _, last := range []string{"d", "no/f"} {
		if err := write("three", "a", "link", "new", last); err == nil {
			t.Fatalf("wrote %s", last)
		}
		holds(map[string]string{"a": "two", "b": "two", "d": "", "link": "two"})
		if to, err := os.Readlink(at("link")); err != nil || to != "a" {
			t.Fatalf("link to %q, %v", to, err)
		}
	}
}

// TestSwap_takenBack has a file vanish before it is put in place.
func TestSwap_takenBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &swap{path: path, tmp: path + ".tmp"}
	if err := s.do(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("error %v, want ErrNotExist", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Fatalf("content %q", got)
	}
	onlyFile(t, path)
}

func TestMkdirAll_parents(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b", "c")
	for range 2 {
		if err := MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if info, err := os.Stat(d); err != nil || info.Mode().Perm() != 0o700 {
			t.Fatalf("%s: %v %v", d, info, err)
		}
	}
	file := filepath.Join(dir, "f")
	if err := WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := MkdirAll(filepath.Join(file, "x"), 0o700); err == nil {
		t.Fatal("made a directory below a file")
	}
}

func TestLock_second(t *testing.T) {
	dir := t.TempDir()
	l, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Lock(dir)
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "process") || !strings.Contains(err.Error(), dir) {
		t.Fatalf("second lock: %v", err)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := l.Unlock(); err != nil {
		t.Fatalf("second unlock: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Fatalf("left behind: %v", left)
	}
	l, err = Lock(dir)
	if err != nil {
		t.Fatalf("after unlock: %v", err)
	}
	_ = l.Unlock()
}

func TestLock_staleFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, lockName), []byte("4242424\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Lock(dir)
	if err != nil {
		t.Fatalf("a file left by a crash locks: %v", err)
	}
	_ = l.Unlock()
}

// onlyFile fails when the directory of path holds anything but path.
func onlyFile(t *testing.T, path string) {
	t.Helper()
	list, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(list) != 1 || list[0].Name() != filepath.Base(path) {
		t.Fatalf("directory holds %v, %v", list, err)
	}
}
