package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func userCommand() *cli.Command {
	interactive := &cli.BoolFlag{Name: "interactive", Value: true, Usage: "ask for the password twice, rather than reading it once from the standard input"}
	return &cli.Command{
		Name:  "user",
		Usage: "User related commands",
		Subcommands: []*cli.Command{
			{Name: "add", Usage: "Adds a new user", ArgsUsage: "<user name or user:password>", Action: runUserAdd,
				Description: "The password is asked for, unless one is given. Other users of the machine can see arguments.",
				Flags: []cli.Flag{
					interactive,
					&cli.StringFlag{Name: "new-user-password", Usage: "the new user's password"},
					&cli.BoolFlag{Name: "no-password", Usage: "make a user without a password, who is known by a certificate"},
				}},
			{Name: "delete", Usage: "Deletes a user", ArgsUsage: "<user name>", Action: runUserDelete},
			{Name: "get", Usage: "Gets detailed information of a user", ArgsUsage: "<user name>", Action: runUserGet,
				Flags: []cli.Flag{&cli.BoolFlag{Name: "detail", Usage: "show the permissions of the user's roles"}}},
			{Name: "list", Usage: "Lists all users", Action: runUserList},
			{Name: "passwd", Usage: "Changes password of user", ArgsUsage: "<user name>", Action: runUserPasswd,
				Flags: []cli.Flag{interactive}},
			{Name: "grant-role", Usage: "Grants a role to a user", ArgsUsage: "<user name> <role name>", Action: runUserGrantRole},
			{Name: "revoke-role", Usage: "Revokes a role from a user", ArgsUsage: "<user name> <role name>", Action: runUserRevokeRole},
		},
	}
}

func runUserAdd(c *cli.Context) error {
	if c.NArg() != 1 {
		return failf(exitBadArgs, "user add command requires user name as its argument")
	}
	name, password, err := newUser(c)
	if err != nil {
		return withCode(exitBadArgs, err)
	}
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		resp, err := client.UserAddWithOptions(ctx, name, password, &clientv3.UserAddOptions{NoPassword: c.Bool("no-password")})
		if err != nil {
			return err
		}
		return s.print.auth((*pb.AuthUserAddResponse)(resp), fmt.Sprintf("User %s created\n", name))
	})
}

// newUser finds the name and the password of a user to add.
func newUser(c *cli.Context) (name, password string, err error) {
	arg := c.Args().First()
	if c.Bool("no-password") {
		return arg, "", nil
	}
	if password = c.String("new-user-password"); password != "" {
		return arg, password, nil
	}
	if name, password, ok := strings.Cut(arg, ":"); ok {
		if name == "" {
			return "", "", errors.New("empty user name is not allowed")
		}
		return name, password, nil
	}
	password, err = newPassword(c, arg)
	return arg, password, err
}

func runUserDelete(c *cli.Context) error {
	if c.NArg() != 1 {
		return failf(exitBadArgs, "user delete command requires user name as its argument")
	}
	name := c.Args().First()
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		resp, err := client.UserDelete(ctx, name)
		if err != nil {
			return err
		}
		return s.print.auth((*pb.AuthUserDeleteResponse)(resp), fmt.Sprintf("User %s deleted\n", name))
	})
}

func runUserGet(c *cli.Context) error {
	if c.NArg() != 1 {
		return failf(exitBadArgs, "user get command requires user name as its argument")
	}
	name := c.Args().First()
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		resp, err := client.UserGet(ctx, name)
		if err != nil {
			return err
		}
		if c.Bool("detail") {
			return printRolesOf(ctx, s, client, name, resp.Roles)
		}
		text := fmt.Sprintf("User: %s\nRoles:%s\n", name, strings.Join(append([]string{""}, resp.Roles...), " "))
		return s.print.auth((*pb.AuthUserGetResponse)(resp), text)
	})
}

// printRolesOf prints each role of a user, as role get does.
func printRolesOf(ctx context.Context, s *session, client *clientv3.Client, name string, roles []string) error {
	out := s.c.App.Writer
	fmt.Fprintf(out, "User: %s\n", name)
	for _, role := range roles {
		fmt.Fprintln(out)
		if err := printRole(ctx, s, client, role); err != nil {
			return err
		}
	}
	return nil
}

func runUserList(c *cli.Context) error {
	if c.NArg() != 0 {
		return failf(exitBadArgs, "user list command requires no arguments")
	}
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		resp, err := client.UserList(ctx)
		if err != nil {
			return err
		}
		return s.print.auth((*pb.AuthUserListResponse)(resp), lines(resp.Users))
	})
}

func runUserPasswd(c *cli.Context) error {
	if c.NArg() != 1 {
		return failf(exitBadArgs, "user passwd command requires user name as its argument")
	}
	name := c.Args().First()
	password, err := newPassword(c, name)
	if err != nil {
		return withCode(exitBadArgs, err)
	}
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		resp, err := client.UserChangePassword(ctx, name, password)
		if err != nil {
			return err
		}
		return s.print.auth((*pb.AuthUserChangePasswordResponse)(resp), "Password updated\n")
	})
}

func runUserGrantRole(c *cli.Context) error {
	if c.NArg() != 2 {
		return failf(exitBadArgs, "user grant command requires user name and role name as its argument")
	}
	name, role := c.Args().Get(0), c.Args().Get(1)
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		resp, err := client.UserGrantRole(ctx, name, role)
		if err != nil {
			return err
		}
		return s.print.auth((*pb.AuthUserGrantRoleResponse)(resp), fmt.Sprintf("Role %s is granted to user %s\n", role, name))
	})
}

func runUserRevokeRole(c *cli.Context) error {
	if c.NArg() != 2 {
		return failf(exitBadArgs, "user revoke-role requires user name and role name as its argument")
	}
	name, role := c.Args().Get(0), c.Args().Get(1)
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		resp, err := client.UserRevokeRole(ctx, name, role)
		if err != nil {
			return err
		}
		return s.print.auth((*pb.AuthUserRevokeRoleResponse)(resp), fmt.Sprintf("Role %s is revoked from user %s\n", role, name))
	})
}

// lines is a line for each text.
func lines(texts []string) string {
	var b strings.Builder
	for _, text := range texts {
		fmt.Fprintln(&b, text)
	}
	return b.String()
}
