package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/conclave-kv/conclave/test/faultdisk"
)

// program is the file system under test.
var program string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	// A test binary that is started again is a victim: see victim_test.go.
	if len(os.Args) > 1 && os.Args[1] == victimWord {
		return victim(os.Args[2:])
	}
	if faultdisk.Available() != nil {
		return m.Run() // the tests say why they are skipped
	}
	dir, err := os.MkdirTemp("", "faultfs-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if program, err = faultdisk.Build(context.Background(), filepath.Join("..", ".."), dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// mounted is an empty disk, mounted until the test ends.
func mounted(t *testing.T, options ...string) *faultdisk.Disk {
	t.Helper()
	if err := faultdisk.Available(); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	d, err := faultdisk.Start(program, filepath.Join(dir, "backing"), filepath.Join(dir, "mnt"), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// do gives the disk a command that must be accepted.
func do(t *testing.T, d *faultdisk.Disk, command string, args ...any) {
	t.Helper()
	if _, err := d.Do(command, args...); err != nil {
		t.Fatal(err)
	}
}

// must fails for an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open opens a file of the disk until the test ends, or until it is closed.
func open(t *testing.T, d *faultdisk.Disk, name string, flag int) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(d.Path, name), flag, 0o600)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// read is a file of the disk; what says why it could not be read.
func read(d *faultdisk.Disk, name string) string {
	text, err := os.ReadFile(filepath.Join(d.Path, name))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// names lists a directory of the disk.
func names(t *testing.T, d *faultdisk.Disk, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(d.Path, dir))
	must(t, err)
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// syncDir makes the names in a directory durable.
func syncDir(t *testing.T, d *faultdisk.Disk, dir string) {
	t.Helper()
	f, err := os.Open(filepath.Join(d.Path, dir))
	must(t, err)
	defer f.Close()
	must(t, f.Sync())
}

// within fails unless an event comes in time; patience only.
func within(t *testing.T, what string, event <-chan error) error {
	t.Helper()
	select {
	case err := <-event:
		return err
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: not within 20 s", what)
		return nil
	}
}
