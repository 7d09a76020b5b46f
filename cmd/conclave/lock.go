package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

const lockDescription = `Waits for the lock and holds it while the command runs, or without a command
until SIGINT or SIGTERM. Flags of the command follow --: lock NAME -- ls -l.

The command has in its environment
  ETCD_LOCK_KEY           the key that holds the lock
  ETCD_LOCK_REV           the revision at which the lock was got
  CONCLAVE_FENCING_TOKEN  a number that is higher for each holder of the lock

It has the terminal, if there is one, and Ctrl-Z stops both: for longer than
--ttl, and the lock is lost. It gets the signals that conclave gets, and conclave
exits with its exit code, or with 128 and the number of the signal that ended it.
If the lock is lost, since its lease was revoked or could not be renewed for
--ttl, the command gets SIGTERM and five seconds later SIGKILL, and conclave exits
with 75.

Another may hold the lock before the command has ended: what the lock protects
should refuse tokens lower than the highest it has seen. See docs/locks.md.`

func lockCommand() *cli.Command {
	return &cli.Command{
		Name:        "lock",
		Usage:       "Acquires a named lock",
		ArgsUsage:   "<lockname> [exec-command arg1 arg2 ...]",
		Description: lockDescription,
		Flags:       []cli.Flag{ttlFlag("time after which the lock of a client that is gone is free")},
		Action:      runLock,
	}
}

func runLock(c *cli.Context) error {
	if c.NArg() == 0 {
		return failf(exitBadArgs, "lock takes a lock name argument and an optional command to execute")
	}
	ttl, err := ttlSeconds(c)
	if err != nil {
		return err
	}
	return withSignals(c, func(s *session, client *clientv3.Client, catch func() <-chan os.Signal) error {
		h, err := newHold(s, client, ttl)
		if err != nil {
			return err
		}
		lost := failf(exitLost, "the lock was lost while it was held: its lease %016x had expired", h.session.Lease())
		return h.finish(c.App.ErrWriter, underLock(c, h, catch()), c.NArg() > 1, lost)
	})
}

// underLock takes the lock and does what it is for.
func underLock(c *cli.Context, h *hold, signals <-chan os.Signal) error {
	m := concurrency.NewMutex(h.session, c.Args().First())
	if err := h.await(signals, concurrency.ErrSessionExpired, m.Lock); err != nil {
		return err
	}
	ctx, cancel := h.s.timeout()
	defer cancel()
	resp, err := h.client.Get(ctx, m.Key())
	if err != nil {
		return err
	}
	if len(resp.Kvs) == 0 {
		return errors.New("lock lost on init")
	}
	if c.NArg() == 1 {
		if err := h.s.print.get(resp); err != nil {
			return err
		}
		select {
		case <-signals:
			return nil
		case <-h.lost():
			return errors.New("session expired")
		}
	}
	err = runChild(c, c.Args().Tail(), signals, h.lost(),
		"ETCD_LOCK_KEY="+m.Key(),
		fmt.Sprintf("ETCD_LOCK_REV=%d", m.Header().GetRevision()),
		fmt.Sprintf("CONCLAVE_FENCING_TOKEN=%d", resp.Kvs[0].CreateRevision))
	if errors.Is(err, errEnded) {
		return failf(exitLost, "the lock was lost: its lease %016x was revoked, or not renewed for %ds; the command was ended", h.session.Lease(), h.ttl)
	}
	return err
}
