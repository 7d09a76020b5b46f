package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/conclave-kv/conclave/member"
)

func snapshotCommand() *cli.Command {
	return &cli.Command{
		Name:  "snapshot",
		Usage: "Saves, checks and restores the state of a cluster",
		Subcommands: []*cli.Command{
			{
				Name:      "save",
				Usage:     "Stores the state of a member in a file",
				ArgsUsage: "<filename>",
				Description: "Asks exactly one endpoint. The file is whole and checked when it has its name; until then it is\n" +
					"FILE.part. It has everything that was acknowledged before, and can be restored by etcdutl as well.",
				Action: runSnapshotSave,
			},
			{
				Name:        "status",
				Usage:       "Checks a file and tells what is in it",
				ArgsUsage:   "<filename>",
				Description: "Prints hash, revision, number of keys, size, and the version of the storage.",
				Action:      runSnapshotStatus,
			},
			snapshotRestoreCommand(),
		},
	}
}

// snapshotStatus is a member.SnapshotStatus in the form of etcdutl's JSON.
type snapshotStatus struct {
	Hash      uint32 `json:"hash"`
	Revision  int64  `json:"revision"`
	TotalKey  int    `json:"totalKey"`
	TotalSize int64  `json:"totalSize"`
	Version   string `json:"version"`
}

func runSnapshotStatus(c *cli.Context) error {
	if c.NArg() != 1 {
		return failf(exitBadArgs, "snapshot status requires exactly one argument")
	}
	s, err := newSession(c)
	if err != nil {
		return err
	}
	found, err := member.InspectSnapshot(c.Args().First())
	if err != nil {
		return err
	}
	return s.print.snapshotStatus(snapshotStatus{found.Hash, found.Revision, found.Keys, found.Size, found.Version})
}

var snapshotHeader = []string{"hash", "revision", "total keys", "total size", "version"}

func (s snapshotStatus) row() []string {
	return []string{
		fmt.Sprintf("%x", s.Hash), fmt.Sprint(s.Revision), fmt.Sprint(s.TotalKey), bytesText(s.TotalSize), s.Version,
	}
}
