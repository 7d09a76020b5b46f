package main

import (
	"errors"
	"strconv"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func putCommand(sink opSink) *cli.Command {
	return &cli.Command{
		Name:      "put",
		Usage:     "Puts the given key into the store",
		ArgsUsage: "<key> <value> (<value> can also be given from stdin)",
		Description: "A value that begins with '-' follows '--': put -- <key> <value>.\n" +
			"Without a value it is read from standard input: cat file | conclave put <key>.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "lease", Value: "0", Usage: "lease ID (in hexadecimal) to attach to the key"},
			&cli.BoolFlag{Name: "prev-kv", Usage: "return the previous key-value pair before modification"},
			&cli.BoolFlag{Name: "ignore-value", Usage: "updates the key using its current value"},
			&cli.BoolFlag{Name: "ignore-lease", Usage: "updates the key using its current lease"},
		},
		Action: func(c *cli.Context) error {
			op, err := putOp(c)
			if err != nil {
				return withCode(exitBadArgs, err)
			}
			return sink(c, op)
		},
	}
}

func putOp(c *cli.Context) (clientv3.Op, error) {
	usage := errors.New("put command needs 1 argument and input from stdin or 2 arguments")
	ignoreValue := c.Bool("ignore-value")
	switch {
	case c.NArg() == 0, c.NArg() > 2:
		return clientv3.Op{}, usage
	case ignoreValue && c.NArg() > 1:
		return clientv3.Op{}, errors.New("put command needs only 1 argument when 'ignore-value' is set")
	}
	var value string
	if !ignoreValue {
		var err error
		if value, err = argOrStdin(c, 1); err != nil {
			return clientv3.Op{}, usage
		}
	}
	id, err := leaseID(c.String("lease"))
	if err != nil {
		return clientv3.Op{}, err
	}
	var opts []clientv3.OpOption
	if id != 0 {
		opts = append(opts, clientv3.WithLease(id))
	}
	if c.Bool("prev-kv") {
		opts = append(opts, clientv3.WithPrevKV())
	}
	if ignoreValue {
		opts = append(opts, clientv3.WithIgnoreValue())
	}
	if c.Bool("ignore-lease") {
		opts = append(opts, clientv3.WithIgnoreLease())
	}
	return clientv3.OpPut(c.Args().First(), value, opts...), nil
}

// leaseID reads a lease id as commands print it.
func leaseID(s string) (clientv3.LeaseID, error) {
	id, err := strconv.ParseInt(s, 16, 64)
	if err != nil {
		return 0, failf(exitBadArgs, "bad lease ID (%w), expecting ID in Hex", err)
	}
	return clientv3.LeaseID(id), nil
}
