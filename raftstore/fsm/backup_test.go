package fsm

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// bulk applies and commits entries that put values of 64 KiB over and over, so
// that pages are replaced, and tells how long the longest commit took.
func bulk(t *testing.T, m *Machine, from, to uint64) (longest time.Duration) {
	t.Helper()
	value := bytes.Repeat([]byte("v"), 64<<10)
	for index := from; index <= to; index++ {
		m.Command(index, 2, entryOf(t, 2, index, KindPut, &pb.PutRequest{Key: []byte{byte(index % 8)}, Value: value}))
		m.Command(index, 2, entryOf(t, 2, index, KindCompact, &pb.CompactionRequest{Revision: m.View().KV.Rev()}))
		m.Publish()
		m.Prune()
		start := time.Now()
		commit(t, m)
		longest = max(longest, time.Since(start))
	}
	return longest
}

// A copy that is read while everything else goes on is a state file as of the
// time it was opened.
func TestBackup_readWhileWriting(t *testing.T) {
	m := openMachine(t, filepath.Join(t.TempDir(), "db"))
	defer closeMachine(t, m)
	feed(t, m, "a", 1, 50)
	commit(t, m)
	was := hashOf(t, m)
	b, err := m.Backup()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "copy")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	piece := make([]byte, 1000) // ends nowhere near a page
	for index := uint64(51); ; index++ {
		feed(t, m, "b", index, index)
		commit(t, m)
		n, err := b.Read(piece)
		if _, err := out.Write(piece[:n]); err != nil {
			t.Fatal(err)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if info, err := out.Stat(); err != nil || info.Size() != b.Size() {
		t.Errorf("%d bytes, announced %d: %v", info.Size(), b.Size(), err)
	}
	if err := errors.Join(out.Close(), b.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	c := openMachine(t, path)
	defer closeMachine(t, c)
	if now := hashOf(t, c); now != was {
		t.Errorf("the copy hashes to %s, the state was %s", now, was)
	}
}

// Copies that keep too much are ended, the oldest first, and what they kept is
// used again.
func TestBackup_endsWhenItKeepsTooMuch(t *testing.T) {
	m := openMachine(t, filepath.Join(t.TempDir(), "db"))
	defer closeMachine(t, m)
	feed(t, m, "a", 1, 1)
	bulk(t, m, 2, 20)
	m.file.Load().minPinned = 1 << 20
	first, err := m.Backup()
	if err != nil {
		t.Fatal(err)
	}
	bulk(t, m, 21, 22)
	second, err := m.Backup()
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	size, _, err := m.Size()
	if err != nil {
		t.Fatal(err)
	}
	bulk(t, m, 23, 300)
	piece := make([]byte, 100)
	if _, err := first.Read(piece); !errors.Is(err, ErrBackupEnded) || !strings.Contains(err.Error(), "read so slowly") {
		t.Errorf("the oldest copy: %v", err)
	}
	if grown, _, err := m.Size(); err != nil || grown > size+(8<<20) {
		t.Errorf("the file grew from %d to %d bytes: %v", size, grown, err)
	}
	if n := len(m.file.Load().backups.open); n > 1 {
		t.Errorf("%d copies are open", n)
	}
}

// A file that outgrows its mapping waits for nobody who reads a copy.
func TestBackup_endsForMapping(t *testing.T) {
	m, err := Open(Options{Path: filepath.Join(t.TempDir(), "db"), Quota: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer closeMachine(t, m)
	feed(t, m, "a", 1, 1)
	commit(t, m)
	b, err := m.Backup()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		bulk(t, m, 2, 100) // 6 MiB at once in use, beyond the mapping of 2 MiB
		for index := uint64(101); index < 200; index++ {
			m.Command(index, 2, entryOf(t, 2, index, KindPut, &pb.PutRequest{Key: []byte{byte(index)}, Value: make([]byte, 64<<10)}))
			m.Publish()
			if err := m.Commit(); err != nil {
				t.Error(err)
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("a commit waits for the reader of a copy")
		b.Close()
		<-done
	}
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, ErrBackupEnded) {
		t.Errorf("the copy: %v", err)
	}
}

// Nobody who reads a copy holds up the end of the machine, or gets one of a file
// that is closed.
func TestBackup_endsAtClose(t *testing.T) {
	m := openMachine(t, filepath.Join(t.TempDir(), "db"))
	feed(t, m, "a", 1, 5)
	commit(t, m)
	b, err := m.Backup()
	if err != nil {
		t.Fatal(err)
	}
	closeMachine(t, m)
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, ErrBackupEnded) {
		t.Errorf("after the end: %v", err)
	}
	if b, err := m.Backup(); err == nil {
		t.Errorf("a copy of %d bytes of a closed file", b.Size())
	}
}

// Hash differs with what is held, and not with how far the file is or how the
// pages lie.
func TestMachine_hashOfAllBuckets(t *testing.T) {
	var sums []uint32
	for _, step := range []int{1, 2000} {
		m := openMachine(t, filepath.Join(t.TempDir(), "db"))
		m.Configure(1, 1, members(1))
		m.Publish()
		for i := range 2500 {
			index := uint64(i + 2)
			m.Command(index, 2, entryOf(t, 2, index, KindPut, &pb.PutRequest{Key: []byte("k"), Value: []byte{byte(i)}}))
			m.Publish()
			if i%step == 0 && i < 100 {
				commit(t, m)
			}
		}
		commit(t, m)
		sum, err := m.Hash()
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, sum)
		m.Command(2502, uint64(2+step), AppendHeader(nil, uint64(2+step), 1))
		m.Publish()
		commit(t, m)
		if later, err := m.Hash(); err != nil || later != sum {
			t.Errorf("an entry that changes nothing: %x, was %x, %v", later, sum, err)
		}
		m.Command(2503, 2, entryOf(t, 2, 1, KindPut, &pb.PutRequest{Key: []byte("k")}))
		m.Publish()
		commit(t, m)
		if later, err := m.Hash(); err != nil || later == sum {
			t.Errorf("a put changes nothing: %x, %v", later, err)
		}
		closeMachine(t, m)
	}
	if sums[0] != sums[1] {
		t.Errorf("the same state hashes to %x and %x", sums[0], sums[1])
	}
}
