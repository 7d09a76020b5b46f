package raftstore

import (
	"bufio"
	"time"
)

// handover is the end of a session whose place another one took while it was
// open. Nothing more is queued; each side sends what it had queued and then a
// frame that says so, and when both have, nothing can have been lost.
type handover struct {
	retired bool
	since   time.Time
	said    bool // our last frame was sent
	heard   bool // the peer's last frame came
}

// retire begins the handover; false if the session is closed. It must have been
// replaced in its slot before, so that whoever finds it retired finds the new one.
func (s *session) retire() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != nil {
		return false
	}
	s.handover.retired, s.handover.since = true, time.Now()
	close(s.full)
	s.signal()
	return true
}

// sayEnd flushes, after our last frame if the session is retired.
func (s *session) sayEnd(bw *bufio.Writer) error {
	s.mu.Lock()
	last := s.handover.retired && !s.handover.said
	s.mu.Unlock()
	if !last {
		return bw.Flush()
	}
	f := newOutFrame(frameEnd, 0, 0, 0, 0)
	if err := f.seal(); err != nil {
		return err
	}
	_, err := bw.Write(f.b)
	f.release()
	if err == nil {
		err = bw.Flush()
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.handover.said = true
	over := s.handover.heard
	s.mu.Unlock()
	if over {
		s.close(errRetired)
	}
	return nil
}

func (s *session) heardEnd() {
	s.mu.Lock()
	s.handover.heard = true
	over := s.handover.said
	s.mu.Unlock()
	if over {
		s.close(errRetired)
	}
}

// saysEnd says whether the peer's last frame came, and ours is on its way: the peer
// ends the connection when it has that, perhaps before our writer notes that it is
// sent. Then the writer ends the session.
func (s *session) saysEnd() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause == nil && s.handover.retired && s.handover.heard && !s.handover.said
}

// overdue says whether the handover takes longer than a write may.
func (s *session) overdue(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handover.retired && now.Sub(s.handover.since) > s.mesh.limits.write
}

// probe pings; the result is closed when the answer comes.
func (s *session) probe() <-chan struct{} {
	s.mu.Lock()
	if s.probed == nil {
		s.probed = make(chan struct{})
		s.asked = time.Since(s.mesh.start)
	}
	sign := s.probed
	s.mu.Unlock()
	s.ping()
	return sign
}

// answered notes the answer to a ping sent at that time.
func (s *session) answered(sent time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.probed != nil && sent >= s.asked {
		close(s.probed)
		s.probed = nil
	}
}
