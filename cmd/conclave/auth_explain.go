package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclave-kv/conclave/auth"
)

// rights are the roles of a user and what each permits.
type rights map[string][]*authpb.Permission

// rightsOf asks for the roles of a user.
func rightsOf(ctx context.Context, client *clientv3.Client, user string) (rights, error) {
	resp, err := client.UserGet(ctx, user)
	if err != nil {
		return nil, err
	}
	r := rights{}
	for _, name := range resp.Roles {
		role, err := client.RoleGet(ctx, name)
		if err != nil {
			return nil, err
		}
		r[name] = role.Perm
	}
	return r, nil
}

func (r rights) names() []string {
	names := []string{}
	for name := range r {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func explainCommand() *cli.Command {
	return &cli.Command{
		Name: "explain", Usage: "Says whether a user may do something, and by which role", ArgsUsage: "<get|put|del|watch> <key> [endkey]",
		Description: "Exits with 1 if the user may not. The permissions are those of the roles now, whether authentication is on or off.\n" +
			"While it is on, a user may ask about itself and root about all: with a certificate, or with CONCLAVE_USER=root:password.",
		Action: runAuthExplain,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "user", Usage: "the user it is about; name:password asks in that user's name, too"},
			&cli.BoolFlag{Name: "prefix", Usage: "all keys that begin with the key"},
			&cli.BoolFlag{Name: "from-key", Usage: "all keys from the key on, in byte order"},
			&cli.BoolFlag{Name: "prev-kv", Usage: "with the values from before"},
		},
	}
}

// needs are the permissions that an operation needs: to read, to write.
func needs(op string, prevKV bool) (read, write bool, err error) {
	switch op {
	case "get", "watch":
		return true, false, nil
	case "put", "del":
		return prevKV, true, nil
	}
	return false, false, fmt.Errorf("unknown operation %q: explain get, put, del or watch", op)
}

func runAuthExplain(c *cli.Context) error {
	switch {
	case c.String("user") == "":
		return failf(exitBadArgs, "--user is missing: say which user it is about")
	case c.NArg() < 2 || c.NArg() > 3:
		return failf(exitBadArgs, "auth explain command requires get, put, del or watch, and key [endkey] as its arguments")
	}
	op := c.Args().First()
	user, _, itself := strings.Cut(c.String("user"), ":")
	if itself {
		if err := globals(c).Set("user", c.String("user")); err != nil {
			return withCode(exitBadArgs, err)
		}
	}
	read, write, err := needs(op, c.Bool("prev-kv"))
	if err != nil {
		return withCode(exitBadArgs, err)
	}
	key, end, err := permissionRange(c, c.Args().Slice()[1:])
	if err != nil {
		return withCode(exitBadArgs, err)
	}
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		r, err := rightsOf(ctx, client, user)
		if err != nil {
			return err
		}
		text, ok := r.explain(user, key, end, read, write)
		fmt.Fprint(c.App.Writer, text)
		if !ok {
			return errors.New("not allowed")
		}
		return nil
	})
}

// explain says what permits, or that nothing does, for each permission needed.
func (r rights) explain(user, key, end string, read, write bool) (text string, allowed bool) {
	var b strings.Builder
	allowed = true
	for _, need := range []struct {
		needed, write bool
		verb          string
	}{{read, false, "read"}, {write, true, "write"}} {
		if !need.needed {
			continue
		}
		what := permissionText(key, end)
		reasons := auth.Explain(r, need.write, []byte(key), []byte(end))
		if reasons == nil {
			allowed = false
			fmt.Fprintf(&b, "denied: user %s may not %s %s by its roles (%s)\n", user, need.verb, what, strings.Join(r.names(), ", "))
			continue
		}
		fmt.Fprintf(&b, "allowed: user %s may %s %s\n", user, need.verb, what)
		for _, reason := range reasons {
			p := reason.Permission
			fmt.Fprintf(&b, "\tby role %s: %s %s\n", reason.Role, strings.ToLower(p.GetPermType().String()), permissionText(string(p.GetKey()), string(p.GetRangeEnd())))
		}
	}
	return b.String(), allowed
}

// dryRunEnable says what enabling authentication would take from whom.
func dryRunEnable(ctx context.Context, client *clientv3.Client) (string, error) {
	status, err := client.AuthStatus(ctx)
	if err != nil {
		return "", err
	}
	if status.Enabled {
		return "Authentication is enabled already\n", nil
	}
	users, err := client.UserList(ctx)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if !slices.Contains(users.Users, "root") {
		b.WriteString("would be refused: there is no user root (conclave user add root)\n")
	}
	b.WriteString("clients without a user, or with a certificate in no user's name: lose everything\n")
	for _, name := range users.Users {
		r, err := rightsOf(ctx, client, name)
		if err != nil {
			return "", err
		}
		b.WriteString(r.remaining(name))
	}
	return b.String(), nil
}

// remaining says what a user keeps when only permissions count.
func (r rights) remaining(user string) string {
	_, isRoot := r["root"]
	if isRoot || user == "root" { // who is given the role when authentication is enabled
		return fmt.Sprintf("user %s: loses nothing (role root)\n", user)
	}
	var b strings.Builder
	for _, role := range r.names() {
		for _, p := range r[role] {
			fmt.Fprintf(&b, "\t%s %s (role %s)\n", strings.ToLower(p.GetPermType().String()), permissionText(string(p.GetKey()), string(p.GetRangeEnd())), role)
		}
	}
	if b.Len() == 0 {
		return fmt.Sprintf("user %s: loses everything (no permission)\n", user)
	}
	return fmt.Sprintf("user %s: loses everything but\n%s", user, b.String())
}

// dryRunGrant says which users a permission of a role would let do more.
func dryRunGrant(ctx context.Context, client *clientv3.Client, role, key, end string, typ clientv3.PermissionType) (string, error) {
	if _, err := client.RoleGet(ctx, role); err != nil {
		return "", err
	}
	users, err := client.UserList(ctx)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, name := range users.Users {
		r, err := rightsOf(ctx, client, name)
		if errors.Is(err, rpctypes.ErrUserNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return "", err
		}
		if _, has := r[role]; !has {
			continue
		}
		fmt.Fprintf(&b, "user %s: %s\n", name, r.gain(key, end, typ))
	}
	if b.Len() == 0 {
		return fmt.Sprintf("nobody has the role %s: nobody could do more\n", role), nil
	}
	return b.String(), nil
}

// gain says what a permission would add.
func (r rights) gain(key, end string, typ clientv3.PermissionType) string {
	var verbs []string
	if authpb.Permission_Type(typ) != authpb.WRITE && auth.Explain(r, false, []byte(key), []byte(end)) == nil {
		verbs = append(verbs, "read")
	}
	if authpb.Permission_Type(typ) != authpb.READ && auth.Explain(r, true, []byte(key), []byte(end)) == nil {
		verbs = append(verbs, "write")
	}
	if len(verbs) == 0 {
		return "could do no more than now"
	}
	return fmt.Sprintf("could %s all of %s", strings.Join(verbs, " and "), permissionText(key, end))
}
