package main

import (
	"context"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func alarmCommand() *cli.Command {
	return &cli.Command{
		Name:  "alarm",
		Usage: "Alarm related commands",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "Lists all alarms", Action: alarmAction("list", func(ctx context.Context, client *clientv3.Client) (*clientv3.AlarmResponse, error) {
				return client.AlarmList(ctx)
			})},
			{Name: "disarm", Usage: "Disarms all alarms", Action: alarmAction("disarm", func(ctx context.Context, client *clientv3.Client) (*clientv3.AlarmResponse, error) {
				return client.AlarmDisarm(ctx, &clientv3.AlarmMember{})
			}), Description: "An alarm that a member raised because it was full goes by itself when there is space again;\none that somebody raised stays until it is disarmed. Prints what was disarmed."},
		},
	}
}

// alarmAction is a command without arguments that prints alarms.
func alarmAction(name string, ask func(context.Context, *clientv3.Client) (*clientv3.AlarmResponse, error)) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.NArg() != 0 {
			return failf(exitBadArgs, "alarm %s command accepts no arguments", name)
		}
		return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
			resp, err := ask(ctx, client)
			if err != nil {
				return err
			}
			return s.print.alarm(resp)
		})
	}
}
