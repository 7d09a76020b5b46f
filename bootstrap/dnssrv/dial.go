package dnssrv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

const (
	// maxDials bounds the addresses tried for one connection.
	maxDials = 8
	// dialStagger is how long an attempt is alone before the next address is
	// tried beside it (RFC 8305, connection attempt delay).
	dialStagger = 250 * time.Millisecond
)

// DialContext connects as net.Dialer.DialContext does, but resolves the host
// with this resolver, every time anew, and tries all its addresses, each next
// one a moment after the one before. network is tcp, tcp4, tcp6 or unix.
func (r *Resolver) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if !strings.HasPrefix(network, "tcp") {
		var dialer net.Dialer
		return dialer.DialContext(ctx, network, addr)
	}
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, network, service)
	if err != nil {
		return nil, err
	}
	addrs, err := r.LookupHost(ctx, host)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	targets := targetsFor(network, addrs, port)
	if len(targets) == 0 {
		return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("%s has no address for %s", host, network)}
	}
	var dialer net.Dialer
	return race(ctx, targets, func(ctx context.Context, target string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, target)
	})
}

func targetsFor(network string, addrs []netip.Addr, port int) []string {
	var targets []string
	for _, addr := range addrs {
		if network == "tcp4" && !addr.Is4() || network == "tcp6" && addr.Is4() {
			continue
		}
		targets = append(targets, net.JoinHostPort(addr.String(), strconv.Itoa(port)))
	}
	return targets[:min(len(targets), maxDials)]
}

// race dials the targets one after the other, without waiting longer than
// dialStagger for one before the next begins. The first connection wins; the
// other attempts are called off and waited for.
func race(ctx context.Context, targets []string, dial func(ctx context.Context, target string) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result)
	running, next := 0, 0
	launch := func() {
		target := targets[next]
		next++
		running++
		go func() {
			conn, err := dial(ctx, target)
			results <- result{conn, err}
		}()
	}
	launch()
	stagger := time.NewTicker(dialStagger)
	defer stagger.Stop()
	var won net.Conn
	var errs []error
	for running > 0 {
		select {
		case <-stagger.C:
			if won == nil && next < len(targets) {
				launch()
			}
		case res := <-results:
			running--
			switch {
			case res.err != nil:
				errs = append(errs, res.err)
				if won == nil && next < len(targets) && ctx.Err() == nil {
					launch()
				}
			case won == nil:
				won = res.conn
				cancel()
			default:
				_ = res.conn.Close()
			}
		}
	}
	if won != nil {
		return won, nil
	}
	return nil, oneLine(errs)
}

// oneLine joins the errors of a race: errors.Join would break the line.
func oneLine(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	joined := errors.Join(errs...)
	return &dialErrors{joined: joined, text: strings.ReplaceAll(joined.Error(), "\n", "; ")}
}

type dialErrors struct {
	joined error
	text   string
}

func (e *dialErrors) Error() string { return e.text }
func (e *dialErrors) Unwrap() error { return e.joined }
