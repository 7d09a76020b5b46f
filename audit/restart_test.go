package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/conclave-kv/conclave/internal/logging"
)

// A restart goes on where the file ends, and over a line that a crash has cut.
func TestLog_goesOn(t *testing.T) {
	var m memory
	name, _ := written(t, &m, "a")
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append(raw, `{"seq":4,"ti`...), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		l := open(t, options(name, &m))
		l.Add(put("b"))
		closeLog(t, l)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	v, sum := verify(t, m.of, string(text))
	if len(v.Problems) > 0 || sum != (Summary{Records: 9, First: 1, Last: 9, Anchored: 9}) {
		t.Errorf("%v, %+v", v.Problems, sum)
	}
	if got := fmt.Sprint(v.Notes); !strings.Contains(got, "a:4: the line is cut, as a crash leaves it") {
		t.Errorf("noted %s", got)
	}
}

// A log that lost its end goes on behind what the cluster remembers, so that it
// still shows.
func TestLog_cutBetweenStarts(t *testing.T) {
	var m memory
	name, lines := written(t, &m, "a", "b", "c")
	if err := os.WriteFile(name, []byte(strings.Join(lines[:2], "")), 0o600); err != nil {
		t.Fatal(err)
	}
	closeLog(t, open(t, options(name, &m)))
	text, _ := os.ReadFile(name)
	v, _ := verify(t, m.of, string(text))
	if got := fmt.Sprint(v.Problems); !strings.Contains(got, "records 3 to 5 are missing before record 6") {
		t.Errorf("found %s", got)
	}
}

func TestOpen_refusesOtherFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(options(name, &memory{})); !errors.Is(err, errForeign) || !strings.Contains(err.Error(), name) {
		t.Errorf("opened a file of something else: %v", err)
	}
	other := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, options(other, &memory{}))
	defer closeLog(t, l)
	if info, err := os.Stat(other); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may read it: %v, %v", info, err)
	}
	if _, err := Open(options(other, &memory{})); !errors.Is(err, logging.ErrInUse) {
		t.Errorf("opened a file in use: %v", err)
	}
}

// The chain goes on across files, each is anchored when it is finished, and a start
// finds the end of the chain in the newest file that has one.
func TestLog_rotates(t *testing.T) {
	var m memory
	name := filepath.Join(t.TempDir(), "audit.log")
	o := options(name, &m)
	o.Rotation.Compress = true
	l := open(t, o)
	key := strings.Repeat("k", 200)
	for range 4000 { // some 600 bytes each
		l.Add(put(key))
	}
	eventually(t, "two more files, and the first anchored", func() bool {
		old, err := filepath.Glob(filepath.Join(filepath.Dir(name), "audit-*"))
		return err == nil && len(old) >= 2 && m.newest().Seq > 0
	})
	closeLog(t, l)
	if err := os.Truncate(name, 0); err != nil { // a crash right after a rotation
		t.Fatal(err)
	}
	old, err := filepath.Glob(filepath.Join(filepath.Dir(name), "audit-*"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(old)
	if !strings.HasSuffix(old[0], ".gz") {
		t.Errorf("not compressed: %v", old)
	}
	raw, err := readEnd(old[len(old)-1])
	if err != nil {
		t.Fatal(err)
	}
	finished, err := lastRecord(raw)
	if err != nil {
		t.Fatal(err)
	}
	m.heads = slices.DeleteFunc(m.heads, func(h Head) bool { return h.Seq > finished.Seq })
	o.Anchored = m.newest()
	closeLog(t, open(t, o))
	v := &Verifier{Anchors: m.of}
	for _, f := range append(old, name) {
		r, err := OpenRecords(f)
		if err == nil {
			err = errors.Join(v.Read(f, r), r.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if sum := v.End(); len(v.Problems) > 0 || sum.First != 1 || sum.Anchored != sum.Last {
		t.Errorf("%v, %+v of %v", v.Problems, sum, old)
	}
}

// The rest of a line that was cut belongs to its file, however full that is.
func TestLog_cutInAFullFile(t *testing.T) {
	var m memory
	name := filepath.Join(t.TempDir(), "audit.log")
	o := options(name, &m)
	o.Rotation.MaxSize = 2
	l := open(t, o)
	for range 2500 {
		l.Add(put(strings.Repeat("k", 200)))
	}
	closeLog(t, l)
	raw, err := os.ReadFile(name)
	if err != nil || len(raw) < 1<<20 {
		t.Fatal(len(raw), err)
	}
	if err := os.WriteFile(name, append(raw, `{"seq":`...), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Rotation.MaxSize, o.Anchored = 1, m.newest()
	l = open(t, o)
	l.Add(put("next"))
	closeLog(t, l)
	old, err := filepath.Glob(filepath.Join(filepath.Dir(name), "audit-*"))
	if err != nil || len(old) != 1 {
		t.Fatal(old, err)
	}
	var texts []string
	for _, f := range append(old, name) {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(raw))
	}
	if v, sum := verify(t, m.of, texts...); len(v.Problems) > 0 || len(v.Notes) != 1 || sum.Anchored != sum.Last {
		t.Errorf("%v, %v, %+v", v.Problems, v.Notes, sum)
	}
}
