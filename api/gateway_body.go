package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

const (
	bodyPause    = 10 * time.Second // between two pieces of a JSON message
	messageTime  = time.Minute      // for a whole one
	answerPiece  = 256 << 10        // bytes a client has answerTimeout to take
	errBodyLimit = "the limit is %d (--max-request-bytes)"
)

var (
	errBodyTooLarge = errors.New("received message larger than max")
	errBodySlow     = fmt.Errorf("the request's body did not come within %v", messageTime)
)

// body reads a request's body with limits of size and time for each JSON
// message in it. A unary call has one; a stream that goes both ways has many
// and may pause between them. It is read by one goroutine at a time.
type body struct {
	io.ReadCloser
	control *http.ResponseController
	max     int64
	left    int64     // bytes the current message may still have
	end     time.Time // when it must be complete; zero while none has begun
	failed  error     // the limit that was passed
}

func newBody(src io.ReadCloser, control *http.ResponseController, max int64) *body {
	return &body{ReadCloser: src, control: control, max: max, left: max, end: time.Now().Add(messageTime)}
}

// Read stops at the first limit that is passed.
func (b *body) Read(p []byte) (int, error) {
	if b.failed != nil {
		return 0, b.failed
	}
	// One byte more than allowed, to tell an end at the limit from none.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	b.wait()
	n, err := b.ReadCloser.Read(p)
	if n > 0 && b.end.IsZero() {
		b.end = time.Now().Add(messageTime)
	}
	b.left -= int64(n)
	switch {
	case b.left < 0:
		b.failed = fmt.Errorf("%w: "+errBodyLimit, errBodyTooLarge, b.max)
		n, err = 0, b.failed
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.failed = errBodySlow
		err = b.failed
	}
	if err != nil { // net/http watches the connection from here on, without a limit
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// wait sets the deadline of the next read.
func (b *body) wait() {
	var deadline time.Time
	if !b.end.IsZero() {
		deadline = time.Now().Add(bodyPause)
		if deadline.After(b.end) {
			deadline = b.end
		}
	}
	_ = b.control.SetReadDeadline(deadline)
}

// next begins a further message, with limits of its own once it comes.
func (b *body) next() { b.left, b.end = b.max, time.Time{} }

// pacedWriter gives a client a time for each piece of an answer instead of one
// for all of it, since answers may be large and streams may last.
type pacedWriter struct {
	http.ResponseWriter
	control *http.ResponseController
}

// Write fails when the client does not take what is written.
func (w *pacedWriter) Write(p []byte) (n int, err error) {
	for {
		piece := p[n:min(n+answerPiece, len(p))]
		_ = w.control.SetWriteDeadline(time.Now().Add(answerTimeout))
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
