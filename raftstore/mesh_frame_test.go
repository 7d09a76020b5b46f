package raftstore

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"time"
)

func sealed(t testing.TB, typ frameType, id uint64, kind Kind, wait time.Duration, payload []byte) []byte {
	t.Helper()
	f := newOutFrame(typ, id, kind, wait, len(payload))
	f.b = append(f.b, payload...)
	if err := f.seal(); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(f.b)
}

func TestFrame_roundTrip(t *testing.T) {
	payload := bytes.Repeat([]byte("payload"), 50_000)
	for _, size := range []int{0, 1, 1000, readStep, len(payload)} {
		raw := sealed(t, frameFailure, 1<<63, 9, 1500*time.Microsecond, payload[:size])
		f, err := readFrame(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			t.Fatal(err)
		}
		if f.typ != frameFailure || f.id != 1<<63 || f.kind != 9 || f.wait != 2*time.Millisecond || !bytes.Equal(f.payload, payload[:size]) {
			t.Errorf("size %d: %v %d %d %v", size, f.typ, f.id, f.kind, f.wait)
		}
	}
}

func TestPR22147_unboundedFrames(t *testing.T) {
	raw := sealed(t, frameRequest, 1, 2, 0, []byte("text"))
	for at := range raw {
		bad := bytes.Clone(raw)
		bad[at] ^= 0x40
		if _, err := readFrame(bufio.NewReader(bytes.NewReader(bad))); err == nil {
			t.Errorf("byte %d changed: accepted", at)
		}
	}
	for cut := range raw {
		_, err := readFrame(bufio.NewReader(bytes.NewReader(raw[:cut])))
		if cut > 0 && !errors.Is(err, io.ErrUnexpectedEOF) || cut == 0 && !errors.Is(err, io.EOF) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	for _, typ := range []frameType{0, frameLast + 1} {
		if _, err := readFrame(bufio.NewReader(bytes.NewReader(sealed(t, typ, 1, 2, 0, nil)))); !errors.Is(err, errBadFrame) {
			t.Errorf("type %d: %v", typ, err)
		}
	}
	over := binary.BigEndian.AppendUint32(nil, frameFixed+4+maxPayload+1)
	if _, err := readFrame(bufio.NewReader(bytes.NewReader(over))); !errors.Is(err, errBadFrame) {
		t.Errorf("over the limit: %v", err)
	}
	large := newOutFrame(frameRequest, 1, 2, 0, maxPayload+1)
	large.b = append(large.b, make([]byte, maxPayload+1)...)
	if err := large.seal(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("sealed beyond the limit: %v", err)
	}
}

// FuzzFrame feeds a connection's bytes; memory must follow what arrives.
func FuzzFrame(f *testing.F) {
	f.Add(sealed(f, frameRequest, 1, 2, time.Second, []byte("text")))
	f.Add([]byte{0, 0, 0, 21, 1})
	f.Add([]byte{3, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		total := 0
		for {
			got, err := readFrame(r)
			if err != nil {
				return
			}
			total += len(got.payload) + frameOverhead
			if total > len(b) {
				t.Fatalf("%d bytes of frames from %d", total, len(b))
			}
			again := sealed(t, got.typ, got.id, got.kind, got.wait, got.payload)
			if _, err := readFrame(bufio.NewReader(bytes.NewReader(again))); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestSendQueue_orderAndBounds(t *testing.T) {
	var q sendQueue
	frame := func(tag byte, size int) *outFrame { return &outFrame{b: append([]byte{tag}, make([]byte, size-1)...)} }
	q.add(laneBulk, frame('a', takeBytes))
	q.add(laneBulk, frame('b', 10))
	q.add(laneCommit, frame('1', 10))
	q.add(laneCommit, frame('2', 10)) // replaces
	q.add(laneUrgent, frame('u', 10))
	var got []byte
	for batch := q.take(); len(batch) > 0; batch = q.take() {
		for _, f := range batch {
			got = append(got, f.b[0])
		}
		got = append(got, ' ')
	}
	if string(got) != "u2a b " {
		t.Errorf("taken in order %q", got)
	}
	n := 0
	for q.add(laneBulk, frame('x', 1<<20)) {
		n++
	}
	if n != laneBytes>>20 {
		t.Errorf("%d MiB were queued", n)
	}
	room := q.room()
	select {
	case <-room:
		t.Error("room before anything was taken")
	default:
	}
	q.take()
	<-room
	if !q.add(laneBulk, frame('x', 1<<20)) {
		t.Error("no room after a take")
	}
	var empty sendQueue
	if !empty.add(laneBulk, frame('x', laneBytes*2)) {
		t.Error("an empty lane must take any frame")
	}
	n = 0
	for q.add(laneUrgent, frame('x', 1)) {
		n++
	}
	if n != laneFrames {
		t.Errorf("%d frames were queued", n)
	}
}
