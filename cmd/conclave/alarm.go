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
			{Name: "list", Usage: "Lists all alarms", Action: runAlarmList},
		},
	}
}

func runAlarmList(c *cli.Context) error {
	if c.NArg() != 0 {
		return failf(exitBadArgs, "alarm list command accepts no arguments")
	}
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		resp, err := client.AlarmList(ctx)
		if err != nil {
			return err
		}
		return s.print.alarm(resp)
	})
}
