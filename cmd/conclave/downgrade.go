package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func downgradeCommand() *cli.Command {
	return &cli.Command{
		Name:        "downgrade",
		Usage:       "Downgrade related commands",
		Description: "A downgrade is noted, and shown by endpoint status; it changes nothing else.",
		Subcommands: []*cli.Command{
			{Name: "validate", Usage: "Validate downgrade capability before starting downgrade", ArgsUsage: "<TARGET_VERSION>", Action: downgradeAction("validate", clientv3.DowngradeValidate, true)},
			{Name: "enable", Usage: "Start a downgrade action to cluster", ArgsUsage: "<TARGET_VERSION>", Action: downgradeAction("enable", clientv3.DowngradeEnable, true)},
			{Name: "cancel", Usage: "Cancel the ongoing downgrade action to cluster", Action: downgradeAction("cancel", clientv3.DowngradeCancel, false)},
		},
	}
}

func downgradeAction(name string, action clientv3.DowngradeAction, target bool) cli.ActionFunc {
	return func(c *cli.Context) error {
		switch n := c.NArg(); {
		case target && n < 1:
			return failf(exitBadArgs, "TARGET_VERSION not provided")
		case target && n > 1:
			return failf(exitBadArgs, "too many arguments")
		case target && c.Args().First() == "":
			return failf(exitBadArgs, "target version not provided")
		case !target && n > 0:
			return failf(exitBadArgs, "downgrade %s command accepts no arguments", name)
		}
		return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
			resp, err := client.Downgrade(ctx, action, c.Args().First())
			if err != nil {
				return err
			}
			return s.print.downgrade(name, resp)
		})
	}
}

func (u unsupported) downgrade(string, *clientv3.DowngradeResponse) error { return u.refuse() }

func (p *simplePrinter) downgrade(action string, r *clientv3.DowngradeResponse) error {
	_, err := fmt.Fprintf(p.out, "Downgrade %s success, cluster version %s\n", action, (*pb.DowngradeResponse)(r).GetVersion())
	return err
}

func (p *jsonPrinter) downgrade(_ string, r *clientv3.DowngradeResponse) error {
	return p.write((*pb.DowngradeResponse)(r))
}

func (p *protobufPrinter) downgrade(_ string, r *clientv3.DowngradeResponse) error {
	return p.write((*pb.DowngradeResponse)(r))
}
