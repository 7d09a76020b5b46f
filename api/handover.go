package api

import (
	"net"
	"sync"
)

// handover is the listener a protocol server accepts from: connections the
// door has already looked at.
type handover struct {
	conns chan net.Conn // unbuffered: a connection is always owned by someone
	done  chan struct{}
	once  sync.Once
}

func newHandover() *handover {
	return &handover{conns: make(chan net.Conn), done: make(chan struct{})}
}

// give hands c to the server, or closes it when the server has stopped.
func (h *handover) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.done:
		_ = c.Close()
	}
}

// Accept returns the next connection, net.ErrClosed after Close.
func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and give; it may be called more than once.
func (h *handover) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr is only a name: the connections come from several sockets.
func (h *handover) Addr() net.Addr { return &net.UnixAddr{Name: "client", Net: "handover"} }
