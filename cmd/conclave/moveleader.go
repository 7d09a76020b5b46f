package main

import (
	"context"
	"strconv"

	"github.com/urfave/cli/v2"
)

func moveLeaderCommand() *cli.Command {
	return &cli.Command{
		Name:        "move-leader",
		Usage:       "Transfers leadership to another etcd cluster member",
		ArgsUsage:   "<transferee-member-id>",
		Description: "The present leader must be among --endpoints: only it can hand leadership over.",
		Action:      runMoveLeader,
	}
}

func runMoveLeader(c *cli.Context) error {
	if c.NArg() != 1 {
		return failf(exitBadArgs, "move-leader command needs 1 argument")
	}
	target, err := strconv.ParseUint(c.Args().First(), 16, 64)
	if err != nil {
		return failf(exitBadArgs, "member ID %q: write it in hexadecimal, as conclave member list shows it", c.Args().First())
	}
	s, err := newSession(c)
	if err != nil {
		return err
	}
	ctx, cancel := s.timeout()
	defer cancel()
	for _, ep := range s.endpoints {
		moved, err := s.moveLeaderFrom(ctx, ep, target)
		if err != nil || moved {
			return err
		}
	}
	return failf(exitBadArgs, "no leader endpoint given at %v", s.endpoints)
}

// moveLeaderFrom has the member at an endpoint hand over leadership, if it leads.
func (s *session) moveLeaderFrom(ctx context.Context, endpoint string, target uint64) (moved bool, err error) {
	client, err := s.connectTo([]string{endpoint})
	if err != nil {
		return false, err
	}
	defer client.Close() //nolint:errcheck // nothing more is asked of it
	status, err := client.Status(ctx, endpoint)
	if err != nil || status.Header.GetMemberId() != status.Leader {
		return false, err
	}
	resp, err := client.MoveLeader(ctx, target)
	if err != nil {
		return false, err
	}
	return true, s.print.moveLeader(status.Leader, target, resp)
}
