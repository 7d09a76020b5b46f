package raftstore

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

var (
	errSessionClosed  = errors.New("session is closed")
	errReplaced       = errors.New("replaced by a newer connection")
	errAddressChanged = errors.New("its peer URLs changed")
	errNotListed      = errors.New("no longer a member")
	errSilent         = errors.New("nothing heard from the peer for too long")
	errExpired        = errors.New("the peer's certificate expired")
)

// frameHook sees every frame before it is queued; for tests. It returns false
// to take the frame away, and may put copies of frames in with inject at any
// later time, which no hook sees again.
type frameHook func(to uint64, raw []byte, inject func(raw []byte)) bool

// session is one open connection with a peer.
//
// Two goroutines serve it: run reads, writeLoop writes, pings, and watches for
// silence. Nobody else touches the connection, so a peer that takes nothing
// holds up only its own queue, for as long as one write may take.
type session struct {
	mesh     *Mesh
	peer     *remote
	inbound  bool
	instance string
	raw      net.Conn // closed directly: TLS's own farewell could block
	conn     *timedConn
	br       *bufio.Reader
	expires  time.Time // end of the peer's certificate; zero for none
	skew     time.Duration

	done  chan struct{} // closed by close
	wake  chan struct{} // the queue is not empty
	mu    sync.Mutex
	cause error
	queue sendQueue
}

func newSession(m *Mesh, raw, conn net.Conn, br *bufio.Reader) *session {
	return &session{
		mesh: m, raw: raw, br: br,
		conn: &timedConn{Conn: conn, limit: m.limits.write, start: m.start},
		done: make(chan struct{}),
		wake: make(chan struct{}, 1),
	}
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
	s.raw.Close()
}

func (s *session) endCause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

// run serves an attached session until it ends, and says why it ended.
func (s *session) run() error {
	s.conn.count(s.peer)
	stop := context.AfterFunc(s.mesh.ctx, func() { s.raw.SetWriteDeadline(time.Now().Add(farewell)) })
	defer stop()
	var writer sync.WaitGroup
	writer.Go(s.writeLoop)
	for {
		f, err := readFrame(s.br)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				s.peer.unheard.Inc()
			}
			s.close(err)
			break
		}
		s.receive(f)
	}
	writer.Wait()
	cause := s.endCause()
	s.peer.detach(s, cause)
	return cause
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
			trip := time.Since(s.mesh.start) - sent
			theirs := time.Unix(0, int64(binary.BigEndian.Uint64(f.payload[8:])))
			s.peer.measured(trip, time.Until(theirs)+trip/2)
		}
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
		case <-s.done:
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
	defer s.mu.Unlock()
	if s.cause != nil {
		return false, s.done
	}
	if !s.queue.add(l, f) {
		return false, s.queue.room()
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return true, nil
}

func (s *session) tryEnqueue(l laneID, f *outFrame) {
	if queued, _ := s.enqueue(l, f); !queued {
		f.release()
	}
}

func (s *session) inject(raw []byte) { s.push(laneBulk, &outFrame{b: raw}) }

// writeLoop owns the writing half.
func (s *session) writeLoop() {
	ticker := time.NewTicker(s.mesh.limits.ping)
	defer ticker.Stop()
	bw := bufio.NewWriterSize(s.conn, 64<<10)
	s.conn.heard.Store(int64(time.Since(s.mesh.start)))
	s.ping()
	for {
		select {
		case <-s.wake:
		case <-ticker.C:
			s.check()
		case <-s.done:
			return
		case <-s.mesh.ctx.Done():
			_ = s.flush(bw) // as far as it goes
			s.close(ErrMeshClosed)
			return
		}
		if err := s.flush(bw); err != nil {
			s.peer.unsent.Inc()
			s.close(err)
			return
		}
	}
}

func (s *session) ping() {
	ping := newOutFrame(framePing, 0, 0, 0, 8)
	ping.b = binary.BigEndian.AppendUint64(ping.b, uint64(time.Since(s.mesh.start)))
	if ping.seal() == nil {
		s.tryEnqueue(laneUrgent, ping)
	}
}

// check pings, and closes a connection that is silent or no longer
// authenticated.
func (s *session) check() {
	now := time.Now()
	heard := time.Duration(s.conn.heard.Load())
	switch {
	case now.Sub(s.mesh.start)-heard > s.mesh.limits.silence:
		s.close(errSilent)
	case !s.expires.IsZero() && now.After(s.expires):
		s.close(errExpired)
	default:
		s.ping()
	}
}

// flush writes all that is queued.
func (s *session) flush(bw *bufio.Writer) error {
	for {
		s.mu.Lock()
		batch := s.queue.take()
		s.mu.Unlock()
		if len(batch) == 0 {
			return bw.Flush()
		}
		for i, f := range batch {
			batch[i] = nil
			if _, err := bw.Write(f.b); err != nil {
				return err
			}
			f.release()
		}
	}
}

// timedConn gives each piece of a write its own deadline, counts bytes, and
// notes when something was last heard.
type timedConn struct {
	net.Conn
	limit time.Duration
	start time.Time
	heard atomic.Int64 // nanoseconds since start
	peer  atomic.Pointer[remote]
}

// writePiece is what has to leave within one write limit, in bytes.
const writePiece = 256 << 10

func (c *timedConn) count(r *remote) { c.peer.Store(r) }

func (c *timedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard.Store(int64(time.Since(c.start)))
		if r := c.peer.Load(); r != nil {
			r.received.Add(float64(n))
		}
	}
	return n, err
}

func (c *timedConn) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		limit := c.limit
		r := c.peer.Load()
		if r != nil && r.mesh.ctx.Err() != nil {
			limit = farewell
		}
		if err := c.SetWriteDeadline(time.Now().Add(limit)); err != nil {
			return done, err
		}
		n, err := c.Conn.Write(p[done:min(len(p), done+writePiece)])
		done += n
		if r != nil {
			r.sent.Add(float64(n))
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}
