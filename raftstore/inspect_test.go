package raftstore

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hashicorp/raft"
)

// contents names every file of a directory with what is in it and when it was
// changed.
func contents(t *testing.T, dir string) string {
	t.Helper()
	var out string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		out += fmt.Sprintf("%s %x %v\n", path, sha256.Sum256(data), info.ModTime())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A look into the log of a stopped member finds everything in it, whether it
// has few files or many, and leaves it as it was.
func TestInspect_changesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for name, entries := range map[string]int{"one file": 5, "more files than are copied": 400} {
		t.Run(name, func(t *testing.T) {
			live, dir := t.TempDir(), t.TempDir()
			w := mustOpenSmall(t, live)
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			conf := raft.EncodeConfiguration(encodeConfiguration(loneMember()))
			must(w.StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: conf}))
			for i := 2; i <= entries; i++ {
				must(w.StoreLog(&raft.Log{Index: uint64(i), Term: 3, Data: bytes.Repeat([]byte("x"), 100), Extensions: recordCommit(uint64(i - 1))}))
			}
			must(w.SetUint64(keyCurrentTerm, 4))
			must(w.SetUint64(keyLastVoteTerm, 3))
			must(w.Set(keyLastVoteCand, []byte(serverID(0xabc))))
			copyTree(t, live, dir) // as a crash leaves it
			before := contents(t, dir)
			r, err := Inspect(dir)
			if err != nil {
				t.Fatal(err)
			}
			if after := contents(t, dir); after != before {
				t.Errorf("before\n%safter\n%s", before, after)
			}
			l := r.Log
			if l.FirstIndex != 1 || l.LastIndex != uint64(entries) || l.LastTerm != 3 || l.Bytes == 0 || r.Term != 4 || r.VotedFor != "abc" ||
				r.VotedTerm != 3 || r.CommitIndex != uint64(entries-1) || r.Membership.GetIndex() != 1 || len(r.Membership.GetServers()) != 1 || len(r.Troubles) != 0 {
				t.Errorf("report %v", r)
			}
			if entries > 100 && l.Segments <= copiedSegments {
				t.Errorf("%d files: the others are not tested", l.Segments)
			}
			left, err := filepath.Glob(filepath.Join(os.TempDir(), "conclave-log-*"))
			if err != nil || len(left) != 0 {
				t.Errorf("left in the temporary directory: %v %v", left, err)
			}
		})
	}
}

func TestInspect_noLog(t *testing.T) {
	if _, err := Inspect(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// What a torn write left is erased by who opens the log to write to it, and by
// nobody else.
func TestInspect_tornWrite(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	rng := rand.New(rand.NewPCG(1, 1))
	s := tearLog(t, [][]*raft.Log{noise(rng, 1, 3, 100)}, noise(rng, 4, 6, 700))
	second := (s.from/sector + 1) * sector
	torn := append(slices.Clone(s.after[:second]), make([]byte, len(s.after)-second)...)
	if err := os.WriteFile(filepath.Join(s.dir, s.file), torn, 0o600); err != nil {
		t.Fatal(err)
	}
	before := contents(t, s.dir)
	r, err := Inspect(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	if after := contents(t, s.dir); after != before {
		t.Errorf("before\n%safter\n%s", before, after)
	}
	if r.Log.LastIndex != s.last || len(r.Troubles) != 0 {
		t.Errorf("report %v", r)
	}
}
