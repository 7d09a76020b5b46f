package main

import (
	"fmt"
	"strings"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/conclave-kv/conclave/daemon"
)

func snapshotRestoreCommand() *cli.Command {
	const url = "http://localhost:2380"
	return &cli.Command{
		Name:      "restore",
		Usage:     "Makes the data directory of a new cluster's member from a file",
		ArgsUsage: "<filename>",
		Description: "Run it for every first member of the new cluster, with the same file and --initial-cluster, then start\n" +
			"the members with their data directories. The file is one of `snapshot save`, of etcdctl or of etcd, 3.4 to\n" +
			"3.7, or a state file (DIR/member/snap/db) with --skip-hash-check. Keys with their history, leases, users\n" +
			"and roles are kept; the members are new.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data-dir", Usage: "directory to be made; it may exist if it is empty (default: NAME.conclave)"},
			&cli.StringFlag{Name: "wal-dir", Usage: "directory to be made for the log, if it is not to be in --data-dir; start with the same"},
			&cli.StringFlag{Name: "name", Value: "default", Usage: "name of this member"},
			&cli.StringFlag{Name: "initial-cluster", Usage: "first members of the new cluster, name=url,... (default: NAME=" + url + ")"},
			&cli.StringFlag{Name: "initial-cluster-token", Value: "etcd-cluster", Usage: "text that tells the new cluster from others with the same URLs"},
			&cli.StringFlag{Name: "initial-advertise-peer-urls", Value: url, Usage: "peer URLs of this member, as in --initial-cluster"},
			&cli.BoolFlag{Name: "skip-hash-check", Usage: "accept a file without a checksum or with a wrong one"},
			&cli.Uint64Flag{Name: "bump-revision", Usage: "add this to the newest revision"},
			&cli.BoolFlag{Name: "mark-compacted", Usage: "mark the newest revision as compacted; goes with --bump-revision"},
			&cli.Uint64Flag{Name: "initial-memory-map-size", Usage: "taken as etcdutl takes it; the size is found without"},
		},
		Action: runSnapshotRestore,
	}
}

func runSnapshotRestore(c *cli.Context) error {
	if c.NArg() != 1 {
		return failf(exitBadArgs, "snapshot restore requires exactly one argument")
	}
	if (c.Uint64("bump-revision") > 0) != c.Bool("mark-compacted") {
		return failf(exitBadArgs, "--bump-revision and --mark-compacted go together; give both or none")
	}
	name := c.String("name")
	cfg := daemon.RestoreConfig{
		Snapshot:       c.Args().First(),
		DataDir:        orElse(c.String("data-dir"), name+".conclave"),
		WalDir:         c.String("wal-dir"),
		Name:           name,
		InitialCluster: orElse(c.String("initial-cluster"), name+"=http://localhost:2380"),
		Token:          c.String("initial-cluster-token"),
		PeerURLs:       c.String("initial-advertise-peer-urls"),
		SkipHash:       c.Bool("skip-hash-check"),
		Bump:           c.Uint64("bump-revision"),
		Log:            zerolog.Nop(),
	}
	if strings.ContainsAny(name, `/\`) && !c.IsSet("data-dir") {
		return failf(exitBadArgs, "--name %q cannot name a directory; give --data-dir", name)
	}
	p := newProgress(c.App.ErrWriter, "restoring")
	cfg.Progress = p.at
	r, err := daemon.Restore(cfg)
	p.end()
	if err != nil {
		return err
	}
	if r.Auth {
		fmt.Fprintln(c.App.ErrWriter, "Warning: the snapshot has authentication enabled, which this version keeps and does not enforce: let only those reach the client port who may read everything")
	}
	fmt.Fprintf(c.App.Writer, "Snapshot restored to %s: member %x of cluster %x, revision %d, %d keys\n", cfg.DataDir, r.MemberID, r.ClusterID, r.Revision, r.Keys)
	return nil
}

func orElse(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
