package logging

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// small is a rotated file that holds ten bytes, at a time of the test's own.
func small(t *testing.T, r Rotation) (*rotated, *time.Time) {
	t.Helper()
	f, err := openRotated(filepath.Join(t.TempDir(), "conclave.log"), Rotation{MaxSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	close(f.tidy) // a test tidies up itself
	f.tidier.Wait()
	f.tidy = make(chan struct{}, 1)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f.Rotation, f.most, f.now = r, 10, func() time.Time { return at }
	return f, &at
}

func write(t *testing.T, f *rotated, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if n, err := f.Write([]byte(line)); err != nil || n != len(line) {
			t.Fatalf("wrote %d of %q: %v", n, line, err)
		}
	}
}

func names(t *testing.T, f *rotated) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(f.name))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestRotated_renames(t *testing.T) {
	f, _ := small(t, Rotation{})
	write(t, f, "one\n", "two\n", "three\n", "a line that alone is longer\n", "six\n")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, name := range names(t, f) {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(f.name), name))
		if err != nil {
			t.Fatal(err)
		}
		got[name] = string(text)
	}
	// Names of one millisecond do not collide.
	want := map[string]string{
		"conclave-2026-01-02T03-04-05.000.log": "one\ntwo\n", "conclave-2026-01-02T03-04-05.001.log": "three\n",
		"conclave-2026-01-02T03-04-05.002.log": "a line that alone is longer\n", "conclave.log": "six\n",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRotated_keepsWithinBounds(t *testing.T) {
	for name, c := range map[string]struct {
		r    Rotation
		want []string
	}{
		"all":   {Rotation{}, []string{"conclave-1.log", "conclave-2026-01-01T00-00-00.000.log", "conclave-2026-01-02T00-00-00.000.log.gz", "conclave-2026-01-03T00-00-00.000.log", "conclave.log", "other-2020-01-01T00-00-00.000.log"}},
		"two":   {Rotation{MaxBackups: 2}, []string{"conclave-1.log", "conclave-2026-01-02T00-00-00.000.log.gz", "conclave-2026-01-03T00-00-00.000.log", "conclave.log", "other-2020-01-01T00-00-00.000.log"}},
		"a day": {Rotation{MaxAge: 1}, []string{"conclave-1.log", "conclave-2026-01-03T00-00-00.000.log", "conclave.log", "other-2020-01-01T00-00-00.000.log"}},
	} {
		t.Run(name, func(t *testing.T) {
			f, at := small(t, c.r)
			*at = time.Date(2026, 1, 3, 12, 0, 0, 0, time.UTC)
			for _, old := range []string{"conclave-2026-01-01T00-00-00.000.log", "conclave-2026-01-02T00-00-00.000.log.gz", "conclave-2026-01-03T00-00-00.000.log", "conclave-1.log", "other-2020-01-01T00-00-00.000.log"} {
				if err := os.WriteFile(filepath.Join(filepath.Dir(f.name), old), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.tidyUp(); err != nil {
				t.Fatal(err)
			}
			if got := names(t, f); !slices.Equal(got, c.want) {
				t.Errorf("left %q, want %q", got, c.want)
			}
		})
	}
}

func TestRotated_compresses(t *testing.T) {
	f, _ := small(t, Rotation{Compress: true})
	write(t, f, "old line\n", "new line\n")
	if err := f.tidyUp(); err != nil {
		t.Fatal(err)
	}
	packed := filepath.Join(filepath.Dir(f.name), "conclave-2026-01-02T03-04-05.000.log.gz")
	raw, err := os.ReadFile(packed)
	if err != nil {
		t.Fatalf("%v; there is %q", err, names(t, f))
	}
	zip, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(zip); err != nil || string(text) != "old line\n" {
		t.Errorf("unpacked %q, %v", text, err)
	}
	if got := names(t, f); len(got) != 2 {
		t.Errorf("there is %q", got)
	}
}

// A line is worth more than the bound: where no new file can be made, it goes to
// the one there is.
func TestRotated_cannotRename(t *testing.T) {
	f, _ := small(t, Rotation{})
	write(t, f, "old line\n")
	if err := os.Rename(f.name, f.name+".away"); err != nil {
		t.Fatal(err)
	}
	if n, err := f.Write([]byte("new line\n")); err == nil || n != 9 {
		t.Errorf("wrote %d, %v", n, err)
	}
	if text, err := os.ReadFile(f.name + ".away"); err != nil || string(text) != "old line\nnew line\n" {
		t.Errorf("the file holds %q, %v", text, err)
	}
}

func TestParseRotation_refused(t *testing.T) {
	file := []string{"/l"}
	for _, c := range []struct {
		text    string
		outputs []string
		want    string
	}{
		{DefaultRotation, []string{"stderr"}, "names 0 files"},
		{DefaultRotation, []string{"/a", "/b"}, "names 2 files"},
		{`{"maxsize": 1`, file, "--log-rotation-config-json"},
		{`{"maxsize": "1"}`, file, "--log-rotation-config-json"},
		{`{"maxsze": 1}`, file, "maxsze"},
		{`{} {}`, file, "more"},
		{`{"maxage": -1}`, file, "not negative"},
	} {
		if _, err := ParseRotation(c.text, c.outputs); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s for %q: %v, want %q", c.text, c.outputs, err, c.want)
		}
	}
	r, err := ParseRotation(`{"maxbackups": 3, "compress": true}`, []string{"stderr", "/l"})
	if err != nil || *r != (Rotation{MaxSize: 100, MaxBackups: 3, Compress: true}) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestOpen_rotates(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	out, err := Open([]string{name}, &Rotation{MaxSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	line := append(bytes.Repeat([]byte{'x'}, 700<<10), '\n')
	for range 2 {
		if _, err := out.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Dir(name))
	if err != nil || len(entries) != 2 {
		t.Errorf("there is %v, %v", entries, err)
	}
}
