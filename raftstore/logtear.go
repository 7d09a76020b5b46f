package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/segment"
)

// sector is what a disk writes whole or not at all, and the kernel too.
const sector = 512

// tear is what lies behind the last whole batch of the segment that is written
// to. It is either what a crash left of the batch that was being written, of
// which nobody was told, or damage to what was on stable storage. raft-wal takes
// it for the first in any case.
//
// A batch is written by one call into space that is zero, and the next one only
// when it is on stable storage. So a torn batch has each sector as it was meant
// or zero, and behind it is nothing. What is not so is damage (etcd's log tells
// them apart in the same way, wal/decoder.go, isTornEntry): a frame header that
// is neither right nor in a sector of zeros; an entry that is not as written
// although all its sectors are there; bytes behind a batch that has its commit
// frame; an entry that was written when what is missing was on stable storage;
// a log that ends before an index that logMeta knows to have been there.
//
// Not told from a torn write, and so lost, is only damage to the very last
// batch, and only if it has whole sectors of zeros where they are missed, or
// changes an entry that has such sectors anyway; and not if the log was closed
// in order behind it or logMeta was written since.
type tear struct {
	scan *segmentScan
	stop scanStop
	at   int64 // of the frame at which the scan stopped
	rest []byte
}

// readTear reads what is behind the whole batches; nil when all of it is zero.
func readTear(file *os.File, scan *segmentScan, stop scanStop, at int64) (*tear, error) {
	used, err := lastByte(file, scan.end)
	if err != nil || used == scan.end {
		return nil, err
	}
	t := &tear{scan: scan, stop: stop, at: at, rest: make([]byte, used-scan.end)}
	if _, err := file.ReadAt(t.rest, scan.end); err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	return t, nil
}

// lastByte is the offset behind the last byte that is not zero, at or behind
// from.
func lastByte(file *os.File, from int64) (int64, error) {
	last := from
	buf := make([]byte, scanBuffer)
	for at := from; ; {
		n, err := file.ReadAt(buf, at)
		if !bytes.Equal(buf[:n], zeros[:n]) {
			last = at + int64(len(bytes.TrimRight(buf[:n], "\x00")))
		}
		at += int64(n)
		if errors.Is(err, io.EOF) {
			return last, nil
		}
		if err != nil {
			return 0, fmt.Errorf("read log: %w", err)
		}
	}
}

// check returns an error when a crash cannot have left this.
func (t *tear) check() error {
	s := t.scan
	switch {
	case t.stop == stopSealed:
		return damaged(s.path, s.end, "there is something behind the end of a sealed segment")
	case t.stop == stopHeader:
		return damaged(s.path, t.at, "this is no header of a frame")
	case t.stop == stopChecksum && t.at+frameHeaderLen < s.end+int64(len(t.rest)):
		return damaged(s.path, s.end, "a batch of entries is not what was written, and others follow it")
	case t.stop == stopChecksum && len(s.faults) == 0:
		return damaged(s.path, t.at, "the checksum of a batch of entries is wrong")
	case t.stop == stopZero && !t.zero(t.at/sector*sector, (t.at/sector+1)*sector):
		return damaged(s.path, t.at, "the header of a frame is missing")
	}
	for _, f := range s.faults {
		if f.wrong || !t.lacks(f.from, f.to) {
			return damaged(s.path, f.from, "a frame is not what was written")
		}
	}
	if t.committed() && !t.lacks(s.end, s.end+int64(len(t.rest))) {
		return damaged(s.path, s.end, "a batch of entries is there, and not what was written")
	}
	return t.checkLater()
}

// committed reports whether the last bytes can be a commit frame: they look like
// one, and are not known to be part of an entry, which may look like anything.
func (t *tear) committed() bool {
	if t.scan.end+int64(len(t.rest)) <= t.scan.sure {
		return false
	}
	n := (len(t.rest) + frameHeaderLen - 1) &^ (frameHeaderLen - 1)
	last := append(t.rest[:len(t.rest):len(t.rest)], make([]byte, n-len(t.rest))...)[n-frameHeaderLen:]
	kind, _, ok := parseLogFrame([frameHeaderLen]byte(last))
	return ok && kind == segment.FrameCommit
}

// laterEffort bounds the bytes that checkLater looks into: data of entries can
// be made to look like many of them.
const laterEffort = 1 << 30

// checkLater looks for entries that were written when the missing ones were on
// stable storage, behind what is known to be of these.
func (t *tear) checkLater() error {
	s, effort := t.scan, int64(0)
	for at := max(s.sure-s.end, 0); at+frameHeaderLen <= int64(len(t.rest)) && effort < laterEffort; at += frameHeaderLen {
		kind, size, ok := parseLogFrame([frameHeaderLen]byte(t.rest[at:]))
		if !ok || kind != segment.FrameEntry || at+frameHeaderLen+size > int64(len(t.rest)) {
			continue
		}
		var l raft.Log
		synced, err := decodeEntry(t.rest[at+frameHeaderLen:][:size], &l)
		if err == nil && synced >= s.next {
			return damaged(s.path, s.end, fmt.Sprintf("entries from %d on are missing, and entry %d was written when %d was on stable storage",
				s.next, l.Index, synced))
		}
		effort += size
	}
	return nil
}

// lacks reports whether a sector of zeros is in a part of the file, or as much
// of one as belongs to the batch.
func (t *tear) lacks(from, to int64) bool {
	for at := from / sector * sector; at < to; at += sector {
		if t.zero(at, at+sector) {
			return true
		}
	}
	return false
}

// zero reports whether there is nothing in a part of the file behind the whole
// batches.
func (t *tear) zero(from, to int64) bool {
	from, to = max(from-t.scan.end, 0), min(to-t.scan.end, int64(len(t.rest)))
	for ; from < to; from++ {
		if t.rest[from] != 0 {
			return false
		}
	}
	return true
}

// erase puts zeros in its place, durably: frames of it must not be found behind
// a later batch that is shorter.
func (t *tear) erase(file *os.File) error {
	clear(t.rest)
	if _, err := file.WriteAt(t.rest, t.scan.end); err != nil {
		return fmt.Errorf("erase a torn write: %w", err)
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("erase a torn write: %w", err)
	}
	return nil
}
