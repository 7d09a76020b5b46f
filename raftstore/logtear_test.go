package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"
)

// tornSample is a log of which every combination of the last batch's sectors
// may be on the disk.
type tornSample struct {
	dir           string // before the batch
	file          string
	before, after []byte
	from          int    // first byte of the batch
	last, end     uint64 // last entry before it, and of it
}

// tearLog writes a batch of entries behind others, which it may replace.
func tearLog(t *testing.T, before [][]*raft.Log, batch []*raft.Log) *tornSample {
	t.Helper()
	live := t.TempDir()
	s := mustOpenSmall(t, live)
	for _, logs := range before {
		if err := s.StoreLogs(logs); err != nil {
			t.Fatal(err)
		}
	}
	if last, _ := s.LastIndex(); last >= batch[0].Index {
		if err := s.DeleteRange(batch[0].Index, last); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.backend.DeleteRange(1e9, 1e9); err != nil { // nothing, but it waits for a rotation
		t.Fatal(err)
	}
	sample := &tornSample{dir: t.TempDir(), last: batch[0].Index - 1, end: batch[len(batch)-1].Index}
	copyTree(t, live, sample.dir)
	meta, err := readLogMeta(sample.dir)
	if err != nil {
		t.Fatal(err)
	}
	sample.file = fmt.Sprintf("%020d-%016x.wal", meta.tail().BaseIndex, meta.tail().ID)
	read := func() []byte {
		b, err := os.ReadFile(filepath.Join(live, sample.file))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	sample.before = read()
	if err := s.StoreLogs(batch); err != nil {
		t.Fatal(err)
	}
	sample.after = read()
	for sample.from = 0; sample.from < len(sample.before) && sample.before[sample.from] == sample.after[sample.from]; {
		sample.from++
	}
	sample.from &^= frameHeaderLen - 1
	return sample
}

// Any combination of the sectors of the last batch may be on the disk after a
// crash: the log opens with what was before, takes other entries, and opens
// again with those.
func TestLogCheck_tornWrite(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	most := 64 // combinations of each
	if testing.Short() {
		most = 6
	}
	zeros := noise(rng, 4, 6, 500)
	clear(zeros[1].Data)
	for name, c := range map[string]struct{ before, batch []*raft.Log }{
		"first of the log":     {nil, noise(rng, 1, 3, 600)},
		"one small entry":      {noise(rng, 1, 3, 100), noise(rng, 4, 4, 20)},
		"several sectors":      {noise(rng, 1, 3, 100), noise(rng, 4, 6, 700)},
		"zeros in the data":    {noise(rng, 1, 3, 100), zeros},
		"seals its segment":    {noise(rng, 1, 3, 700), noise(rng, 4, 6, 700)},
		"first of a segment":   {noise(rng, 1, 3, 1500), noise(rng, 4, 7, 500)},
		"beyond the file":      {noise(rng, 1, 3, 100), noise(rng, 4, 4, 5000)},
		"after a conflict":     {noise(rng, 1, 9, 100), noise(rng, 4, 6, 700)},
		"headers, data behind": {noise(rng, 1, 3, 157), noise(rng, 4, 9, 504)},
	} {
		t.Run(name, func(t *testing.T) {
			var before [][]*raft.Log
			if c.before != nil {
				before = [][]*raft.Log{c.before}
			}
			s := tearLog(t, before, c.batch)
			n := (len(bytes.TrimRight(s.after, "\x00"))+sector-1)/sector - s.from/sector
			for set := range min(1<<n, most) {
				kept := uint64(set)
				if 1<<n > most && set > 1 {
					kept = rng.Uint64()
				}
				torn := make([]byte, max(len(s.before), len(s.after)))
				copy(torn, s.before)
				for i := range n {
					at := (s.from/sector + i) * sector
					if end := min(at+sector, len(s.after)); kept>>i&1 == 1 {
						copy(torn[at:end], s.after[at:end])
					}
				}
				s.check(t, torn, fmt.Sprintf("sectors %0*b of %d", n, kept&(1<<n-1), n))
			}
		})
	}
}

// check opens a log whose last segment is torn.
func (s *tornSample) check(t *testing.T, torn []byte, what string) {
	t.Helper()
	dir := t.TempDir()
	copyTree(t, s.dir, dir)
	if err := os.WriteFile(filepath.Join(dir, s.file), torn, 0o600); err != nil {
		t.Fatal(err)
	}
	want := s.last
	if bytes.Equal(torn, s.after) {
		want = s.end
	}
	for range 2 {
		logs, err := openSmall(t, dir, nil)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if _, last, _ := logs.Span(); last != want {
			t.Fatalf("%s: the log ends at %d, not %d", what, last, want)
		}
		want++
		other := &raft.Log{Index: want, Term: 9, Data: []byte("other")}
		if err := logs.StoreLog(other); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		var got raft.Log
		if err := logs.backend.GetLog(want, &got); err != nil || !sameEntry(&got, other) {
			t.Fatalf("%s: entry %d is %v: %v", what, want, got, err)
		}
		if err := logs.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What a torn write leaves is not found again behind a shorter one, whatever it
// looks like: here, like a batch of its own.
func TestLogCheck_leftovers(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	inner := tearLog(t, [][]*raft.Log{noise(rng, 1, 2, 100)}, noise(rng, 3, 4, 40))
	forged := inner.after[inner.from:len(bytes.TrimRight(inner.after, "\x00"))]
	batch := noise(rng, 3, 3, 2000)
	copy(batch[0].Data[500:], bytes.Repeat(append(forged, 0, 0, 0, 0, 0, 0, 0)[:len(forged)&^7+8], 8))
	s := tearLog(t, [][]*raft.Log{noise(rng, 1, 2, 100)}, batch)
	torn := bytes.Clone(s.after)
	clear(torn[s.from : s.from+sector-s.from%sector])
	clear(torn[len(bytes.TrimRight(torn, "\x00"))-9:]) // the commit frame
	if err := os.WriteFile(filepath.Join(s.dir, s.file), torn, 0o600); err != nil {
		t.Fatal(err)
	}
	logs, err := openSmall(t, s.dir, nil)
	if errors.Is(err, ErrCorruptLog) {
		return // taken for what it looks like, and not believed
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, last, _ := logs.Span(); last != 2 {
		t.Fatalf("the log ends at %d", last)
	}
	if err := errors.Join(logs.StoreLogs(noise(rng, 3, 3, 40)), logs.Close()); err != nil {
		t.Fatal(err)
	}
	if _, last, _ := mustOpenSmall(t, s.dir).Span(); last != 3 {
		t.Fatalf("the log ends at %d", last)
	}
}

// Where the last batch has sectors of zeros, some damage to it cannot be told
// from a torn write; what is elsewhere in it still can.
func TestLogCheck_lastBatchWithZeros(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	batch := noise(rng, 4, 6, 300)
	batch[1].Data = make([]byte, 2000)
	s := tearLog(t, [][]*raft.Log{noise(rng, 1, 3, 100)}, batch)
	first := s.from
	second := first + frameHeaderLen + padded(t, batch[0])
	third := second + frameHeaderLen + padded(t, batch[1])
	used := len(bytes.TrimRight(s.after, "\x00"))
	if s.after[second] != 1 || s.after[third] != 1 {
		t.Fatal("the entries are not where they should be")
	}
	refused := func(change func(b []byte)) bool {
		b := bytes.Clone(s.after)
		change(b)
		if err := os.WriteFile(filepath.Join(s.dir, s.file), b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := checkLog(s.dir, zerolog.Nop())
		if err != nil && !errors.Is(err, ErrCorruptLog) {
			t.Fatal(err)
		}
		return err != nil
	}
	for at := first; at < used; at++ {
		if at >= second && at < third {
			continue
		}
		if !refused(func(b []byte) { b[at] ^= 1 << rng.IntN(8) }) {
			t.Errorf("byte %d, of %d to %d, is not noticed", at, first, used)
		}
	}
	for _, at := range []int{first, third} {
		if !refused(func(b []byte) { clear(b[at : at+frameHeaderLen]) }) {
			t.Errorf("the header at %d is not missed", at)
		}
	}
}

// Damage to the last batch does not hide damage to the one before.
func TestLogCheck_lastTwoBatches(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	zeroed := noise(rng, 4, 4, 2000)
	clear(zeroed[0].Data[100:])
	s := tearLog(t, [][]*raft.Log{noise(rng, 1, 3, 100), zeroed}, noise(rng, 5, 5, 100))
	b := bytes.Clone(s.after)
	b[s.from-1000]++
	b[s.from+60]++
	if err := os.WriteFile(filepath.Join(s.dir, s.file), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := checkLog(s.dir, zerolog.Nop()); !errors.Is(err, ErrCorruptLog) {
		t.Errorf("got %v", err)
	}
}

// A length that is wrong is noticed also where a sector ends with it.
func TestLogCheck_lengthAtSectorEnd(t *testing.T) {
	for size := 200; size < 200+sector; size += frameHeaderLen {
		rng := rand.New(rand.NewPCG(10, 10))
		batch := noise(rng, 4, 5, size)
		s := tearLog(t, [][]*raft.Log{noise(rng, 1, 3, 100)}, batch)
		second := s.from + frameHeaderLen + padded(t, batch[0])
		if second%sector != sector-frameHeaderLen {
			continue
		}
		b := bytes.Clone(s.after)
		b[second+6]++ // 64 KiB more
		if err := os.WriteFile(filepath.Join(s.dir, s.file), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := checkLog(s.dir, zerolog.Nop()); !errors.Is(err, ErrCorruptLog) {
			t.Errorf("got %v", err)
		}
		b[second+6]--
		clear(b[second+frameHeaderLen:]) // torn there
		s.check(t, b, "the sectors behind the header")
		return
	}
	t.Fatal("no header is at the end of a sector")
}

// padded is how much room an encoded entry takes behind its frame's header.
func padded(t *testing.T, l *raft.Log) int {
	return (len(encoded(t, &entryCodec{}, l)) + frameHeaderLen - 1) / frameHeaderLen * frameHeaderLen
}
