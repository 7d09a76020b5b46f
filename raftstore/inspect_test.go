package raftstore

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
			dir := t.TempDir()
			w := mustOpenSmall(t, dir)
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
			must(w.Close())
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
