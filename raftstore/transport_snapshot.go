package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"
)

// An install is one request, answered when raft is done, and its content in
// chunks, each a request answered when raft has read it. A few chunks are
// under way at a time; nothing waits longer than snapshotStall for progress.
const (
	chunkBytes    = 256 << 10
	chunksAtOnce  = 4
	snapshotStall = 10 * time.Second
	// snapshotFinish bounds what raft does after the last chunk.
	snapshotFinish = time.Minute
)

var errSnapshotStalled = fmt.Errorf("raftstore: no progress of the snapshot within %v", snapshotStall)

// InstallSnapshot streams data to a peer, giving up after ten seconds without
// progress, or one minute after the last byte was taken.
func (t *Transport) InstallSnapshot(id raft.ServerID, _ raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	r, err := t.peer(id)
	if err != nil {
		return err
	}
	body, err := proto.Marshal(snapshotMessage(args))
	if err != nil {
		return err
	}
	stream, install, err := t.post(r, kindSnapshot, laneBulk, snapshotStall, len(body), func(b []byte) []byte {
		return append(b, body...)
	})
	if err != nil {
		return err
	}
	defer r.forget(stream)
	if err := t.sendChunks(r, stream, io.LimitReader(data, args.Size), install); err != nil {
		return err
	}
	timer := time.NewTimer(snapshotFinish)
	defer timer.Stop()
	select {
	case a := <-install.answer:
		if a.err != nil {
			return a.err
		}
		return decodeSnapshotReply(a.payload, resp)
	case <-timer.C:
		return fmt.Errorf("no answer from %x within %v of the last byte", r.id, snapshotFinish)
	case <-t.done:
		return errTransportClosed
	}
}

// sendChunks ends early, without an error, when the install is answered before
// its content was read.
func (t *Transport) sendChunks(r *remote, stream uint64, data io.Reader, install *pendingCall) error {
	type sentChunk struct {
		id uint64
		*pendingCall
	}
	var under []sentChunk
	defer func() {
		for _, c := range under {
			r.forget(c.id)
		}
	}()
	stall := time.NewTimer(snapshotStall)
	defer stall.Stop()
	buf := make([]byte, chunkBytes)
	for ended := false; !ended || len(under) > 0; {
		for !ended && len(under) < chunksAtOnce {
			n, err := io.ReadFull(data, buf)
			ended = errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
			if err != nil && !ended {
				return err
			}
			if n == 0 {
				continue
			}
			id, p, err := t.post(r, kindSnapshotChunk, laneBulk, snapshotStall, 8+n, func(b []byte) []byte {
				return append(binary.BigEndian.AppendUint64(b, stream), buf[:n]...)
			})
			if err != nil {
				return err
			}
			under = append(under, sentChunk{id, p})
		}
		if len(under) == 0 {
			return nil
		}
		stall.Reset(snapshotStall)
		select {
		case a := <-under[0].answer:
			if a.err != nil {
				return a.err
			}
			under = under[1:]
		case a := <-install.answer:
			install.answer <- a
			return nil
		case <-stall.C:
			return errSnapshotStalled
		case <-t.done:
			return errTransportClosed
		}
	}
	return nil
}

// chunkStream is the content of an install that arrives.
type chunkStream struct {
	transport *Transport
	peer      uint64
	install   uint64 // the request that opened it
	left      int64  // bytes not read yet
	chunks    chan frame
	ended     chan struct{} // raft has answered
	current   []byte
	id        uint64 // of the current chunk
}

// expectChunks makes room for the content of an install as soon as it is
// asked for. A peer's newer install ends the older one.
func (t *Transport) expectChunks(peer, id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.streams[peer]; old != nil {
		close(old.ended)
	}
	t.streams[peer] = &chunkStream{
		transport: t, peer: peer, install: id,
		chunks: make(chan frame, chunksAtOnce), ended: make(chan struct{}),
	}
}

// chunkReader is what raft reads the install's content from.
func (t *Transport) chunkReader(peer, id uint64, size int64) (io.Reader, error) {
	s := t.streamOf(peer, id)
	if s == nil {
		return nil, errors.New("raftstore: a newer snapshot came")
	}
	s.left = size
	return s, nil
}

func (t *Transport) streamOf(peer, id uint64) *chunkStream {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.streams[peer]; s != nil && s.install == id {
		return s
	}
	return nil
}

// endChunks forgets the install that was answered, if it was one.
func (t *Transport) endChunks(peer, id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.streams[peer]; s != nil && s.install == id {
		delete(t.streams, peer)
		close(s.ended)
	}
}

// receiveChunk does not block: a sender keeps to chunksAtOnce.
func (t *Transport) receiveChunk(r *remote, f frame) {
	var s *chunkStream
	if len(f.payload) > 8 {
		s = t.streamOf(r.id, binary.BigEndian.Uint64(f.payload))
	}
	if s == nil {
		r.refuseRequest(f, CodeFailed, "no such snapshot is expected")
		return
	}
	select {
	case s.chunks <- f:
	default:
		r.refuseRequest(f, CodeBusy, "too many chunks of a snapshot at once")
	}
}

// Read is called by raft alone.
func (s *chunkStream) Read(p []byte) (int, error) {
	if s.left <= 0 {
		return 0, io.EOF
	}
	if len(s.current) == 0 {
		timer := time.NewTimer(snapshotStall)
		defer timer.Stop()
		select {
		case f := <-s.chunks:
			s.current, s.id = f.payload[8:], f.id
		case <-timer.C:
			return 0, errSnapshotStalled
		case <-s.ended:
			return 0, io.ErrClosedPipe
		case <-s.transport.done:
			return 0, errTransportClosed
		}
	}
	n := copy(p, s.current[:min(int64(len(s.current)), s.left)])
	s.current = s.current[n:]
	s.left -= int64(n)
	if r := s.transport.mesh.known(s.peer); len(s.current) == 0 && r != nil {
		r.answer(s.id, nil, nil)
	}
	return n, nil
}
