package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"
)

// stdio are the streams of one run.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// run executes one command line, without the program's name, and returns the
// exit code. Errors are one line on the error stream.
func run(args []string, std stdio) int {
	err := dispatch(args, std)
	if err != nil && !errors.Is(err, errSilent) {
		fmt.Fprintln(std.err, "Error:", err)
	}
	return exitCode(err)
}

// dispatch chooses between the server form (no command word) and a command.
func dispatch(args []string, std stdio) error {
	app := newApp(std)
	line, err := arrange(app, args)
	if err != nil {
		return err
	}
	if line.help {
		return printHelp(std.out, line)
	}
	if len(line.words) == 0 {
		holdLifeline()
		return runServer(line, std)
	}
	if !line.leaf() {
		return printHelp(std.out, line)
	}
	return app.RunContext(context.Background(), line.argv())
}

// newApp returns the command tree. urfave/cli parses what arrange has put in
// order; its own help, suggestions and exits are off, because they print to
// places and end with codes that are not etcdctl's.
func newApp(std stdio) *cli.App {
	app := &cli.App{
		Name:            "conclave",
		Usage:           "a key-value store that finds its peers, certifies itself and speaks etcd",
		Flags:           globalFlags(),
		Commands:        commands(),
		Reader:          std.in,
		Writer:          std.out,
		ErrWriter:       std.err,
		HideVersion:     true,
		HideHelpCommand: true,
		HideHelp:        true,
		OnUsageError:    usageError,
		ExitErrHandler:  func(*cli.Context, error) {},
	}
	tame(app.Commands)
	return app
}

// tame applies newApp's settings to every command below; urfave/cli would
// otherwise take the key "help" in `get help` for a command.
func tame(cmds []*cli.Command) {
	for _, c := range cmds {
		c.HideHelp = true
		c.HideHelpCommand = true
		c.OnUsageError = usageError
		tame(c.Subcommands)
	}
}

func usageError(_ *cli.Context, err error, _ bool) error { return err }

// commands lists all command words.
func commands() []*cli.Command {
	return []*cli.Command{
		getCommand(runGet),
		putCommand(runOp),
		delCommand(runOp),
		txnCommand(),
		watchCommand(runWatch),
		leaseCommand(),
		lockCommand(),
		electCommand(),
		registerCommand(),
		compactionCommand(),
		memberCommand(),
		moveLeaderCommand(),
		endpointCommand(),
		defragCommand(),
		alarmCommand(),
		downgradeCommand(),
		snapshotCommand(),
		userCommand(),
		roleCommand(),
		authCommand(),
		debugCommand(),
		auditCommand(),
		certCommand(),
		secretCommand(),
		devCommand(),
		versionCommand(),
	}
}
