package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestRootCrash_losesWhatWasNotSynced(t *testing.T) {
	d := mounted(t, "-forget")
	f := open(t, d, "f", os.O_CREATE|os.O_RDWR)
	write(t, f, "synced", 0)
	must(t, f.Sync())
	write(t, f, "SYN", 0)
	write(t, f, " and more", 6)
	if got := read(d, "f"); got != "SYNced and more" {
		t.Fatalf("before the crash: %q", got)
	}
	do(t, d, "crash", "all")
	if got := read(d, "f"); got != "synced" {
		t.Errorf("after the crash: %q, want what was synced", got)
	}
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("a file that was open before the crash can still be written")
	}
}

func TestRootCrash_keepsWhatWasSynced(t *testing.T) {
	for name, sync := range map[string]func(f *os.File) error{
		"fsync":     (*os.File).Sync,
		"fdatasync": func(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) },
	} {
		t.Run(name, func(t *testing.T) {
			d := mounted(t, "-forget")
			f := open(t, d, "f", os.O_CREATE|os.O_RDWR)
			write(t, f, "one", 0)
			must(t, sync(f))
			write(t, f, "two", 0)
			must(t, f.Truncate(10000))
			must(t, sync(f))
			f.Close()
			do(t, d, "crash", "all")
			if got := read(d, "f"); got != "two"+strings.Repeat("\x00", 9997) {
				t.Errorf("%d bytes, %.10q", len(got), got)
			}
			do(t, d, "crash", 1)
			if got := read(d, "f"); len(got) != 10000 {
				t.Errorf("a crash with nothing to forget left %d bytes", len(got))
			}
		})
	}
}

// A file opened with O_DSYNC needs no sync of its own.
func TestRootCrash_keepsWhatWasWrittenThrough(t *testing.T) {
	d := mounted(t, "-forget")
	f := open(t, d, "f", os.O_CREATE|os.O_RDWR|syscall.O_DSYNC)
	write(t, f, "through", 0)
	do(t, d, "crash", "all")
	if got := read(d, "f"); got != "through" {
		t.Errorf("%q", got)
	}
}

func TestRootCrash_undoesTruncation(t *testing.T) {
	d := mounted(t, "-forget")
	f := open(t, d, "f", os.O_CREATE|os.O_RDWR)
	text := strings.Repeat("0123456789", 2000)
	write(t, f, text, 0)
	must(t, f.Sync())
	must(t, f.Truncate(5))
	must(t, f.Truncate(30000))
	write(t, f, "new", 10000)
	do(t, d, "crash", "all")
	if got := read(d, "f"); got != text {
		t.Errorf("%d bytes, %.20q", len(got), got)
	}
	// The same by allocating and punching.
	f = open(t, d, "f", os.O_RDWR)
	must(t, syscall.Fallocate(int(f.Fd()), 0, 0, 1<<20))
	must(t, syscall.Fallocate(int(f.Fd()), allocKeepSize|allocPunch, 0, 8192))
	if got := read(d, "f"); len(got) != 1<<20 || strings.Trim(got[:8192], "\x00") != "" {
		t.Errorf("fallocate made %d bytes, %.10q", len(got), got)
	}
	do(t, d, "crash", "all")
	if got := read(d, "f"); got != text {
		t.Errorf("%d bytes, %.20q", len(got), got)
	}
}

// With a seed some blocks survive and others do not, whole ones, and the same
// ones for the same seed.
func TestRootCrash_seedDecides(t *testing.T) {
	const blocks = 64
	old, young := bytes.Repeat([]byte("o"), blocks*blockSize), bytes.Repeat([]byte("y"), blocks*blockSize)
	crash := func(seed int) string {
		d := mounted(t, "-forget")
		f := open(t, d, "f", os.O_CREATE|os.O_RDWR)
		write(t, f, string(old), 0)
		must(t, f.Sync())
		write(t, f, string(young), 0)
		do(t, d, "crash", seed)
		return read(d, "f")
	}
	first := crash(1)
	kept := 0
	for b := range blocks {
		switch block := first[b*blockSize : (b+1)*blockSize]; {
		case block == string(young[:blockSize]):
			kept++
		case block != string(old[:blockSize]):
			t.Errorf("block %d is torn", b)
		}
	}
	if kept < blocks/8 || kept > blocks*7/8 {
		t.Errorf("%d of %d blocks survived", kept, blocks)
	}
	if again := crash(1); again != first {
		t.Error("the same seed forgets differently")
	}
	if other := crash(2); other == first {
		t.Error("another seed forgets the same")
	}
}

func TestRootCrash_namesGoBack(t *testing.T) {
	d := mounted(t, "-forget")
	at := func(name string) string { return filepath.Join(d.Path, name) }
	must(t, os.Mkdir(at("dir"), 0o700))
	for _, name := range []string{"renamed", "replaced", "removed"} {
		must(t, os.WriteFile(at("dir/"+name), []byte(name), 0o600))
		f := open(t, d, "dir/"+name, os.O_RDWR)
		must(t, f.Sync())
	}
	syncDir(t, d, "dir")
	syncDir(t, d, ".")
	must(t, os.Rename(at("dir/renamed"), at("dir/replaced")))
	must(t, os.Remove(at("dir/removed")))
	must(t, os.WriteFile(at("dir/created"), nil, 0o600))
	must(t, os.Mkdir(at("sub"), 0o700))
	must(t, os.Rename(at("dir/created"), at("sub/moved")))
	must(t, os.Link(at("sub/moved"), at("linked")))
	must(t, os.Symlink("x", at("symlink")))
	must(t, os.Mkdir(at("gone"), 0o700))
	must(t, os.Remove(at("gone")))
	do(t, d, "crash", "all")
	if got := names(t, d, "."); !slices.Equal(got, []string{"dir"}) {
		t.Errorf("at the top: %q", got)
	}
	if got := names(t, d, "dir"); !slices.Equal(got, []string{"removed", "renamed", "replaced"}) {
		t.Errorf("in dir: %q", got)
	}
	for _, name := range []string{"renamed", "replaced", "removed"} {
		if got := read(d, "dir/"+name); got != name {
			t.Errorf("%s holds %q", name, got)
		}
	}
}

// A rename over another file is there or not; the sync of the directory makes
// it durable, and the file it replaced is gone.
func TestRootCrash_renameIsAtomic(t *testing.T) {
	outcomes := map[string]int{}
	for seed := range 20 {
		d := mounted(t, "-forget")
		at := func(name string) string { return filepath.Join(d.Path, name) }
		for _, name := range []string{"old", "new"} {
			f := open(t, d, name, os.O_CREATE|os.O_RDWR)
			write(t, f, name, 0)
			must(t, f.Sync())
		}
		must(t, os.Rename(at("new"), at("old")))
		synced := seed%2 == 0
		if synced {
			syncDir(t, d, ".")
		}
		do(t, d, "crash", seed)
		got := read(d, "old")
		left := names(t, d, ".")
		if whole := got == "new" && len(left) == 1 || got == "old" && len(left) == 2; !whole || synced && got != "new" {
			t.Errorf("seed %d, directory synced %t: %q, and the directory holds %q", seed, synced, got, left)
		}
		if !synced {
			outcomes[got]++
		}
	}
	if len(outcomes) != 2 {
		t.Errorf("without a sync of the directory the outcomes were %v, want both", outcomes)
	}
}

// The sync of a file commits its creation, and every earlier change of names;
// with -strict-names only the directory's does.
func TestRootCrash_syncOfFileAndItsName(t *testing.T) {
	for _, c := range []struct {
		options []string
		want    []string
	}{
		{[]string{"-forget"}, []string{"before", "f"}},
		{[]string{"-forget", "-strict-names"}, nil},
	} {
		d := mounted(t, c.options...)
		must(t, os.WriteFile(filepath.Join(d.Path, "before"), nil, 0o600))
		f := open(t, d, "f", os.O_CREATE|os.O_RDWR)
		write(t, f, "x", 0)
		must(t, f.Sync())
		must(t, os.WriteFile(filepath.Join(d.Path, "after"), nil, 0o600))
		do(t, d, "crash", "all")
		if got := names(t, d, "."); !slices.Equal(got, c.want) {
			t.Errorf("%v: %q, want %q", c.options, got, c.want)
		}
	}
}

func write(t *testing.T, f *os.File, text string, at int64) {
	t.Helper()
	if _, err := f.WriteAt([]byte(text), at); err != nil {
		t.Fatal(err)
	}
}
