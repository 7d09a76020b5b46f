package raftstore

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/types"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

const smallSegment = 4 << 10

// openSmall opens a log in small segments; wrap may change its list of
// segments.
func openSmall(t *testing.T, dir string, wrap func(types.MetaStore) types.MetaStore) (*logStore, error) {
	t.Helper()
	files, err := checkLog(dir, zerolog.Nop())
	if err != nil {
		return nil, err
	}
	var meta types.MetaStore = files.meta
	if wrap != nil {
		meta = wrap(meta)
	}
	w, err := wal.Open(dir, wal.WithSegmentSize(smallSegment), wal.WithCodec(files.codec),
		wal.WithMetaStore(meta), wal.WithSegmentFiler(files), wal.WithLogger(newRaftLogger(zerolog.Nop(), "wal")))
	if err != nil {
		return nil, err
	}
	s, err := newCheckedLog(w, files.contents, prometheus.NewRegistry(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, nil
}

func mustOpenSmall(t *testing.T, dir string) *logStore {
	t.Helper()
	s, err := openSmall(t, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// noise makes entries whose data has no zeros.
func noise(rng *rand.Rand, first, last uint64, size int) []*raft.Log {
	logs := entries(first, last, 3)
	for _, l := range logs {
		l.Data = make([]byte, size)
		for i := range l.Data {
			l.Data[i] = 1 + byte(rng.IntN(255))
		}
		l.Extensions = recordCommit(l.Index - 1)
	}
	return logs
}

// logSample is a log that a process left without closing it.
type logSample struct {
	dir   string
	logs  []*raft.Log
	parts []string // its files

	content map[string][]byte // of the files
	opened  bool              // some outcome was to open it
}

// sampleLog makes a log of several segments, of which one was cut by a conflict
// and the first begins behind removed entries. The vote is set before the last
// batches, so that the list of segments does not know of them, or late.
func sampleLog(t *testing.T, late bool) *logSample {
	t.Helper()
	live := t.TempDir()
	s := mustOpenSmall(t, live)
	rng := rand.New(rand.NewPCG(1, 1))
	store := func(logs []*raft.Log) {
		t.Helper()
		if err := s.StoreLogs(logs); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SetUint64(keyCurrentTerm, 3); err != nil {
		t.Fatal(err)
	}
	next := uint64(1)
	for _, n := range []uint64{1, 3, 2, 4, 1, 3, 2, 3, 4, 2} {
		store(noise(rng, next, next+n-1, 300))
		next += n
	}
	if err := errors.Join(s.DeleteRange(next-2, next-1), s.DeleteRange(1, 5)); err != nil {
		t.Fatal(err)
	}
	vote := func() {
		t.Helper()
		if err := s.Set([]byte("LastVoteCand"), []byte("candidate")); err != nil {
			t.Fatal(err)
		}
	}
	vote()
	next -= 2
	for _, n := range []uint64{1, 2, 2, 3} {
		store(noise(rng, next, next+n-1, 250))
		next += n
	}
	if late {
		vote()
	}
	sample := &logSample{dir: t.TempDir()}
	for i := uint64(6); i < next; i++ {
		l := new(raft.Log)
		if err := s.GetLog(i, l); err != nil {
			t.Fatal(err)
		}
		sample.logs = append(sample.logs, l)
	}
	copyTree(t, live, sample.dir)
	names, err := os.ReadDir(live)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		sample.parts = append(sample.parts, n.Name())
	}
	if len(sample.parts) < 4 {
		t.Fatalf("only %v", sample.parts)
	}
	return sample
}

// tailName is the segment that is written to.
func (s *logSample) tailName() string { return s.parts[len(s.parts)-2] }

// outcome opens the log as it is: nil when everything is there, ErrCorruptLog
// when it was refused with the file named; anything else fails the test.
func (s *logSample) outcome(t *testing.T, what, file string) error {
	t.Helper()
	logs, err := openSmall(t, s.dir, nil)
	if err != nil {
		path := filepath.Join(s.dir, file)
		if !errors.Is(err, ErrCorruptLog) || !strings.Contains(err.Error(), path+" at byte") || !strings.Contains(err.Error(), "conclave member remove") {
			t.Errorf("%s: %v", what, err)
		}
		return ErrCorruptLog
	}
	defer logs.Close()
	s.opened = true
	first, last, _ := logs.Span()
	if first != s.logs[0].Index || last != s.logs[len(s.logs)-1].Index {
		t.Fatalf("%s: the log is %d to %d", what, first, last)
	}
	for _, want := range s.logs {
		var got raft.Log
		if err := logs.GetLog(want.Index, &got); err != nil || !sameEntry(&got, want) {
			t.Fatalf("%s: entry %d is %v: %v", what, want.Index, got, err)
		}
	}
	if vote, err := logs.Get([]byte("LastVoteCand")); string(vote) != "candidate" {
		t.Fatalf("%s: voted for %q: %v", what, vote, err)
	}
	return nil
}

// with changes a file, runs, and puts everything back. A change to nil removes
// the file.
func (s *logSample) with(t *testing.T, file string, change func(b []byte) []byte, run func()) {
	t.Helper()
	if s.content == nil {
		s.content = map[string][]byte{}
		for _, p := range s.parts {
			b, err := os.ReadFile(filepath.Join(s.dir, p))
			if err != nil {
				t.Fatal(err)
			}
			s.content[p] = b
		}
	}
	path := filepath.Join(s.dir, file)
	if b := change(bytes.Clone(s.content[file])); b == nil {
		os.Remove(path)
	} else if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s.opened = false
	run()
	for p, b := range s.content {
		if !s.opened && p != file {
			continue // nothing was changed
		}
		if err := os.WriteFile(filepath.Join(s.dir, p), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// used is the number of bytes of a file that are not zeros at its end.
func (s *logSample) used(t *testing.T, file string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return len(bytes.TrimRight(b, "\x00"))
}

// lastBatch is where the last batch of the last segment begins.
func (s *logSample) lastBatch(t *testing.T) int {
	t.Helper()
	var last, before int64
	s.scan(t, func(scan *segmentScan) { before, last = last, scan.offset })
	if before == 0 || last < before {
		t.Fatalf("batches end at %d and %d", before, last)
	}
	return int(before)
}

// scan visits the last segment after each of its batches.
func (s *logSample) scan(t *testing.T, batch func(*segmentScan)) {
	t.Helper()
	meta, err := readLogMeta(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.dir, s.tailName())
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var scan *segmentScan
	end := int64(-1)
	scan = newSegmentScan(path, f, *meta.tail(), func(scannedEntry) {
		if scan.offset != end {
			end = scan.offset
			batch(scan)
		}
	})
	if _, _, err := scan.run(); err != nil {
		t.Fatal(err)
	}
}
