package raftstore

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// ErrCorruptLog: the log on disk is not what was written to it. What it held may
// have been acknowledged, so that the member must not go on without it.
var ErrCorruptLog = errors.New("raftstore: the log is damaged")

// wayBack is what is to be done about a log that cannot be used.
const wayBack = `this member must be rebuilt: run "conclave member remove" with its id and "conclave member add" at another member, then start it with an empty data directory`

// damaged is the error for a file of the log that is not as it was written.
func damaged(path string, offset int64, what string) error {
	return fmt.Errorf("%w: %s at byte %d: %s; %s", ErrCorruptLog, path, offset, what, wayBack)
}

// Form of a segment (raft-wal, segment/format.go): a file header, then frames,
// each with a header and padded to 8 bytes. An append is a batch of entry frames
// ended by a commit frame, with the CRC-32C of all bytes since the commit frame
// before; the file header belongs to the first batch. The last batch of a sealed
// segment has a frame with the offsets of all entries before the commit frame.
const (
	segmentHeader  = 32
	segmentMagic   = 0x58eb6b0d
	frameHeaderLen = 8
)

// segmentScan reads a segment and checks everything in it.
type segmentScan struct {
	path  string
	info  types.SegmentInfo
	file  *bufio.Reader
	entry func(e scannedEntry) // called for each entry of a whole batch

	offset  int64    // of the next frame
	crc     uint32   // of the batch so far
	payload []byte   // of the frame read last, with its padding
	offsets []uint32 // of entry frames
	batch   []scannedEntry
	faults  []fault // frames of the batch that are not what was written

	// What is whole: batches up to end, of which the last one begins at begin,
	// entries below next, and, when the segment is sealed, the offsets of its
	// entries at index.
	begin int64
	end   int64
	next  uint64
	index int64
	// sure is how far the frames behind the whole batches are known to be where
	// they are: their headers and what they hold agree about their sizes.
	sure int64
}

// scannedEntry is what is kept of an entry until its batch is known to be whole.
type scannedEntry struct {
	index, commit uint64 // commit is the commit index that it records
	size          int
}

// fault is a frame that is not what was written. Wrong says that even the part
// of it in the sector of its header is not.
type fault struct {
	from, to int64
	wrong    bool
}

// scanStop is why a scan ended: a frame header of zeros, as at the end of what
// was written; one that nobody writes; or a batch with another checksum.
type scanStop int

const (
	stopZero scanStop = iota
	stopHeader
	stopChecksum
	stopSealed // behind the batch that seals the segment
)

// scanBuffer is how much is read at once.
const scanBuffer = 256 << 10

var zeros [scanBuffer]byte

func newSegmentScan(path string, file *os.File, info types.SegmentInfo, entry func(scannedEntry)) *segmentScan {
	buf := scanBuffer
	if stat, err := file.Stat(); err == nil {
		buf = int(min(stat.Size(), scanBuffer))
	}
	return &segmentScan{path: path, info: info, file: bufio.NewReaderSize(file, buf), entry: entry, next: info.BaseIndex}
}

// run reads batches until one is not whole. It returns why, and where the frame
// begins that says so; errors are those of reading.
func (s *segmentScan) run() (scanStop, int64, error) {
	if err := s.header(); err != nil {
		return 0, 0, err
	}
	for {
		at := s.offset
		var head [frameHeaderLen]byte
		if err := s.read(head[:]); err != nil {
			return 0, at, err
		}
		kind, size, ok := parseLogFrame(head)
		if !ok || kind == segment.FrameIndex && size != int64(4*len(s.offsets)) {
			return stopHeader, at, nil
		}
		switch kind {
		case segment.FrameInvalid:
			return stopZero, at, nil
		case segment.FrameCommit:
			if s.crc != uint32(size) || len(s.faults) > 0 {
				return stopChecksum, at, nil
			}
			if s.commit(); s.index > 0 {
				return stopSealed, s.offset, nil
			}
			continue
		}
		s.crc = crc32.Update(s.crc, castagnoli, head[:])
		if err := s.body(at, kind, size); err != nil {
			return 0, at, err
		}
	}
}

// parseLogFrame reads a frame header. Size is the checksum of a commit frame.
func parseLogFrame(head [frameHeaderLen]byte) (kind uint8, size int64, ok bool) {
	kind, size = head[0], int64(binary.LittleEndian.Uint32(head[4:]))
	switch {
	case head[1] != 0 || head[2] != 0 || head[3] != 0 || kind > segment.FrameCommit:
		return 0, 0, false
	case kind == segment.FrameInvalid:
		return kind, 0, size == 0
	case kind == segment.FrameEntry:
		return kind, size, size <= segment.MaxEntrySize
	default:
		return kind, size, true
	}
}

// read fills b from the file, with zeros behind its end.
func (s *segmentScan) read(b []byte) error {
	n, err := io.ReadFull(s.file, b)
	s.offset += int64(len(b))
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		clear(b[n:])
		err = nil
	}
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	return nil
}

// header reads the file header, which is part of the first batch.
func (s *segmentScan) header() error {
	var got, want [segmentHeader]byte
	if err := s.read(got[:]); err != nil {
		return err
	}
	binary.LittleEndian.PutUint64(want[0:], segmentMagic)
	binary.LittleEndian.PutUint64(want[8:], s.info.BaseIndex)
	binary.LittleEndian.PutUint64(want[16:], s.info.ID)
	binary.LittleEndian.PutUint64(want[24:], entryCodecID)
	if got != want {
		s.faults = append(s.faults, fault{0, segmentHeader, false})
	}
	s.crc = crc32.Checksum(got[:], castagnoli)
	s.sure = s.offset
	return nil
}

// body reads what a frame holds, and notes if it is not what was written.
func (s *segmentScan) body(at int64, kind uint8, size int64) error {
	padded := int((size + frameHeaderLen - 1) &^ (frameHeaderLen - 1))
	if cap(s.payload) < padded {
		s.payload = make([]byte, padded)
	}
	s.payload = s.payload[:padded]
	if err := s.read(s.payload); err != nil {
		return err
	}
	s.crc = crc32.Update(s.crc, castagnoli, s.payload)
	known := s.sure == at // and its size is, too
	if kind == segment.FrameIndex {
		s.index = at + frameHeaderLen
		if !bytes.Equal(s.payload, indexOf(s.offsets)) {
			s.faults = append(s.faults, fault{at, s.offset, false})
		}
		return nil
	}
	s.offsets = append(s.offsets, uint32(at))
	var l raft.Log
	want := s.next + uint64(len(s.batch))
	if _, err := decodeEntry(s.payload[:size], &l); err != nil || l.Index != want {
		inSector := min(int64(padded), sector-1-(at+frameHeaderLen-1)%sector)
		wrong := !beginsEntry(s.payload[:inSector], size, want)
		s.faults = append(s.faults, fault{at, s.offset, wrong})
		known = known && !wrong && inSector >= entryType
	}
	if known {
		s.sure = s.offset
	}
	s.batch = append(s.batch, scannedEntry{l.Index, recordedCommit(&l), loggedSize(&l)})
	return nil
}

// beginsEntry reports whether bytes can be the beginning of an encoded entry.
func beginsEntry(b []byte, size int64, index uint64) bool {
	if len(b) >= entryType && int64(binary.LittleEndian.Uint32(b[entryChecksum:])) != size {
		return false
	}
	if len(b) <= entryFields {
		return true
	}
	got, n := binary.Uvarint(b[entryFields:])
	return n == 0 || n > 0 && got == index
}

// indexOf is what the index frame of a segment holds.
func indexOf(offsets []uint32) []byte {
	var b []byte
	for _, o := range offsets {
		b = binary.LittleEndian.AppendUint32(b, o)
	}
	if len(offsets)%2 == 1 {
		b = append(b, 0, 0, 0, 0)
	}
	return b
}

// commit takes a batch that is whole.
func (s *segmentScan) commit() {
	for _, e := range s.batch {
		s.entry(e)
	}
	s.next += uint64(len(s.batch))
	s.batch, s.crc = s.batch[:0], 0
	s.begin, s.end, s.sure = s.end, s.offset, s.offset
}

// settle writes the last whole batch once more, and syncs it. It may have come
// from a process that was killed before its sync, or ended because that failed,
// and then is in the kernel's cache only, perhaps as if it had been written.
func (s *segmentScan) settle(file *os.File) error {
	batch := make([]byte, s.end-s.begin)
	_, err := file.ReadAt(batch, s.begin)
	if err == nil {
		_, err = file.WriteAt(batch, s.begin)
	}
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		return fmt.Errorf("sync the end of the log: %w", err)
	}
	return nil
}
