package raftstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Whatever happens to one byte of any file, nothing that was on stable storage
// is missing afterwards, and nothing else is there instead: the log is refused,
// or it is whole. Every byte that holds something is noticed.
func TestLogCheck_anyByte(t *testing.T) {
	s := sampleLog(t, false)
	rng := rand.New(rand.NewPCG(2, 2))
	step := 24
	if testing.Short() {
		step = 240
	}
	for _, file := range s.parts {
		used := s.used(t, file)
		tried, refused := 0, 0
		// A step of 1 takes minutes, and was tried.
		for at := 0; at < used+600; at += 1 + rng.IntN(step) {
			tried++
			was := byte(0)
			change := func(b []byte) []byte {
				for at >= len(b) {
					return b
				}
				was = b[at]
				switch rng.IntN(4) {
				case 0:
					b[at] = 0
				case 1:
					b[at] = 0xff
				default:
					b[at] ^= 1 << rng.IntN(8)
				}
				if b[at] == was {
					b[at]++
				}
				return b
			}
			s.with(t, file, change, func() {
				what := fmt.Sprintf("%s, byte %d of %d, was %02x", file, at, used, was)
				if s.outcome(t, what, file) != nil {
					refused++
				} else if at < used {
					t.Errorf("%s: not noticed", what)
				}
			})
		}
		t.Logf("%s: %d changes, %d refused", file, tried, refused)
	}
}

// A sector that turned into zeros is noticed, unless it belongs to the very last
// batch, and so is a file that is shorter or missing.
func TestLogCheck_sectorsAndFiles(t *testing.T) {
	s := sampleLog(t, false)
	last := s.lastBatch(t)
	for _, file := range s.parts {
		used := s.used(t, file)
		for at := 0; at < used; at += sector {
			s.with(t, file, func(b []byte) []byte {
				clear(b[at:min(at+sector, len(b))])
				return b
			}, func() {
				if file == s.tailName() && at+sector > last {
					return // see tear; TestLogCheck_lastBatch
				}
				if s.outcome(t, fmt.Sprintf("%s without the sector at %d", file, at), file) == nil {
					t.Errorf("%s: the sector at %d is not missed", file, at)
				}
			})
		}
		for _, size := range []int{0, 1, 31, 32, 511, used / 2, used - 1, used} {
			s.with(t, file, func(b []byte) []byte { return b[:size] }, func() {
				whole := s.outcome(t, fmt.Sprintf("%s cut to %d", file, size), file) == nil
				if sealedOrMeta := file != s.tailName(); whole != (sealedOrMeta && size == used) {
					t.Errorf("%s cut to %d of %d: whole %v", file, size, used, whole)
				}
			})
		}
		s.with(t, file, func([]byte) []byte { return nil }, func() {
			if s.outcome(t, file+" missing", file) == nil {
				t.Errorf("%s is not missed", file)
			}
		})
	}
}

// Damage to the last batch that looks like a torn write is noticed when the log
// was closed in order, or the vote written, after it.
func TestLogCheck_lastBatch(t *testing.T) {
	s := sampleLog(t, true)
	from := s.lastBatch(t)
	s.with(t, s.tailName(), func(b []byte) []byte {
		clear(b[from:])
		return b
	}, func() {
		if s.outcome(t, "without the last batch", s.tailName()) == nil {
			t.Error("the last batch is not missed")
		}
	})
}

// brokenRotation fails to write the list of segments once armed.
type brokenRotation struct {
	types.MetaStore
	broken *bool
}

func (m brokenRotation) CommitState(s types.PersistentState) error {
	if *m.broken {
		return errors.New("crashed")
	}
	return m.MetaStore.CommitState(s)
}

// A segment that was sealed when a crash prevented the next one is continued in
// a new one. (raft-wal would open it and refuse every write.)
func TestLogCheck_sealedBeforeRotation(t *testing.T) {
	dir := t.TempDir()
	broken := false
	s, err := openSmall(t, dir, func(m types.MetaStore) types.MetaStore { return brokenRotation{m, &broken} })
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(5, 5))
	if err := s.StoreLogs(noise(rng, 1, 2, 1000)); err != nil {
		t.Fatal(err)
	}
	broken = true
	if err := s.StoreLogs(noise(rng, 3, 5, 1000)); err != nil {
		t.Fatal(err)
	}
	copied := t.TempDir()
	copyTree(t, dir, copied)
	again := mustOpenSmall(t, copied)
	if err := again.StoreLogs(noise(rng, 6, 7, 1000)); err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= 7; i++ {
		var l raft.Log
		if err := again.backend.GetLog(i, &l); err != nil || l.Index != i {
			t.Errorf("entry %d: %v", i, err)
		}
	}
}

// A list of segments of an earlier time does not go with later segments.
func TestLogCheck_oldMeta(t *testing.T) {
	dir := t.TempDir()
	s := mustOpenSmall(t, dir)
	old, err := os.ReadFile(filepath.Join(dir, logMetaName))
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(6, 6))
	for i := uint64(1); i < 10; i++ {
		if err := s.StoreLogs(noise(rng, i, i, 1500)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.Close(), os.WriteFile(filepath.Join(dir, logMetaName), old, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := openSmall(t, dir, nil); !errors.Is(err, ErrCorruptLog) {
		t.Errorf("got %v", err)
	}
}

// A log of a build before the first release is refused, and stays as it is.
func TestLogCheck_oldForm(t *testing.T) {
	dir := t.TempDir()
	w, err := wal.Open(dir, wal.WithLogger(newRaftLogger(zerolog.Nop(), "wal")))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.StoreLogs(entries(1, 3, 1)), w.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = openLogStore(dir, prometheus.NewRegistry(), zerolog.Nop())
	if !errors.Is(err, ErrOldLog) || !strings.Contains(err.Error(), metadb.FileName) {
		t.Errorf("got %v", err)
	}
	names, _ := os.ReadDir(dir)
	if len(names) != 2 {
		t.Errorf("now there are %v", names)
	}
}

// Opening tells what the log holds without reading it twice.
func TestLogCheck_contents(t *testing.T) {
	s := sampleLog(t, false)
	logs := mustOpenSmall(t, s.dir)
	first, last, size := logs.Span()
	want := int64(0)
	for _, l := range s.logs {
		want += int64(loggedSize(l))
	}
	if first != 6 || last != s.logs[len(s.logs)-1].Index || size != want || logs.committed != last-1 {
		t.Errorf("%d to %d, %d of %d bytes, committed %d", first, last, size, want, logs.committed)
	}
	if s.parts[len(s.parts)-1] != logMetaName || !slices.IsSorted(s.parts) {
		t.Errorf("files are %v", s.parts)
	}
}
