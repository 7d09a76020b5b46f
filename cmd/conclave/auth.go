package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func authCommand() *cli.Command {
	return &cli.Command{
		Name:  "auth",
		Usage: "Enable or disable authentication",
		Subcommands: []*cli.Command{
			{Name: "enable", Usage: "Enables authentication", Action: runAuthEnable,
				Description: "A user root must exist. The role root is made, and granted to it, if need be.",
				Flags:       []cli.Flag{&cli.BoolFlag{Name: "dry-run", Usage: "only say who would lose what"}}},
			{Name: "disable", Usage: "Disables authentication", Action: runAuthDisable},
			{Name: "status", Usage: "Returns authentication status", Action: runAuthStatus},
			explainCommand(),
		},
	}
}

func runAuthEnable(c *cli.Context) error {
	if c.NArg() != 0 {
		return failf(exitBadArgs, "auth enable command does not accept any arguments")
	}
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		if c.Bool("dry-run") {
			text, err := dryRunEnable(ctx, client)
			fmt.Fprint(c.App.Writer, text)
			return err
		}
		_, err := client.AuthEnable(ctx)
		if errors.Is(err, rpctypes.ErrRootRoleNotExist) {
			if err = makeRoot(ctx, client); err == nil {
				_, err = client.AuthEnable(ctx)
			}
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.App.Writer, "Authentication Enabled")
		return err
	})
}

// makeRoot gives the user root the role root, which may exist.
func makeRoot(ctx context.Context, client *clientv3.Client) error {
	if _, err := client.RoleAdd(ctx, "root"); err != nil && !errors.Is(err, rpctypes.ErrRoleAlreadyExist) {
		return err
	}
	_, err := client.UserGrantRole(ctx, "root", "root")
	return err
}

func runAuthDisable(c *cli.Context) error {
	if c.NArg() != 0 {
		return failf(exitBadArgs, "auth disable command does not accept any arguments")
	}
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		if _, err := client.AuthDisable(ctx); err != nil {
			return err
		}
		_, err := fmt.Fprintln(c.App.Writer, "Authentication Disabled")
		return err
	})
}

func runAuthStatus(c *cli.Context) error {
	if c.NArg() != 0 {
		return failf(exitBadArgs, "auth status command does not accept any arguments")
	}
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		resp, err := client.AuthStatus(ctx)
		if err != nil {
			return err
		}
		text := fmt.Sprintf("Authentication Status: %v\nAuthRevision: %d\n", resp.Enabled, resp.AuthRevision)
		return s.print.auth((*pb.AuthStatusResponse)(resp), text)
	})
}
