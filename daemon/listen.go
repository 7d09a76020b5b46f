package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/conclave-kv/conclave/api"
)

// bind opens all ports before anything is written, so that one that is taken
// ends the start without a trace.
func (d *Daemon) bind(ctx context.Context) error {
	listen := func(network, addr string) (net.Listener, error) {
		return d.cfg.listener().Listen(ctx, network, addr)
	}
	for _, u := range d.cfg.ListenPeerURLs {
		ln, err := listen("tcp", u.Host)
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			return fmt.Errorf("--listen-peer-urls %s: the port is already in use; stop the program that has it or give another one", u.String())
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			return fmt.Errorf("--listen-peer-urls %s: not an address of this host; give one that is, or 0.0.0.0 for all of them", u.String())
		case errors.Is(err, syscall.EACCES):
			return fmt.Errorf("--listen-peer-urls %s: no permission to listen there; give a port above 1023 or more rights", u.String())
		case err != nil:
			return fmt.Errorf("--listen-peer-urls %s: %w", u.String(), err)
		}
		if addr, ok := ln.Addr().(*net.TCPAddr); ok && u.Scheme == "http" && !addr.IP.IsLoopback() {
			d.log.Warn().Stringer("address", addr).Msg("serving peer traffic insecurely; whoever reaches this port can pose as a member")
		}
		d.peers = append(d.peers, ln)
		d.onClose(func() { _ = ln.Close() }) // closed by the mesh before, if it got that far
	}
	clients, err := api.Listen(api.ListenConfig{
		ClientURLs:  d.cfg.ListenClientURLs,
		HTTPURLs:    d.cfg.ListenClientHTTPURLs,
		MetricsURLs: d.cfg.ListenMetricsURLs,
		Listen:      listen,
	})
	if err != nil {
		return err
	}
	d.clients = clients
	d.onClose(func() {
		if d.server == nil {
			_ = clients.Close()
		}
	})
	return nil
}

// listener opens ports with the socket options that were asked for. SO_REUSEADDR is
// set by Go.
func (c Config) listener() *net.ListenConfig {
	var l net.ListenConfig
	if c.SocketReusePort {
		l.Control = func(network, _ string, conn syscall.RawConn) (err error) {
			if !strings.HasPrefix(network, "tcp") {
				return nil // the option is not for socket files
			}
			failed := conn.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			})
			return errors.Join(failed, err)
		}
	}
	return &l
}
