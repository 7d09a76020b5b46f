package testcluster

import (
	"context"
	"errors"
	"net"
	"sync"
)

var errCut = errors.New("testcluster: link is cut")

// links are the connections between members. Every connection is dialled by one
// of them, so cutting what both sides dial cuts them off from each other.
type links struct {
	mu    sync.Mutex
	owner map[string]int // member by peer address
	down  map[[2]int]bool
	conns map[*link]bool
}

type link struct {
	net.Conn
	from, to int
	links    *links
}

func newLinks() *links {
	return &links{owner: map[string]int{}, down: map[[2]int]bool{}, conns: map[*link]bool{}}
}

func (l *links) name(index int, addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.owner[addr] = index
}

// dialer is how member from reaches the others.
func (l *links) dialer(from int) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		l.mu.Lock()
		to := l.owner[addr]
		down := l.down[[2]int{from, to}]
		l.mu.Unlock()
		if down {
			return nil, errCut
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c := &link{Conn: conn, from: from, to: to, links: l}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.down[[2]int{from, to}] {
			conn.Close()
			return nil, errCut
		}
		l.conns[c] = true
		return c, nil
	}
}

// Close forgets the connection.
func (c *link) Close() error {
	c.links.mu.Lock()
	delete(c.links.conns, c)
	c.links.mu.Unlock()
	return c.Conn.Close()
}

func (l *links) cut(i, j int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down[[2]int{i, j}], l.down[[2]int{j, i}] = true, true
	for c := range l.conns {
		if c.from == i && c.to == j || c.from == j && c.to == i {
			c.Conn.Close()
			delete(l.conns, c)
		}
	}
}

func (l *links) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.down)
}
