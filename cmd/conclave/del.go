package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// rangeGrace is how long a deletion of a range waits for a second thought. It
// is etcdctl's.
const rangeGrace = 2 * time.Second

func delCommand(sink opSink) *cli.Command {
	return &cli.Command{
		Name:      "del",
		Usage:     "Removes the specified key or range of keys [key, range_end)",
		ArgsUsage: "<key> [range_end]",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "prefix", Usage: "delete keys with matching prefix"},
			&cli.BoolFlag{Name: "prev-kv", Usage: "return deleted key-value pairs"},
			&cli.BoolFlag{Name: "from-key", Usage: "delete keys that are greater than or equal to the given key using byte compare"},
			&cli.BoolFlag{Name: "range", Usage: "delete range of keys, without the delay"},
		},
		Action: func(c *cli.Context) error {
			op, err := delOp(c)
			if err != nil {
				return withCode(exitBadArgs, err)
			}
			return sink(c, op)
		},
	}
}

func delOp(c *cli.Context) (clientv3.Op, error) {
	if c.NArg() == 0 || c.NArg() > 2 {
		return clientv3.Op{}, errors.New("del command needs one argument as key and an optional argument as range_end")
	}
	prefix, fromKey := c.Bool("prefix"), c.Bool("from-key")
	if prefix && fromKey {
		return clientv3.Op{}, errPrefixAndFromKey
	}
	key, opts := prefixOrFromKey(c.Args().First(), prefix, fromKey)
	if c.NArg() > 1 {
		if prefix || fromKey {
			return clientv3.Op{}, errRangeEndTwice
		}
		opts = append(opts, clientv3.WithRange(c.Args().Get(1)))
		if !c.Bool("range") {
			waitBeforeRange(c)
		}
	}
	if c.Bool("prev-kv") {
		opts = append(opts, clientv3.WithPrevKV())
	}
	return clientv3.OpDelete(key, opts...), nil
}

func waitBeforeRange(c *cli.Context) {
	fmt.Fprintf(c.App.ErrWriter, "Warning: Keys between %q and %q will be deleted. Please interrupt the command within next 2 seconds to cancel. "+
		"You can provide `--range` flag to avoid the delay.\n", c.Args().Get(0), c.Args().Get(1))
	time.Sleep(rangeGrace)
}
