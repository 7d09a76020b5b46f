package main

import (
	"context"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const registerDescription = `Puts the key under a lease and keeps it there while the command runs, or without
a command until SIGINT or SIGTERM. Then the key is removed. If this process or
its machine dies, the key goes by itself after --ttl.

The command starts once the key is there. It gets the signals that conclave gets,
and conclave exits with its exit code. Flags of the command follow --, a value
that begins with '-' too: register -- KEY -1.

If the lease is lost, as when the cluster was away for longer than --ttl, the key
is registered again as soon as that is possible, with a line on standard error;
the command goes on. So it is if somebody deletes the key, or takes it over, and
then when it is free again.

A key that is there already belongs to somebody else: that is an error. With
--replace it is taken over; give it to a service that is restarted at once after
a crash, when its last registration may still be there.`

func registerCommand() *cli.Command {
	return &cli.Command{
		Name:        "register",
		Usage:       "Keeps a key under a lease while a command runs",
		ArgsUsage:   "<key> <value> [exec-command arg1 arg2 ...]",
		Description: registerDescription,
		Flags: []cli.Flag{
			ttlFlag("time after which the key of a process that is gone goes"),
			&cli.BoolFlag{Name: "replace", Usage: "take the key over if it is there already"},
		},
		Action: runRegister,
	}
}

func runRegister(c *cli.Context) error {
	if c.NArg() < 2 {
		return failf(exitBadArgs, "register command needs a key, a value, and an optional command to execute")
	}
	ttl, err := ttlSeconds(c)
	if err != nil {
		return err
	}
	return withSignals(c, func(s *session, client *clientv3.Client, catch func() <-chan os.Signal) error {
		r := &registration{
			s: s, client: client, errOut: c.App.ErrWriter,
			key: c.Args().Get(0), value: c.Args().Get(1), ttl: ttl, replace: c.Bool("replace"),
		}
		if err := r.register(c.Context); err != nil {
			return err
		}
		signals := catch()
		if c.NArg() == 2 {
			fmt.Fprintf(c.App.Writer, "%s registered under lease %016x with TTL(%ds)\n", r.key, r.hold.session.Lease(), r.hold.ttl)
			return r.during(c.Context, false, func() error { <-signals; return nil })
		}
		return r.during(c.Context, true, func() error { return runChild(c, c.Args().Slice()[2:], signals, nil) })
	})
}

// during renews the registration while do runs, which is a command's work or not,
// and removes it then. The error is do's, if there is one.
func (r *registration) during(ctx context.Context, commands bool, do func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.keep(ctx)
	}()
	err := do()
	cancel()
	<-done
	return r.hold.finish(r.errOut, err, commands, nil) // the key is gone with its lease, however that ended
}

// describeHolder says under which lease a key is.
func describeHolder(lease int64) string {
	if lease == int64(clientv3.NoLease) {
		return "without a lease"
	}
	return fmt.Sprintf("under lease %016x", lease)
}
