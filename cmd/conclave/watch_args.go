package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// watchPlace is the key and the range end that the environment has for watch.
type watchPlace struct{ key, end string }

// newWatchPlace reads the environment, in which CONCLAVE_ goes before ETCDCTL_.
func newWatchPlace() (watchPlace, error) {
	for _, prefix := range clientPrefixes {
		at := watchPlace{os.Getenv(prefix + "WATCH_KEY"), os.Getenv(prefix + "WATCH_RANGE_END")}
		if at.key == "" && at.end != "" {
			return at, failf(exitBadArgs, "%[1]sWATCH_KEY is empty but got %[1]sWATCH_RANGE_END=%[2]q", prefix, at.end)
		}
		if at.key != "" {
			return at, nil
		}
	}
	return watchPlace{}, nil
}

// watchRequest is one watch as options of etcd's client, and the command that
// is run for its events, if any.
type watchRequest struct {
	key     string
	opts    []clientv3.OpOption
	command []string
}

var (
	errWatchArgs      = errors.New("bad number of arguments")
	errWatchConflict  = errors.New("bad number of arguments (found conflicting environment key)")
	errWatchNoCommand = errors.New("bad number of arguments (found separator --, but no commands)")
	errWatchTwoEnds   = errors.New("`range_end` and `--prefix` are mutually exclusive")
)

// newWatchRequest reads a watch command's flags and arguments.
func newWatchRequest(c *cli.Context, at watchPlace) (watchRequest, error) {
	var req watchRequest
	args := c.Args().Slice()
	if i := slices.Index(args, "--"); i >= 0 {
		if args, req.command = args[:i], args[i+1:]; len(req.command) == 0 {
			return req, errWatchNoCommand
		}
	}
	if at.key != "" {
		if len(args) > 0 {
			return req, errWatchConflict
		}
		if args = []string{at.key}; at.end != "" {
			args = append(args, at.end)
		}
	}
	if len(args) == 0 || len(args) > 2 {
		return req, errWatchArgs
	}
	req.key = args[0]
	req.opts = []clientv3.OpOption{clientv3.WithRev(c.Int64("rev"))}
	if len(args) == 2 {
		if c.Bool("prefix") {
			return req, errWatchTwoEnds
		}
		req.opts = append(req.opts, clientv3.WithRange(args[1]))
	}
	for flag, option := range map[string]clientv3.OpOption{
		"prefix": clientv3.WithPrefix(), "prev-kv": clientv3.WithPrevKV(), "progress-notify": clientv3.WithProgressNotify(),
	} {
		if c.Bool(flag) {
			req.opts = append(req.opts, option)
		}
	}
	return req, nil
}

// parseWatch reads a line of the dialogue, without quotes already.
func parseWatch(c *cli.Context, args []string, at watchPlace) (watchRequest, error) {
	var req watchRequest
	app := newApp(stdio{in: c.App.Reader, out: c.App.Writer, err: c.App.ErrWriter})
	app.Flags = nil
	app.Commands = []*cli.Command{watchCommand(func(c *cli.Context) error {
		var err error
		req, err = newWatchRequest(c, at)
		return err
	})}
	tame(app.Commands)
	line, err := arrange(app, args)
	if err != nil {
		return req, err
	}
	if line.help {
		return req, fmt.Errorf("help is at: conclave %s --help", watchWord)
	}
	return req, app.RunContext(c.Context, line.argv())
}
