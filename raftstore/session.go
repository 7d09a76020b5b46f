package raftstore

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

var (
	errSessionClosed = errors.New("session is closed")
	errReplaced      = errors.New("replaced by a newer connection")
	errRetired       = errors.New("handed over to a newer connection")
	errSuperseded    = errors.New("no sign of life, and another process runs under its id")
	errNotListed     = errors.New("no longer a member")
	errSilent        = errors.New("nothing heard from the peer for too long")
	errExpired       = errors.New("the peer's certificate expired")
)

// frameHook sees every frame before it is queued; for tests. It returns false
// to take the frame away, and may put copies of frames in with inject at any
// later time, which no hook sees again.
type frameHook func(to uint64, raw []byte, inject func(raw []byte)) bool

// session is one open connection with a peer.
//
// Two goroutines serve it: run reads, and writeLoop writes what is queued. A
// small frame that finds the queue empty and the connection at rest is written by
// who queues it, as far as that does not block: waking a goroutine costs more
// than the write. So a peer that takes nothing holds up only its own queue, for
// as long as one write may take. Mesh.keepSessions pings and watches for silence.
type session struct {
	mesh     *Mesh
	peer     *remote
	inbound  bool
	instance string
	nonce    uint64   // of the peer's process
	target   string   // URL that was dialled
	raw      net.Conn // closed directly: TLS's own farewell could block
	conn     *timedConn
	br       *bufio.Reader
	renews   bool      // it takes the place of one that is still open
	expires  time.Time // end of the peer's certificate; zero for none
	renewAt  time.Time // when we dial the next one; zero for not at all
	skew     time.Duration

	done  chan struct{} // closed by close
	full  chan struct{} // closed once the queue takes nothing more
	ended chan struct{} // closed when run has detached it
	wake  chan struct{} // the queue is not empty

	writing sync.Mutex // held by who writes, before mu
	bw      *bufio.Writer
	wrote   time.Time // when something was written last

	mu       sync.Mutex
	cause    error
	queue    sendQueue
	handover handover
	probed   chan struct{} // closed at the answer to a ping sent after asked; or nil
	asked    time.Duration // since the mesh's start
}

func newSession(m *Mesh, raw, conn net.Conn, br *bufio.Reader) *session {
	timed := &timedConn{Conn: conn, limit: m.limits.write, start: m.start}
	timed.direct, _ = raw.(*directConn)
	s := &session{
		mesh: m, raw: raw, br: br, conn: timed,
		bw:    bufio.NewWriterSize(timed, 64<<10),
		done:  make(chan struct{}),
		full:  make(chan struct{}),
		ended: make(chan struct{}),
		wake:  make(chan struct{}, 1),
	}
	s.writing.Lock() // until run: the hello's answer goes first
	return s
}

func (s *session) direction() string {
	if s.inbound {
		return "inbound"
	}
	return "outbound"
}

// close ends the session; the first cause stays.
func (s *session) close(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != nil {
		return
	}
	s.cause = connectionEnd(cause)
	close(s.done)
	if !s.handover.retired {
		close(s.full)
	}
	s.raw.Close()
}

func (s *session) endCause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

// run serves an attached session until it ends.
func (s *session) run() {
	s.conn.count(s.peer)
	s.conn.deadline = time.Time{} // that of the handshake was taken back
	s.writing.Unlock()
	stop := context.AfterFunc(s.mesh.ctx, func() { s.raw.SetWriteDeadline(time.Now().Add(farewell)) })
	defer stop()
	s.mesh.keep(s)
	defer s.mesh.drop(s)
	var writer sync.WaitGroup
	writer.Go(s.writeLoop)
	if !s.inbound {
		s.ping() // measures the round trip
	}
	for {
		f, err := readFrame(s.br)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				s.peer.unheard.Inc()
			}
			if !s.saysEnd() {
				s.close(err)
			}
			break
		}
		s.receive(f)
	}
	writer.Wait()
	cause := s.endCause()
	if s.handover.retired && !errors.Is(cause, errRetired) {
		s.peer.lost()
	}
	s.peer.detach(s, cause)
	close(s.ended)
}

// receive must not block: it stands between the connection and every frame
// that follows.
func (s *session) receive(f frame) {
	switch f.typ {
	case frameResponse, frameFailure:
		s.peer.answered(f)
	case frameRequest, frameOneWay:
		if f.kind >= raftKinds {
			s.mesh.receiveRaft(s.peer, f)
		} else {
			s.peer.handle(f)
		}
	case framePing:
		pong := newOutFrame(framePong, 0, 0, 0, 16)
		pong.b = append(pong.b, f.payload[:min(8, len(f.payload))]...)
		pong.b = binary.BigEndian.AppendUint64(pong.b, uint64(time.Now().UnixNano()))
		if pong.seal() == nil {
			s.tryEnqueue(laneUrgent, pong)
		}
	case framePong:
		if len(f.payload) == 16 {
			sent := time.Duration(binary.BigEndian.Uint64(f.payload))
			s.answered(sent)
			trip := time.Since(s.mesh.start) - sent
			theirs := time.Unix(0, int64(binary.BigEndian.Uint64(f.payload[8:])))
			s.peer.measured(trip, time.Until(theirs)+trip/2)
		}
	case frameEnd:
		s.heardEnd()
	}
}

// send queues f, waiting for room until ctx ends. After an error f was not
// sent; it is released except after errSessionClosed, when the caller may try
// another session.
func (s *session) send(ctx context.Context, l laneID, f *outFrame) error {
	for {
		queued, room := s.enqueue(l, f)
		if queued {
			return nil
		}
		select {
		case <-room:
		case <-s.full:
			return errSessionClosed
		case <-ctx.Done():
			f.release()
			return ctx.Err()
		}
	}
}

// enqueue queues f if there is room; room is closed when there is again.
func (s *session) enqueue(l laneID, f *outFrame) (queued bool, room <-chan struct{}) {
	if hook := s.mesh.cfg.hook; hook != nil && !hook(s.peer.id, f.b, s.inject) {
		f.release()
		return true, nil
	}
	return s.push(l, f)
}

func (s *session) push(l laneID, f *outFrame) (queued bool, room <-chan struct{}) {
	s.mu.Lock()
	if s.cause != nil || s.handover.retired {
		s.mu.Unlock()
		return false, s.full
	}
	if !s.queue.add(l, f) {
		defer s.mu.Unlock()
		return false, s.queue.room()
	}
	s.mu.Unlock()
	// Commit indexes come from raft's own goroutines, which have better to do.
	if l == laneCommit || !s.writeNow() {
		s.signal()
	}
	return true, nil
}

// signal has writeLoop look at the queue.
func (s *session) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *session) tryEnqueue(l laneID, f *outFrame) {
	if queued, _ := s.enqueue(l, f); !queued {
		f.release()
	}
}

func (s *session) inject(raw []byte) { s.push(laneBulk, &outFrame{b: raw}) }
