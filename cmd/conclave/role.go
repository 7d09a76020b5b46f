package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func roleCommand() *cli.Command {
	ranges := []cli.Flag{
		&cli.BoolFlag{Name: "prefix", Usage: "the permission is on all keys that begin with the key"},
		&cli.BoolFlag{Name: "from-key", Usage: "the permission is on all keys from the key on, in byte order"},
	}
	return &cli.Command{
		Name:  "role",
		Usage: "Role related commands",
		Subcommands: []*cli.Command{
			{Name: "add", Usage: "Adds a new role", ArgsUsage: "<role name>", Action: runRoleAdd},
			{Name: "delete", Usage: "Deletes a role", ArgsUsage: "<role name>", Action: runRoleDelete},
			{Name: "get", Usage: "Gets detailed information of a role", ArgsUsage: "<role name>", Action: runRoleGet},
			{Name: "list", Usage: "Lists all roles", Action: runRoleList},
			{Name: "grant-permission", Usage: "Grants a key to a role", ArgsUsage: "<role name> <permission type> <key> [endkey]",
				Action: runRoleGrant, Description: "The permission type is read, write or readwrite.",
				Flags: append([]cli.Flag{&cli.BoolFlag{Name: "dry-run", Usage: "only say which users could do more"}}, ranges...)},
			{Name: "revoke-permission", Usage: "Revokes a key from a role", ArgsUsage: "<role name> <key> [endkey]",
				Action: runRoleRevoke, Flags: ranges},
		},
	}
}

func runRoleAdd(c *cli.Context) error {
	if c.NArg() != 1 {
		return failf(exitBadArgs, "role add command requires role name as its argument")
	}
	role := c.Args().First()
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		resp, err := client.RoleAdd(ctx, role)
		if err != nil {
			return err
		}
		return s.print.auth((*pb.AuthRoleAddResponse)(resp), fmt.Sprintf("Role %s created\n", role))
	})
}

func runRoleDelete(c *cli.Context) error {
	if c.NArg() != 1 {
		return failf(exitBadArgs, "role delete command requires role name as its argument")
	}
	role := c.Args().First()
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		resp, err := client.RoleDelete(ctx, role)
		if err != nil {
			return err
		}
		return s.print.auth((*pb.AuthRoleDeleteResponse)(resp), fmt.Sprintf("Role %s deleted\n", role))
	})
}

func runRoleGet(c *cli.Context) error {
	if c.NArg() != 1 {
		return failf(exitBadArgs, "role get command requires role name as its argument")
	}
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		return printRole(ctx, s, client, c.Args().First())
	})
}

func printRole(ctx context.Context, s *session, client *clientv3.Client, role string) error {
	resp, err := client.RoleGet(ctx, role)
	if err != nil {
		return err
	}
	return s.print.auth((*pb.AuthRoleGetResponse)(resp), roleText(role, resp.Perm))
}

func runRoleList(c *cli.Context) error {
	if c.NArg() != 0 {
		return failf(exitBadArgs, "role list command requires no arguments")
	}
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		resp, err := client.RoleList(ctx)
		if err != nil {
			return err
		}
		return s.print.auth((*pb.AuthRoleListResponse)(resp), lines(resp.Roles))
	})
}

func runRoleGrant(c *cli.Context) error {
	if c.NArg() < 3 {
		return failf(exitBadArgs, "role grant command requires role name, permission type, and key [endkey] as its argument")
	}
	perm, err := clientv3.StrToPermissionType(c.Args().Get(1))
	if err != nil {
		return withCode(exitBadArgs, err)
	}
	key, end, err := permissionRange(c, c.Args().Slice()[2:])
	if err != nil {
		return withCode(exitBadArgs, err)
	}
	role := c.Args().First()
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		if c.Bool("dry-run") {
			text, err := dryRunGrant(ctx, client, role, key, end, perm)
			fmt.Fprint(c.App.Writer, text)
			return err
		}
		resp, err := client.RoleGrantPermission(ctx, role, key, end, perm)
		if err != nil {
			return err
		}
		return s.print.auth((*pb.AuthRoleGrantPermissionResponse)(resp), fmt.Sprintf("Role %s updated\n", role))
	})
}

func runRoleRevoke(c *cli.Context) error {
	if c.NArg() < 2 {
		return failf(exitBadArgs, "role revoke-permission command requires role name and key [endkey] as its argument")
	}
	key, end, err := permissionRange(c, c.Args().Slice()[1:])
	if err != nil {
		return withCode(exitBadArgs, err)
	}
	role, given := c.Args().Get(0), c.Args().Get(1)
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		resp, err := client.RoleRevokePermission(ctx, role, key, end)
		if err != nil {
			return err
		}
		what := "key " + given
		if end != "" {
			what = "range " + rangeText(given, end)
		}
		return s.print.auth((*pb.AuthRoleRevokePermissionResponse)(resp), fmt.Sprintf("Permission of %s is revoked from role %s\n", what, role))
	})
}

// openEnd is the end of a range that has none.
const openEnd = "\x00"

// permissionRange reads KEY [ENDKEY] with --prefix and --from-key. An empty key
// stands for the first there is, since a permission on none is refused.
func permissionRange(c *cli.Context, args []string) (key, end string, err error) {
	prefix, fromKey := c.Bool("prefix"), c.Bool("from-key")
	switch {
	case prefix && fromKey && len(args) == 1:
		return "", "", errors.New("--from-key and --prefix flags are mutually exclusive")
	case args[0] == "" && (prefix || fromKey):
		return "\x00", openEnd, nil
	case args[0] == "":
		return "\x00", "", nil
	case len(args) > 1 && prefix:
		return "", "", errors.New("unexpected endkey argument with --prefix flag")
	case len(args) > 1 && fromKey:
		return "", "", errors.New("unexpected endkey argument with --from-key flag")
	case len(args) > 1:
		return args[0], args[1], nil
	case prefix:
		return args[0], clientv3.GetPrefixRangeEnd(args[0]), nil
	case fromKey:
		return args[0], openEnd, nil
	}
	return args[0], "", nil
}

// rangeText writes a range as etcdctl does.
func rangeText(key, end string) string {
	if end == openEnd {
		return "[" + key + ", <open ended>"
	}
	return "[" + key + ", " + end + ")"
}

// permissionText writes what a permission is on.
func permissionText(key, end string) string {
	if end == "" {
		return key
	}
	text := rangeText(key, end)
	if key != "" && clientv3.GetPrefixRangeEnd(key) == end {
		text += " (prefix " + key + ")"
	}
	return text
}

// roleText writes a role in the default format. The role root needs no permissions
// and may do everything.
func roleText(role string, perms []*authpb.Permission) string {
	if role == "root" && perms == nil {
		perms = []*authpb.Permission{{PermType: authpb.READWRITE, RangeEnd: []byte(openEnd)}}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Role %s\n", role)
	for _, part := range []struct {
		title string
		typ   authpb.Permission_Type
	}{{"KV Read:", authpb.READ}, {"KV Write:", authpb.WRITE}} {
		fmt.Fprintln(&b, part.title)
		for _, p := range perms {
			if t := p.GetPermType(); t == part.typ || t == authpb.READWRITE {
				fmt.Fprintf(&b, "\t%s\n", permissionText(string(p.GetKey()), string(p.GetRangeEnd())))
			}
		}
	}
	return b.String()
}
