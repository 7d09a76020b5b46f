package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// messagePauses is how many times the longest pause a whole JSON message
	// may take.
	messagePauses = 6
	// answerPiece is what a client has one answer timeout to take, in bytes.
	answerPiece = 256 << 10
)

var (
	errBodyTooLarge = errors.New("received message larger than max")
	errBodySlow     = errors.New("the body of the request did not come in time")
)

// jsonLimits bound what JSON clients send and how they take answers.
type jsonLimits struct {
	size   int64         // of one message, in bytes
	pause  time.Duration // between two pieces of it
	answer time.Duration // to take answerPiece
}

// body reads a request's body with limits of size and time for each JSON
// message in it. A unary call has one; a stream that goes both ways has many
// and may pause between them. It is read by one goroutine at a time.
type body struct {
	io.ReadCloser
	control *http.ResponseController
	limits  jsonLimits
	left    int64     // bytes the current message may still have
	due     time.Time // when it must be complete; zero while none has begun
	cancel  func()    // ends the call

	failed atomic.Pointer[error] // why nothing is read any more
	mu     sync.Mutex            // held while reading
}

func newBody(src io.ReadCloser, control *http.ResponseController, l jsonLimits, cancel func()) *body {
	b := &body{ReadCloser: src, control: control, limits: l, left: l.size, cancel: cancel}
	b.begin()
	return b
}

func (b *body) begin() { b.due = time.Now().Add(messagePauses * b.limits.pause) }

// Read stops at the first limit that is passed.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if failed := b.failed.Load(); failed != nil {
		return 0, *failed
	}
	// One byte more than allowed, to tell an end at the limit from none.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	b.wait()
	n, err := b.ReadCloser.Read(p)
	if n > 0 && b.due.IsZero() {
		b.begin()
	}
	b.left -= int64(n)
	switch {
	case b.left < 0:
		n, err = 0, fmt.Errorf("%w: JSON of %d bytes (--max-request-bytes)", errBodyTooLarge, b.limits.size)
		b.failed.Store(&err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = errBodySlow
		b.failed.CompareAndSwap(nil, &err)
	}
	switch {
	case errors.Is(err, io.EOF): // net/http notices from here on when the client goes
		_ = b.control.SetReadDeadline(time.Time{})
	case err != nil: // it never will, and what is left of the body keeps its deadline
		b.cancel()
	}
	return n, err
}

// end is called when the request has been answered. The part of a stream that
// takes messages may still be waiting for one, and net/http wants nobody to
// read by then. Where both sides spoke at once (duplex) it must not reach the
// end of the body by itself either: it would start to watch the connection
// for a request that is over.
func (b *body) end(duplex bool) {
	over := io.ErrClosedPipe
	b.failed.CompareAndSwap(nil, &over)
	past := time.Unix(1, 0)
	for !b.mu.TryLock() {
		_ = b.control.SetReadDeadline(past)
		runtime.Gosched()
	}
	defer b.mu.Unlock()
	if !duplex {
		return
	}
	until := past
	if errors.Is(*b.failed.Load(), errBodyTooLarge) { // more is on its way, and unread it would undo the answer
		until = time.Now().Add(time.Second)
	}
	_ = b.control.SetReadDeadline(until)
	if _, err := io.CopyN(io.Discard, b.ReadCloser, b.limits.size); errors.Is(err, io.EOF) {
		past = time.Time{}
	}
	_ = b.control.SetReadDeadline(past)
}

// wait sets the deadline of the next read.
func (b *body) wait() {
	var deadline time.Time
	if !b.due.IsZero() {
		deadline = time.Now().Add(b.limits.pause)
		if deadline.After(b.due) {
			deadline = b.due
		}
	}
	_ = b.control.SetReadDeadline(deadline)
}

// next begins a further message, with limits of its own once it comes.
func (b *body) next() { b.left, b.due = b.limits.size, time.Time{} }

// pacedWriter gives a client a time for each piece of an answer instead of one
// for all of it, since answers may be large and streams may last.
type pacedWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration // for a piece
	begun   bool
	duplex  bool // reads and writes at once
}

// Write fails when the client does not take what is written. A stream answers
// while requests still come, which HTTP/1.1 has to be told: net/http would eat
// them first.
func (w *pacedWriter) Write(p []byte) (n int, err error) {
	if !w.begun && w.Header().Get("Transfer-Encoding") != "" {
		w.duplex = w.control.EnableFullDuplex() == nil
	}
	w.begun = true
	for {
		piece := p[n:min(n+answerPiece, len(p))]
		_ = w.control.SetWriteDeadline(time.Now().Add(w.timeout))
		m, err := w.ResponseWriter.Write(piece)
		n += m
		if err != nil || n == len(p) {
			return n, err
		}
	}
}

// FlushError ends a message of a stream. The next may be long in coming, and
// HTTP/2 ends a stream whose deadline passes though nothing is being written.
func (w *pacedWriter) FlushError() error {
	err := w.control.Flush()
	_ = w.control.SetWriteDeadline(time.Time{})
	return err
}

// Unwrap is for http.ResponseController.
func (w *pacedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
