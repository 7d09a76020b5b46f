package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
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
