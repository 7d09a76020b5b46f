package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func leaseCommand() *cli.Command {
	return &cli.Command{
		Name:  "lease",
		Usage: "Lease related commands",
		Subcommands: []*cli.Command{
			{Name: "grant", Usage: "Creates leases", ArgsUsage: "<ttl>", Action: runLeaseGrant,
				Description: "The time to live is in seconds. A server raises one that is shorter than an election takes."},
			{Name: "revoke", Usage: "Revokes leases", ArgsUsage: "<leaseID>", Action: runLeaseRevoke,
				Description: "The keys that are attached to the lease are deleted."},
			{Name: "timetolive", Usage: "Get lease information", ArgsUsage: "<leaseID>", Action: runLeaseTimeToLive,
				Flags: []cli.Flag{&cli.BoolFlag{Name: "keys", Usage: "Get keys attached to this lease"}}},
			{Name: "list", Usage: "List all active leases", Action: runLeaseList},
			{Name: "keep-alive", Usage: "Keeps leases alive (renew)", ArgsUsage: "<leaseID>", Action: runLeaseKeepAlive,
				Flags: []cli.Flag{&cli.BoolFlag{Name: "once", Usage: "Resets the keep-alive time to its original value and exits immediately"}}},
		},
	}
}

// leaseArg reads the only argument of a command as a lease id.
func leaseArg(c *cli.Context, usage string) (clientv3.LeaseID, error) {
	if c.NArg() != 1 {
		return 0, failf(exitBadArgs, "%s", usage)
	}
	id, err := strconv.ParseInt(c.Args().First(), 16, 64)
	if err != nil {
		return 0, failf(exitBadArgs, "bad lease ID arg (%w), expecting ID in Hex", err)
	}
	return clientv3.LeaseID(id), nil
}

func runLeaseGrant(c *cli.Context) error {
	if c.NArg() != 1 {
		return failf(exitBadArgs, "lease grant command needs TTL argument")
	}
	ttl, err := strconv.ParseInt(c.Args().First(), 10, 64)
	if err != nil {
		return failf(exitBadArgs, "bad TTL (%w)", err)
	}
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		resp, err := client.Grant(ctx, ttl)
		if err != nil {
			return fmt.Errorf("failed to grant lease (%w)", err)
		}
		return s.print.leaseGrant(resp)
	})
}

func runLeaseRevoke(c *cli.Context) error {
	id, err := leaseArg(c, "lease revoke command needs 1 argument")
	if err != nil {
		return err
	}
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		resp, err := client.Revoke(ctx, id)
		if err != nil {
			return fmt.Errorf("failed to revoke lease (%w)", err)
		}
		return s.print.leaseRevoke(id, resp)
	})
}

func runLeaseTimeToLive(c *cli.Context) error {
	id, err := leaseArg(c, "lease timetolive command needs lease ID as argument")
	if err != nil {
		return err
	}
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		var opts []clientv3.LeaseOption
		if c.Bool("keys") {
			opts = append(opts, clientv3.WithAttachedKeys())
		}
		resp, err := client.TimeToLive(ctx, id, opts...)
		if err != nil {
			return withCode(exitBadConnection, err)
		}
		return s.print.leaseTimeToLive(resp, c.Bool("keys"))
	})
}

func runLeaseList(c *cli.Context) error {
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		resp, err := client.Leases(ctx)
		if err != nil {
			return withCode(exitBadConnection, err)
		}
		return s.print.leases(resp)
	})
}

func runLeaseKeepAlive(c *cli.Context) error {
	id, err := leaseArg(c, "lease keep-alive command needs lease ID as argument")
	if err != nil {
		return err
	}
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		if !c.Bool("once") {
			return keepPrinting(c.Context, s, client, id)
		}
		resp, err := client.KeepAliveOnce(ctx, id)
		if err != nil {
			return withCode(exitBadConnection, err)
		}
		return s.print.leaseKeepAlive(resp)
	})
}

// keepPrinting renews a lease and prints each answer, until the lease is gone.
func keepPrinting(ctx context.Context, s *session, client *clientv3.Client, id clientv3.LeaseID) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers, err := client.KeepAlive(ctx, id)
	if err != nil {
		return withCode(exitBadConnection, err)
	}
	for resp := range answers {
		if err := s.print.leaseKeepAlive(resp); err != nil {
			return err
		}
	}
	if simple, ok := s.print.(*simplePrinter); ok {
		fmt.Fprintf(simple.out, "lease %016x expired or revoked.\n", id)
	}
	return nil
}
