package main

import (
	"context"
	"errors"
	"io"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// opSink receives the operation a put, get or del describes: to be run at once
// or, inside txn, to be collected.
type opSink func(*cli.Context, clientv3.Op) error

// runOp sends one put or delete and prints the answer.
func runOp(c *cli.Context, op clientv3.Op) error {
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		resp, err := client.Do(ctx, op)
		if err != nil {
			return err
		}
		if op.IsPut() {
			return s.print.put(resp.Put())
		}
		return s.print.del(resp.Del())
	})
}

// argOrStdin returns the i-th positional argument, or all of standard input.
func argOrStdin(c *cli.Context, i int) (string, error) {
	if i < c.NArg() {
		return c.Args().Get(i), nil
	}
	data, err := io.ReadAll(c.App.Reader)
	if err != nil || len(data) == 0 {
		return "", errors.New("no available argument and stdin")
	}
	return string(data), nil
}

// prefixOrFromKey turns --prefix and --from-key into a range.
func prefixOrFromKey(key string, prefix, fromKey bool) (string, []clientv3.OpOption) {
	switch {
	case key == "" && (prefix || fromKey):
		return "\x00", []clientv3.OpOption{clientv3.WithFromKey()}
	case prefix:
		return key, []clientv3.OpOption{clientv3.WithPrefix()}
	case fromKey:
		return key, []clientv3.OpOption{clientv3.WithFromKey()}
	}
	return key, nil
}

var (
	errPrefixAndFromKey = errors.New("`--prefix` and `--from-key` cannot be set at the same time, choose one")
	errRangeEndTwice    = errors.New("too many arguments, only accept one argument when `--prefix` or `--from-key` is set")
)
