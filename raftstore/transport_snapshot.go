package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"
)

// An install is one request, answered when the peer runs on the new state. Its
// content follows in chunks, each a request answered when it is written; then
// an end with the checksum of all of it. The end is repeated until the install
// is answered, and the peer answers each as a sign that it is still at work:
// loading a large state takes longer than any fixed patience.
const (
	chunkBytes   = 256 << 10
	chunksAtOnce = 4
	chunkHead    = 16 // install and offset
	endBytes     = 12 // install and checksum
	// snapshotStall is how long either side waits for a sign of the other.
	snapshotStall = 10 * time.Second
	// answerAfter is how long the answer to an install may come after the refusal
	// of a piece, which it overtook.
	answerAfter = time.Second
	// askAgain is how often a peer that loads a state is asked for a sign.
	askAgain = 2 * time.Second
	// snapshotFinish bounds all that the peer does after the last chunk. 8 GiB
	// load in a few minutes.
	snapshotFinish = 30 * time.Minute
)

var errSnapshotStalled = fmt.Errorf("raftstore: no progress of the snapshot within %v", snapshotStall)

// InstallSnapshot streams data to a peer, giving up after ten seconds without
// a sign of it. Installs of one member together keep to installRate.
func (t *Transport) InstallSnapshot(id raft.ServerID, _ raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	r, err := t.peer(id)
	if err != nil {
		return err
	}
	body, err := proto.Marshal(snapshotMessage(args))
	if err != nil {
		return err
	}
	start := time.Now()
	s := &outgoing{transport: t, peer: r, data: io.LimitReader(data, args.Size), sum: crc32.New(castagnoli)}
	s.progress = newProgress(t.mesh.cfg.Log, "sending a snapshot", r.text, args.Size)
	err = s.install(body, resp)
	t.mesh.snapshots.sent(r.text, time.Since(start), err == nil && resp.Success)
	return err
}

// outgoing is an install that is being sent.
type outgoing struct {
	transport *Transport
	peer      *remote
	data      io.Reader
	sum       hash.Hash32
	progress  *progress
	id        uint64
	offset    uint64
	answer    *pendingCall // of the install
	under     []sentChunk  // not answered yet, oldest first
	ended     bool         // all of data is sent
}

type sentChunk struct {
	id uint64
	*pendingCall
}

// errAnswered: the peer answered the install before it had all of it.
var errAnswered = errors.New("raftstore: install is answered")

func (s *outgoing) install(body []byte, resp *raft.InstallSnapshotResponse) error {
	var err error
	s.id, s.answer, err = s.post(kindSnapshot, laneBulk, len(body), func(b []byte) []byte { return append(b, body...) })
	if err != nil {
		return err
	}
	defer s.peer.forget(s.id)
	err = s.sendChunks()
	if err == nil {
		err = s.finish()
	}
	if err != nil && !errors.Is(err, errAnswered) {
		return err
	}
	a := <-s.answer.answer
	if a.err != nil {
		return a.err
	}
	return decodeSnapshotReply(a.payload, resp)
}

func (s *outgoing) post(kind Kind, lane laneID, size int, encode func([]byte) []byte) (uint64, *pendingCall, error) {
	return s.transport.post(s.peer, kind, lane, snapshotStall, size, encode)
}

// sendChunks sends all of the content and waits until it is written.
func (s *outgoing) sendChunks() error {
	defer func() {
		for _, c := range s.under {
			s.peer.forget(c.id)
		}
	}()
	buf := make([]byte, chunkBytes)
	for !s.ended || len(s.under) > 0 {
		for !s.ended && len(s.under) < chunksAtOnce {
			if err := s.sendChunk(buf); err != nil {
				return err
			}
		}
		if len(s.under) == 0 {
			return nil
		}
		if err := s.await(s.under[0].pendingCall); err != nil {
			return err
		}
		s.under = s.under[1:]
	}
	return nil
}

// sendChunk sends the next piece of the content, when its turn has come.
func (s *outgoing) sendChunk(buf []byte) error {
	n, err := io.ReadFull(s.data, buf)
	s.ended = errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	if err != nil && !s.ended {
		return err
	}
	if n == 0 {
		return nil
	}
	turn := time.NewTimer(s.transport.mesh.snapshots.pace.take(n))
	defer turn.Stop()
	select {
	case <-turn.C:
	case a := <-s.answer.answer:
		return s.answered(a)
	case <-s.transport.leaving:
		return errTransportClosed
	}
	s.sum.Write(buf[:n])
	id, p, err := s.post(kindSnapshotChunk, laneBulk, chunkHead+n, func(b []byte) []byte {
		b = binary.BigEndian.AppendUint64(b, s.id)
		b = binary.BigEndian.AppendUint64(b, s.offset)
		return append(b, buf[:n]...)
	})
	if err != nil {
		return err
	}
	s.under = append(s.under, sentChunk{id, p})
	s.offset += uint64(n)
	s.progress.add(n)
	return nil
}

// await returns when a chunk or an end is answered.
func (s *outgoing) await(p *pendingCall) error {
	stall := time.NewTimer(snapshotStall)
	defer stall.Stop()
	select {
	case a := <-p.answer:
		if a.err == nil {
			return nil
		}
		stall.Reset(answerAfter)
		select { // the peer may have answered all of it before
		case all := <-s.answer.answer:
			return s.answered(all)
		case <-stall.C:
			return a.err
		}
	case a := <-s.answer.answer:
		return s.answered(a)
	case <-stall.C:
		return errSnapshotStalled
	case <-s.transport.leaving:
		return errTransportClosed
	}
}

// answered puts the answer of the install back for whoever decodes it.
func (s *outgoing) answered(a callAnswer) error {
	s.answer.answer <- a
	return errAnswered
}

// finish tells the peer that it has all, and waits while it gives signs of
// life, until the install is answered.
func (s *outgoing) finish() error {
	for start := time.Now(); time.Since(start) < snapshotFinish; {
		id, p, err := s.post(kindSnapshotEnd, laneBulk, endBytes, func(b []byte) []byte {
			return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(b, s.id), s.sum.Sum32())
		})
		if err != nil {
			return err
		}
		err = s.await(p)
		s.peer.forget(id)
		if err != nil {
			return err
		}
		again := time.NewTimer(askAgain)
		select {
		case a := <-s.answer.answer:
			again.Stop()
			return s.answered(a)
		case <-again.C:
		case <-s.transport.leaving:
			again.Stop()
			return errTransportClosed
		}
	}
	return fmt.Errorf("no answer from %x within %v of the last byte", s.peer.id, snapshotFinish)
}
