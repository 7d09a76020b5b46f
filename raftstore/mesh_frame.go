package raftstore

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"time"
)

// A frame on the wire, all numbers big-endian:
//
//	length   uint32  of everything after this field
//	type     uint8
//	id       uint64  joins a response to its request
//	kind     uint32  what is asked; in a failure the error code
//	wait     uint32  milliseconds the asker waits, 0 for not said
//	payload
//	checksum uint32  CRC-32C of everything before it
const (
	frameFixed    = 1 + 8 + 4 + 4
	frameOverhead = 4 + frameFixed + 4

	// maxPayload bounds what one frame carries, in bytes.
	maxPayload = 64 << 20
	// smallFrame and largeFrame are the largest buffers kept for the next small
	// and large frame, in bytes: the latter for batches of log entries, which on a
	// busy leader would otherwise be a tenth of all garbage.
	smallFrame = 16 << 10
	largeFrame = 512 << 10
	// readStep is how much memory a frame's announced length is worth before
	// any of its bytes have arrived.
	readStep = 256 << 10
)

type frameType uint8

const (
	frameRequest frameType = 1 + iota
	frameResponse
	frameFailure // a response that is an error: kind is its code, payload its text
	frameOneWay  // a request without a response
	framePing
	framePong
	frameEnd  // nothing follows: another connection has taken over
	frameLast = frameEnd
)

var (
	errBadFrame = errors.New("raftstore: malformed frame")
	// ErrTooLarge: the payload exceeds 64 MiB; nothing was sent.
	ErrTooLarge = errors.New("raftstore: message exceeds 64 MiB")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frame is a received frame. Its payload belongs to whoever gets the frame.
type frame struct {
	typ     frameType
	id      uint64
	kind    Kind
	wait    time.Duration
	payload []byte
}

// outFrame is a frame being written into, then sent once.
type outFrame struct{ b []byte }

var (
	smallFrames = sync.Pool{New: func() any { return &outFrame{b: make([]byte, 0, 1024)} }}
	largeFrames = sync.Pool{New: func() any { return &outFrame{} }}
)

// newOutFrame starts a frame with room for size bytes of payload, which the
// caller appends to b before seal.
func newOutFrame(typ frameType, id uint64, kind Kind, wait time.Duration, size int) *outFrame {
	need := size + frameOverhead
	pool := &smallFrames
	if need > smallFrame {
		pool = &largeFrames
	}
	f := pool.Get().(*outFrame)
	if cap(f.b) < need {
		f.b = make([]byte, 0, need)
	}
	f.b = append(f.b[:0], 0, 0, 0, 0, byte(typ))
	f.b = binary.BigEndian.AppendUint64(f.b, id)
	f.b = binary.BigEndian.AppendUint32(f.b, uint32(kind))
	f.b = binary.BigEndian.AppendUint32(f.b, waitMillis(wait))
	return f
}

// waitMillis rounds up, so that a short wait does not become "not said".
func waitMillis(wait time.Duration) uint32 {
	ms := (wait + time.Millisecond - 1) / time.Millisecond
	return uint32(min(max(ms, 0), 1<<31))
}

// seal fills in length and checksum.
func (f *outFrame) seal() error {
	if len(f.b)-4-frameFixed > maxPayload {
		f.release()
		return ErrTooLarge
	}
	binary.BigEndian.PutUint32(f.b, uint32(len(f.b)))
	f.b = binary.BigEndian.AppendUint32(f.b, crc32.Checksum(f.b, castagnoli))
	return nil
}

// release gives the buffer back; the frame must not be used afterwards.
func (f *outFrame) release() {
	switch n := cap(f.b); {
	case n <= smallFrame:
		smallFrames.Put(f)
	case n <= largeFrame:
		largeFrames.Put(f)
	}
}

// newFrameReader has room for any frame of up to 64 KiB at once.
func newFrameReader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, 64<<10) }

// readFrame reads one frame. Memory grows with the bytes that arrive, never
// with the length that is announced.
func readFrame(r *bufio.Reader) (frame, error) {
	prefix, err := r.Peek(4)
	if err != nil {
		if len(prefix) > 0 {
			err = noEOF(err)
		}
		return frame{}, err
	}
	size := int(binary.BigEndian.Uint32(prefix))
	if size < frameFixed+4 || size > frameFixed+4+maxPayload {
		return frame{}, fmt.Errorf("%w: length %d", errBadFrame, size)
	}
	sum := crc32.Checksum(prefix, castagnoli)
	if _, err := r.Discard(4); err != nil {
		return frame{}, err
	}
	if size > r.Size() {
		body, err := readGrowing(r, size)
		if err != nil {
			return frame{}, err
		}
		return parseFrame(body, sum)
	}
	body, err := r.Peek(size)
	if err != nil {
		return frame{}, noEOF(err)
	}
	f, err := parseFrame(body, sum)
	if err != nil {
		return frame{}, err
	}
	f.payload = bytes.Clone(f.payload) // the rest of the buffer is the next frames'
	_, err = r.Discard(size)
	return f, err
}

// parseFrame reads what follows the length, whose checksum is given.
func parseFrame(body []byte, sum uint32) (frame, error) {
	end := len(body) - 4
	if crc32.Update(sum, castagnoli, body[:end]) != binary.BigEndian.Uint32(body[end:]) {
		return frame{}, fmt.Errorf("%w: checksum differs", errBadFrame)
	}
	f := frame{
		typ:     frameType(body[0]),
		id:      binary.BigEndian.Uint64(body[1:]),
		kind:    Kind(binary.BigEndian.Uint32(body[9:])),
		wait:    time.Duration(binary.BigEndian.Uint32(body[13:])) * time.Millisecond,
		payload: body[frameFixed:end:end],
	}
	if f.typ < frameRequest || f.typ > frameLast {
		return frame{}, fmt.Errorf("%w: type %d", errBadFrame, f.typ)
	}
	return f, nil
}

// readGrowing reads size bytes, at most doubling what it holds at each step.
func readGrowing(r io.Reader, size int) ([]byte, error) {
	have := 0
	body := make([]byte, min(size, readStep))
	for {
		n, err := io.ReadFull(r, body[have:])
		have += n
		if err != nil {
			return nil, noEOF(err)
		}
		if have == size {
			return body, nil
		}
		grown := make([]byte, min(size, 2*have))
		copy(grown, body)
		body = grown
	}
}

// noEOF: the end of the stream inside a frame is not an orderly end.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
