package raftstore

import (
	"errors"
	"net"
	"sync"
	"syscall"
)

// directConn is a TCP connection, below TLS where there is any, on which a write
// can be tried without waiting for room: the rest is kept.
type directConn struct {
	*net.TCPConn
	sys syscall.RawConn
	try func(fd uintptr) bool // tryWrite, made once

	mu      sync.Mutex
	hurried bool
	rest    []byte // taken, not yet sent
	p       []byte // argument and results of tryWrite
	n       int
	err     error
}

// newDirectConn wraps a TCP connection, and returns any other as it is.
func newDirectConn(conn net.Conn) net.Conn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn
	}
	sys, err := tcp.SyscallConn()
	if err != nil {
		return conn
	}
	d := &directConn{TCPConn: tcp, sys: sys}
	d.try = d.tryWrite
	return d
}

// hurry says whether the next writes must not block.
func (d *directConn) hurry(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hurried = on
}

// Write implements net.Conn.
func (d *directConn) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.hurried {
		if err := d.finishLocked(); err != nil {
			return 0, err
		}
		return d.TCPConn.Write(p)
	}
	sent := 0
	if len(d.rest) == 0 {
		d.p, d.n, d.err = p, 0, nil
		err := d.sys.Write(d.try)
		d.p = nil
		if err == nil {
			err = d.err
		}
		if err != nil {
			return 0, err
		}
		sent = d.n
	}
	d.rest = append(d.rest, p[sent:]...)
	return len(p), nil
}

// pending says whether a rest is kept.
func (d *directConn) pending() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.rest) > 0
}

// finish writes the rest, waiting for room until the deadline.
func (d *directConn) finish() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.finishLocked()
}

func (d *directConn) finishLocked() error {
	if len(d.rest) == 0 {
		return nil
	}
	_, err := d.TCPConn.Write(d.rest)
	d.rest = d.rest[:0]
	return err
}

// tryWrite runs with the socket locked for writing. It returns true in any case:
// false would wait for room.
func (d *directConn) tryWrite(fd uintptr) bool {
	n, err := syscall.Write(int(fd), d.p)
	switch {
	case err == nil:
		d.n = n
	case !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR):
		d.err = err
	}
	return true
}
