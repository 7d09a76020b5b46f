package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
	etcdversion "go.etcd.io/etcd/api/v3/version"

	"github.com/conclave-kv/conclave/internal/version"
)

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "Prints the version of conclave and of the etcd API it speaks",
		Action: func(c *cli.Context) error {
			fmt.Fprintln(c.App.Writer, "conclave version:", version.Conclave)
			fmt.Fprintln(c.App.Writer, "etcdctl version:", etcdversion.Version)
			_, err := fmt.Fprintln(c.App.Writer, "API version:", etcdversion.APIVersion)
			return err
		},
	}
}

// printServerVersion prints what `conclave --version` says: its own line, then
// etcd's four, which tools read the etcd version from.
func printServerVersion(w io.Writer) error {
	_, err := fmt.Fprintf(w, "conclave Version: %s\netcd Version: %s\nGit SHA: %s\nGo Version: %s\nGo OS/Arch: %s/%s\n",
		version.Conclave, version.EtcdServer, revision(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// revision is the commit the program was built from, as far as it was built
// inside a repository.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 9 {
			return s.Value[:9]
		}
	}
	return "unknown"
}
