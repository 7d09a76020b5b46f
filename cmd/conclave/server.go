package main

import (
	"os"
	"strconv"
	"syscall"

	"github.com/conclave-kv/conclave/daemon"
)

// runServer is the server form: flags without a command word.
func runServer(line commandLine, std stdio) error {
	// etcd ignores -v beside other flags. Who writes it alone asks something.
	if len(line.flags) == 1 && line.flags[0].name == "v" {
		return printServerVersion(std.out)
	}
	for _, f := range line.flags {
		if f.name != "version" {
			continue
		}
		if yes, err := strconv.ParseBool(f.value); err != nil {
			return failf(exitUsage, "invalid boolean value %q for flag -version: use true or false", f.value)
		} else if yes {
			return printServerVersion(std.out)
		}
	}
	settings, err := newServerSettings(line.flags, os.Environ())
	if err != nil {
		return err
	}
	settings.useDefaultSecret(daemon.DefaultClusterSecretFile)
	if err := settings.cfg.Validate(); err != nil {
		return err
	}
	// No file of a member is for others; the library of the raft log would
	// give its files mode 0644.
	syscall.Umask(0o077)
	return serve(settings.cfg, settings.warnings)
}
