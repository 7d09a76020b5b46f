package raftstore

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft-wal/segment"
)

// A crash, or a full disk, that came between the making of a segment and its
// first entry may leave its file without its size. The log goes on in it, and
// opens again afterwards.
func TestLogCheck_newSegmentWithoutItsSize(t *testing.T) {
	for _, size := range []int64{0, 1, 31, 512, 1000} {
		dir := t.TempDir()
		rng := rand.New(rand.NewPCG(5, 5))
		s := mustOpenSmall(t, dir)
		if err := s.StoreLogs(noise(rng, 1, 3, 1500)); err != nil { // seals the first segment
			t.Fatal(err)
		}
		if err := s.backend.DeleteRange(1e9, 1e9); err != nil { // nothing, but it waits for the rotation
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		meta, err := readLogMeta(dir)
		if err != nil {
			t.Fatal(err)
		}
		if tail := meta.tail(); tail.BaseIndex != 4 {
			t.Fatalf("the last segment begins with %d", tail.BaseIndex)
		}
		if err := os.Truncate(filepath.Join(dir, segment.FileName(*meta.tail())), size); err != nil {
			t.Fatal(err)
		}
		for last := uint64(4); last < 7; last++ {
			s, err := openSmall(t, dir, nil)
			if err != nil {
				t.Fatalf("%d bytes, %d entries: %v", size, last-1, err)
			}
			if err := errors.Join(s.StoreLogs(noise(rng, last, last, 100)), s.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
}
