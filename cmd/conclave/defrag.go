package main

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func defragCommand() *cli.Command {
	return &cli.Command{
		Name:  "defrag",
		Usage: "Defragments the storage of the etcd members with given endpoints",
		Description: "Members serve reads and writes meanwhile, one is done after the other. Each needs room on its disk for a second\n" +
			"copy of what is in use of its state file. Members also do this by themselves, see --background-defrag.",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "cluster", Usage: "use all endpoints from the cluster member list"}},
		Action: runDefrag,
	}
}

// runDefrag goes from endpoint to endpoint. Those that fail are named on the
// error stream and make the exit code 1.
func runDefrag(c *cli.Context) error {
	if c.NArg() > 0 {
		return failf(exitBadArgs, "defrag takes no arguments; give --endpoints")
	}
	s, targets, err := newVisit(c)
	if err != nil {
		return err
	}
	failed := false
	for _, ep := range targets {
		start := time.Now()
		err := s.defragment(ep)
		took := time.Since(start)
		if err != nil {
			failed = true
			fmt.Fprintf(c.App.ErrWriter, "Failed to defragment etcd member[%s]. took %s. (%v)\n", ep, took, err)
			continue
		}
		fmt.Fprintf(c.App.Writer, "Finished defragmenting etcd member[%s]. took %s\n", ep, took)
	}
	if failed {
		return errSilent
	}
	return nil
}

func (s *session) defragment(endpoint string) error {
	return s.at(endpoint, func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.Defragment(ctx, endpoint)
		return err
	})
}
