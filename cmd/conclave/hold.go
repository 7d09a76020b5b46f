package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// cleanupBound is how long a wait that was given up may take to remove what it
// waits with. The lease takes it away later if that was not enough.
const cleanupBound = 5 * time.Second

// hold is a lease that is kept alive until it is released or lost.
type hold struct {
	s       *session
	client  *clientv3.Client
	session *concurrency.Session
	ttl     int64 // in seconds, as granted
}

// newHold grants a lease of so many seconds within --command-timeout, and keeps
// it alive.
func newHold(s *session, client *clientv3.Client, ttl int64) (*hold, error) {
	ctx, cancel := s.timeout()
	defer cancel()
	granted, err := client.Grant(ctx, ttl)
	if err != nil {
		return nil, err
	}
	kept, err := concurrency.NewSession(client, concurrency.WithLease(granted.ID), concurrency.WithTTL(int(granted.TTL)))
	if err != nil {
		return nil, err
	}
	return &hold{s: s, client: client, session: kept, ttl: granted.TTL}, nil
}

// lost is closed when the lease is gone, or could not be renewed for so long
// that it has to be taken for gone.
func (h *hold) lost() <-chan struct{} { return h.session.Done() }

func (h *hold) isLost() bool {
	select {
	case <-h.lost():
		return true
	default:
		return false
	}
}

// release revokes the lease, which removes the keys under it, within
// --command-timeout. The error is rpctypes.ErrLeaseNotFound if the lease had
// been lost before.
func (h *hold) release() error {
	h.session.Orphan()
	ctx, cancel := h.s.timeout()
	defer cancel()
	_, err := h.client.Revoke(ctx, h.session.Lease())
	if err == nil || errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return err
	}
	return fmt.Errorf("revoke lease %016x, which ends by itself within %ds: %w", h.session.Lease(), h.ttl, err)
}

// await calls take with a context that ends with the first signal or with the
// lease. The error is then of the context, or expired. A take that does not end
// after that is left behind at the second signal, or after cleanupBound.
func (h *hold) await(signals <-chan os.Signal, expired error, take func(context.Context) error) error {
	ctx, cancel := context.WithCancel(h.session.Ctx())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- take(ctx) }()
	var cause error
	select {
	case err := <-done:
		if err != nil && h.isLost() {
			return expired
		}
		return err
	case <-signals:
		cancel()
		cause = ctx.Err()
	case <-h.lost():
		cause = expired
	}
	select {
	case <-done: //nolint:errcheck // it was given up: the cause counts
	case <-signals:
	case <-time.After(cleanupBound):
	}
	return cause
}

// finish releases what was held for work that ended with err, which stays the
// error if it is one; that of the release is then a warning, and also where the
// work was a command's, whose exit code counts. gone stands for a lease that had
// ended before. A signal ends a release that hangs.
func (h *hold) finish(errOut io.Writer, err error, commands bool, gone error) error {
	releaseSignals()
	released := h.release()
	switch ended := errors.Is(released, rpctypes.ErrLeaseNotFound); {
	case err == nil && ended:
		return gone
	case err == nil && !commands:
		return released
	case released != nil && !ended:
		fmt.Fprintln(errOut, "Warning:", released)
	}
	return err
}

// withSignals is withClient for a command that goes on until it gets one of the
// signals that end programs. It catches these when it has something to clean up:
// until then they end it at once.
func withSignals(c *cli.Context, do func(s *session, client *clientv3.Client, catch func() <-chan os.Signal) error) error {
	return withClient(c, func(_ context.Context, s *session, client *clientv3.Client) error {
		defer releaseSignals()
		return do(s, client, catchSignals)
	})
}

// catchSignals takes over the signals that end programs.
func catchSignals() <-chan os.Signal {
	c := make(chan os.Signal, 4)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		signal.Notify(c, syscall.SIGHUP)
	}
	return c
}

// releaseSignals has signals end the program again.
func releaseSignals() { signal.Reset(syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP) }

// ttlFlag is --ttl of the commands that keep a lease.
func ttlFlag(what string) cli.Flag {
	return &cli.StringFlag{Name: "ttl", Value: "10", Usage: what + ", in seconds or as a duration such as 1m30s"}
}

// ttlSeconds reads --ttl. Parts of a second count as a whole one.
func ttlSeconds(c *cli.Context) (int64, error) {
	text := c.String("ttl")
	seconds, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		var d time.Duration
		if d, err = time.ParseDuration(text); err == nil {
			seconds = int64((d + time.Second - 1) / time.Second)
		}
	}
	if err != nil || seconds < 1 {
		return 0, failf(exitBadArgs, "--ttl %q: write seconds, such as 10 or 10s, from 1 to %d", text, math.MaxInt32)
	}
	return seconds, nil
}
