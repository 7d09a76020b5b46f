package main

import (
	"context"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func memberCommand() *cli.Command {
	return &cli.Command{
		Name:  "member",
		Usage: "Membership related commands",
		Subcommands: []*cli.Command{{
			Name:        "list",
			Usage:       "Lists all members in the cluster",
			Description: "With --write-out simple, each line is: ID, Status, Name, Peer Addrs, Client Addrs, Is Learner.",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "consistency", Value: "l", Usage: "Linearizable(l) or Serializable(s)"},
			},
			Action: runMemberList,
		}},
	}
}

func runMemberList(c *cli.Context) error {
	serializable, err := isSerializable(c)
	if err != nil {
		return err
	}
	var opts []clientv3.OpOption
	if serializable {
		opts = append(opts, clientv3.WithSerializable())
	}
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		resp, err := client.MemberList(ctx, opts...)
		if err != nil {
			return err
		}
		return s.print.memberList(resp)
	})
}
