package main

import (
	"context"
	"errors"
	"os"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// electTTL is the time to live, in seconds, of a candidate that is gone. It is
// etcdctl's.
const electTTL = 60

func electCommand() *cli.Command {
	return &cli.Command{
		Name:      "elect",
		Usage:     "Observes and participates in leader election",
		ArgsUsage: "<election-name> [proposal]",
		Description: "With a proposal it waits to be elected, prints its key and the proposal, and leads until\n" +
			"SIGINT or SIGTERM. With -l it prints the leader, and each new one and new proposal.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "listen", Aliases: []string{"l"}, Usage: "observation mode"},
		},
		Action: runElect,
	}
}

func runElect(c *cli.Context) error {
	listen := c.Bool("listen")
	switch {
	case c.NArg() == 0, c.NArg() > 2:
		return failf(exitBadArgs, "elect takes one election name argument and an optional proposal argument")
	case c.NArg() == 1 && !listen:
		return failf(exitBadArgs, "no proposal argument but -l not set")
	case c.NArg() == 2 && listen:
		return failf(exitBadArgs, "proposal given but -l is set")
	}
	return withSignals(c, func(s *session, client *clientv3.Client, catch func() <-chan os.Signal) error {
		h, err := newHold(s, client, electTTL)
		if err != nil {
			return err
		}
		signals := catch()
		e := concurrency.NewElection(h.session, c.Args().First())
		if listen {
			err = observe(c.Context, h, e, signals)
		} else {
			err = campaign(h, e, c.Args().Get(1), signals)
		}
		return h.finish(c.App.ErrWriter, err, listen, nil) // revoking the lease resigns; a listener has nothing to resign
	})
}

// observe prints leaders until a signal. A lease is of no use to an observer,
// but etcd's recipe wants one; losing it is no reason to end.
func observe(ctx context.Context, h *hold, e *concurrency.Election, signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	leaders := e.Observe(ctx)
	for {
		select {
		case leader, ok := <-leaders:
			if !ok {
				return errors.New("elect: observer lost")
			}
			if err := h.s.print.get(leader); err != nil {
				return err
			}
		case <-signals:
			return nil
		}
	}
}

// campaign waits to be elected, and leads until a signal.
func campaign(h *hold, e *concurrency.Election, proposal string, signals <-chan os.Signal) error {
	expired := errors.New("elect: session expired")
	err := h.await(signals, expired, func(ctx context.Context) error { return e.Campaign(ctx, proposal) })
	if err != nil {
		return err
	}
	ctx, cancel := h.s.timeout()
	defer cancel()
	resp, err := h.client.Get(ctx, e.Key())
	if err != nil {
		return err
	}
	if err := h.s.print.get(resp); err != nil {
		return err
	}
	select {
	case <-signals:
		return nil
	case <-h.lost():
		return expired
	}
}
