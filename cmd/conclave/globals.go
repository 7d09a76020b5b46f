package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// globalFlags are etcdctl's global flags, and --discovery-srv-server.
func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "endpoints", Value: cli.NewStringSlice("127.0.0.1:2379"), Usage: "gRPC endpoints, separated by commas"},
		&cli.StringFlag{Name: "discovery-srv", Aliases: []string{"d"}, Usage: "domain whose SRV records name the endpoints"},
		&cli.StringFlag{Name: "discovery-srv-name", Usage: "suffix of the service name in the SRV records"},
		&cli.StringFlag{Name: "discovery-srv-server", Usage: "host:port of the DNS server to ask instead of the system's"},
		&cli.BoolFlag{Name: "insecure-discovery", Value: true, Usage: "accept SRV records of endpoints without TLS"},

		&cli.StringFlag{Name: "cacert", Usage: "verify servers with this CA bundle"},
		&cli.StringFlag{Name: "cert", Usage: "identify with this certificate"},
		&cli.StringFlag{Name: "key", Usage: "key of --cert"},
		&cli.BoolFlag{Name: "insecure-transport", Value: true, Usage: "do without TLS where an endpoint has no scheme and no certificate is given"},
		&cli.BoolFlag{Name: "insecure-skip-tls-verify", Usage: "do not verify servers (for tests only)"},
		&cli.StringFlag{Name: "user", Usage: "name[:password]; asks for the password if it is missing"},
		&cli.StringFlag{Name: "password", Usage: "password of --user"},
		&cli.StringFlag{Name: "auth-jwt-token", Usage: "token to authenticate with instead of --user"},

		&cli.StringFlag{Name: "write-out", Aliases: []string{"w"}, Value: "simple", Usage: "fields, json, protobuf, simple or table"},
		&cli.BoolFlag{Name: "hex", Usage: "print byte strings as hex encoded strings"},

		&cli.DurationFlag{Name: "dial-timeout", Value: 2 * time.Second, Usage: "time for authentication when connecting"},
		&cli.DurationFlag{Name: "command-timeout", Value: 5 * time.Second, Usage: "time for a short command"},
		&cli.DurationFlag{Name: "keepalive-time", Value: 2 * time.Second, Usage: "pause between keepalive pings"},
		&cli.DurationFlag{Name: "keepalive-timeout", Value: 6 * time.Second, Usage: "time for the answer to a ping"},
		&cli.IntFlag{Name: "max-request-bytes", Usage: "limit of a request in bytes (0: 2 MiB)"},
		&cli.IntFlag{Name: "max-recv-bytes", Usage: "limit of a response in bytes (0: 2 GiB)"},
		&cli.BoolFlag{Name: "debug", Usage: "log what the client does"},
	}
}

// clientPrefixes are the prefixes of environment variables that set global
// flags, the preferred first.
var clientPrefixes = []string{"CONCLAVE_", "ETCDCTL_"}

// exemptVariables have the prefix of a flag's variable but are none: the API
// switch of old etcdctl, the arguments of watch and what lock tells its command.
var exemptVariables = []string{
	"ETCDCTL_API", "ETCDCTL_WATCH_KEY", "ETCDCTL_WATCH_RANGE_END",
	"CONCLAVE_WATCH_KEY", "CONCLAVE_WATCH_RANGE_END", "CONCLAVE_FENCING_TOKEN",
}

// serviceVariable is what Kubernetes sets in every container for a service,
// which may well be called conclave.
var serviceVariable = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)$`)

// variable is the environment variable of a flag.
func variable(prefix, flag string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// globals is where the global flags are, whatever a command calls its own.
func globals(c *cli.Context) *cli.Context {
	return c.Lineage()[len(c.Lineage())-2] // the last one is urfave/cli's own
}

// applyEnv sets the global flags that were not given from the environment.
// A flag that was given wins, with a line that says so.
func applyEnv(c *cli.Context) error {
	root := globals(c)
	used := slices.Clone(exemptVariables)
	for _, f := range c.App.Flags {
		name := f.Names()[0]
		given, preferred := root.IsSet(name), false // by a flag, by the variable before
		for _, prefix := range clientPrefixes {
			key := variable(prefix, name)
			used = append(used, key)
			value := os.Getenv(key)
			if value == "" || preferred {
				continue
			}
			if given {
				fmt.Fprintf(c.App.ErrWriter, "Warning: %s is set, but --%s on the command line wins\n", key, name)
				continue
			}
			if advice := adviceFor(f, value); advice != "" {
				return failf(exitBadArgs, "invalid value %q for %s: %s", value, key, advice)
			}
			if err := root.Set(name, value); err != nil {
				return failf(exitBadArgs, "invalid value %q for %s: %w", value, key, err)
			}
			preferred = true
		}
	}
	warnUnknownVariables(c, used)
	return nil
}

// warnUnknownVariables names variables that look like a global flag's but are
// none. Those of the server's flags may be set for a server beside it.
func warnUnknownVariables(c *cli.Context, known []string) {
	for _, kv := range os.Environ() {
		key, _, _ := strings.Cut(kv, "=")
		if slices.ContainsFunc(clientPrefixes, func(p string) bool { return strings.HasPrefix(key, p) }) &&
			!slices.Contains(known, key) && !isServerVariable(key) && !serviceVariable.MatchString(key) {
			fmt.Fprintf(c.App.ErrWriter, "Warning: unrecognized environment variable %s%s\n", key, didYouMean(key, "", known))
		}
	}
}

func isServerVariable(key string) bool {
	return slices.ContainsFunc(allServerFlags(), func(flag string) bool { return key == variable("CONCLAVE_", flag) })
}
