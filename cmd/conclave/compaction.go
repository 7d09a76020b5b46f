package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func compactionCommand() *cli.Command {
	return &cli.Command{
		Name:      "compaction",
		Aliases:   []string{"compact"},
		Usage:     "Compacts the event history",
		ArgsUsage: "<revision>",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "physical", Usage: "'true' to wait for compaction to physically remove all old revisions"},
		},
		Action: runCompaction,
	}
}

func runCompaction(c *cli.Context) error {
	if c.NArg() != 1 {
		return failf(exitBadArgs, "compaction command needs 1 argument")
	}
	rev, err := strconv.ParseInt(c.Args().First(), 10, 64)
	if err != nil {
		return fmt.Errorf("revision %q: write a whole number, such as 42", c.Args().First())
	}
	var opts []clientv3.CompactOption
	if c.Bool("physical") {
		opts = append(opts, clientv3.WithCompactPhysical())
	}
	return withClient(c, func(ctx context.Context, _ *session, client *clientv3.Client) error {
		if _, err := client.Compact(ctx, rev, opts...); err != nil {
			return err
		}
		_, err := fmt.Fprintln(c.App.Writer, "compacted revision", rev)
		return err
	})
}
