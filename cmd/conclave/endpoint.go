package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func endpointCommand() *cli.Command {
	cluster := &cli.BoolFlag{Name: "cluster", Usage: "use all endpoints from the cluster member list"}
	return &cli.Command{
		Name:  "endpoint",
		Usage: "Endpoint related commands",
		Subcommands: []*cli.Command{
			{
				Name:   "health",
				Usage:  "Checks the healthiness of endpoints specified in `--endpoints` flag",
				Flags:  []cli.Flag{cluster},
				Action: runEndpointHealth,
			},
			{
				Name:  "status",
				Usage: "Prints out the status of endpoints specified in `--endpoints` flag",
				Description: "With --write-out simple, each line is: endpoint, ID, version, storage version, db size, in use,\n" +
					"percentage not in use, quota, is leader, is learner, raft term, raft index, raft applied index,\n" +
					"errors, downgrade target version, downgrade enabled.",
				Flags:  []cli.Flag{cluster},
				Action: runEndpointStatus,
			},
			{
				Name:        "hashkv",
				Usage:       "Prints the KV history hash for each endpoint in --endpoints",
				Description: "With --write-out simple, each line is: endpoint, hash, hash revision.",
				Flags:       []cli.Flag{cluster, &cli.Int64Flag{Name: "rev", Usage: "maximum revision to hash (default: latest revision)"}},
				Action:      runEndpointHashKV,
			},
		},
	}
}

// targets returns the endpoints to visit: the session's, or with --cluster the
// client URLs of all members.
func (s *session) targets() ([]string, error) {
	if !s.c.Bool("cluster") {
		return s.endpoints, nil
	}
	client, err := s.connect()
	if err != nil {
		return nil, err
	}
	defer client.Close() //nolint:errcheck // nothing more is asked of it
	ctx, cancel := s.timeout()
	defer cancel()
	members, err := client.MemberList(ctx)
	if err != nil {
		return nil, fmt.Errorf("failed to fetch endpoints from etcd cluster member list: %w", err)
	}
	var out []string
	for _, m := range members.Members {
		out = append(out, m.ClientURLs...)
	}
	return out, nil
}

// newVisit is a session with the endpoints to visit.
func newVisit(c *cli.Context) (s *session, targets []string, err error) {
	if s, err = newSession(c); err != nil {
		return nil, nil, err
	}
	targets, err = s.targets()
	return s, targets, err
}

// at calls do with a client of one endpoint, and with a context that ends after
// --command-timeout.
func (s *session) at(endpoint string, do func(context.Context, *clientv3.Client) error) error {
	client, err := s.connectTo([]string{endpoint})
	if err != nil {
		return err
	}
	defer client.Close() //nolint:errcheck // nothing more is asked of it
	ctx, cancel := s.timeout()
	defer cancel()
	return do(ctx, client)
}

// askEach asks endpoints one after the other, and gives take their answers. Those
// that have none are named on the error stream with what was asked for; the error
// is the last one's.
func askEach[T any](s *session, targets []string, what string, ask func(context.Context, *clientv3.Client, string) (T, error), take func(endpoint string, answer T)) (failed error) {
	for _, ep := range targets {
		err := s.at(ep, func(ctx context.Context, client *clientv3.Client) error {
			answer, err := ask(ctx, client, ep)
			if err == nil {
				take(ep, answer)
			}
			return err
		})
		if err != nil {
			failed = err
			fmt.Fprintf(s.c.App.ErrWriter, "Failed to get the %s of endpoint %s (%v)\n", what, ep, err)
		}
	}
	return failed
}
