package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func memberCommand() *cli.Command {
	return &cli.Command{
		Name:  "member",
		Usage: "Membership related commands",
		Subcommands: []*cli.Command{
			{
				Name:      "add",
				Usage:     "Adds a member into the cluster",
				ArgsUsage: "<memberName>",
				Description: "Then start it: the lines printed with --write-out simple are its settings, as variables or flags.\n" +
					"It votes as soon as it runs and has caught up; until then the cluster is as safe as before.\n" +
					"With --learner it never votes before conclave member promote.",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "peer-urls", Usage: "comma separated peer URLs for the new member"},
					&cli.BoolFlag{Name: "learner", Usage: "indicates if the new member is raft learner"},
				},
				Action: runMemberAdd,
			},
			{
				Name:      "remove",
				Usage:     "Removes a member from the cluster",
				ArgsUsage: "<memberID>",
				Action:    runMemberRemove,
			},
			{
				Name:      "update",
				Usage:     "Updates a member in the cluster",
				ArgsUsage: "<memberID>",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "peer-urls", Usage: "comma separated peer URLs for the updated member"},
				},
				Action: runMemberUpdate,
			},
			{
				Name:        "list",
				Usage:       "Lists all members in the cluster",
				Description: "With --write-out simple, each line is: ID, Status, Name, Peer Addrs, Client Addrs, Is Learner.",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "consistency", Value: "l", Usage: "Linearizable(l) or Serializable(s)"},
				},
				Action: runMemberList,
			},
			{
				Name:      "promote",
				Usage:     "Promotes a non-voting member in the cluster",
				ArgsUsage: "<memberID>",
				Action:    runMemberPromote,
			},
		},
	}
}

func runMemberAdd(c *cli.Context) error {
	switch {
	case c.NArg() < 1:
		return failf(exitBadArgs, "member name not provided")
	case c.NArg() > 1:
		text := "too many arguments"
		for _, s := range c.Args().Slice() {
			if strings.HasPrefix(strings.ToLower(s), "http") {
				text += ", did you mean --peer-urls=" + s
			}
		}
		return withCode(exitBadArgs, errors.New(text))
	}
	name, list := c.Args().First(), c.String("peer-urls")
	if list == "" {
		return errNoPeerURLs
	}
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		add := client.MemberAdd
		if c.Bool("learner") {
			add = client.MemberAddAsLearner
		}
		resp, err := add(ctx, strings.Split(list, ","))
		if err != nil {
			return err
		}
		if err := s.print.memberAdd(resp); err != nil {
			return err
		}
		if _, simple := s.print.(*simplePrinter); simple {
			_, err = fmt.Fprintf(c.App.Writer, "\nETCD_NAME=%q\nETCD_INITIAL_CLUSTER=%q\nETCD_INITIAL_ADVERTISE_PEER_URLS=%q\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
				name, initialCluster(resp.Members, resp.Member.GetID(), name), list)
		}
		return err
	})
}

// initialCluster writes the members as a value for --initial-cluster, with the
// name of the one that was just added.
func initialCluster(members []*pb.Member, added uint64, name string) string {
	var pairs []string
	for _, m := range members {
		n := m.GetName()
		if m.GetID() == added {
			n = name
		}
		for _, u := range m.GetPeerURLs() {
			pairs = append(pairs, n+"="+u)
		}
	}
	return strings.Join(pairs, ",")
}

var errNoPeerURLs = withCode(exitBadArgs, errors.New("member peer urls not provided"))

// memberArg reads the one argument of a command about a member.
func memberArg(c *cli.Context) (uint64, error) {
	if c.NArg() != 1 {
		return 0, failf(exitBadArgs, "member ID is not provided")
	}
	id, err := strconv.ParseUint(c.Args().First(), 16, 64)
	if err != nil {
		return 0, failf(exitBadArgs, "bad member ID arg (%w), expecting ID in Hex", err)
	}
	return id, nil
}

func runMemberRemove(c *cli.Context) error {
	id, err := memberArg(c)
	if err != nil {
		return err
	}
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		resp, err := client.MemberRemove(ctx, id)
		if err != nil {
			return err
		}
		return s.print.memberRemove(id, resp)
	})
}

func runMemberUpdate(c *cli.Context) error {
	id, err := memberArg(c)
	if err != nil {
		return err
	}
	list := c.String("peer-urls")
	if list == "" {
		return errNoPeerURLs
	}
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		resp, err := client.MemberUpdate(ctx, id, strings.Split(list, ","))
		if err != nil {
			return err
		}
		return s.print.memberUpdate(id, resp)
	})
}

func runMemberPromote(c *cli.Context) error {
	id, err := memberArg(c)
	if err != nil {
		return err
	}
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		resp, err := client.MemberPromote(ctx, id)
		if err != nil {
			return err
		}
		return s.print.memberPromote(id, resp)
	})
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
