package api

import (
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// conn is an accepted connection below TLS. It gives back what was read while
// finding out what the client speaks, counts the bytes of gRPC connections,
// remembers the hello, and ends when the client's certificate does.
type conn struct {
	net.Conn
	prefix []byte // read already, to be read again

	// From the TLS hello; written by the handshake only.
	protocols  []string
	serverName string
	// admit is asked as soon as it is known what the client speaks.
	admit func(c *conn, protocols []string) error

	// Nil on connections that do not go to gRPC. Set before the hand-over.
	received, sent prometheus.Counter

	expiry *time.Timer // nil without a client certificate
}

func (c *conn) Read(p []byte) (int, error) {
	if len(c.prefix) > 0 {
		n := copy(p, c.prefix)
		if c.prefix = c.prefix[n:]; len(c.prefix) == 0 {
			c.prefix = nil
		}
		c.count(c.received, n)
		return n, nil
	}
	n, err := c.Conn.Read(p)
	c.count(c.received, n)
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.count(c.sent, n)
	return n, err
}

func (c *conn) count(to prometheus.Counter, n int) {
	if to != nil && n > 0 {
		to.Add(float64(n))
	}
}

func (c *conn) Close() error {
	if c.expiry != nil {
		c.expiry.Stop()
	}
	return c.Conn.Close()
}

// endAt closes the connection when the client's certificate ends: a
// connection must not outlive the identity it was opened with.
func (c *conn) endAt(notAfter time.Time) {
	raw := c.Conn
	c.expiry = time.AfterFunc(time.Until(notAfter), func() { _ = raw.Close() })
}

// peek reads until n bytes are known, or until stop says that the bytes known
// so far are enough, and leaves them to be read again.
func (c *conn) peek(n int, stop func(seen []byte) bool) ([]byte, error) {
	buf := make([]byte, n)
	have := copy(buf, c.prefix)
	for have < n && (have == 0 || !stop(buf[:have])) {
		m, err := c.Conn.Read(buf[have:])
		have += m
		if err != nil && m == 0 {
			return nil, err
		}
	}
	c.prefix = buf[:have]
	return c.prefix, nil
}
