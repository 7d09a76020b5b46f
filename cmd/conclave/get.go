package main

import (
	"context"
	"errors"
	"strings"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func getCommand(sink func(*cli.Context, getRequest) error) *cli.Command {
	return &cli.Command{
		Name:      "get",
		Usage:     "Gets the key or a range of keys",
		ArgsUsage: "<key> [range_end]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "consistency", Value: "l", Usage: "Linearizable(l) or Serializable(s)"},
			&cli.StringFlag{Name: "order", Usage: "Order of results; ASCEND or DESCEND (ASCEND by default)"},
			&cli.StringFlag{Name: "sort-by", Usage: "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION"},
			&cli.Int64Flag{Name: "limit", Usage: "Maximum number of results"},
			&cli.BoolFlag{Name: "prefix", Usage: "Get keys with matching prefix"},
			&cli.BoolFlag{Name: "from-key", Usage: "Get keys that are greater than or equal to the given key using byte compare"},
			&cli.Int64Flag{Name: "rev", Usage: "Specify the kv revision"},
			&cli.BoolFlag{Name: "keys-only", Usage: "Get only the keys"},
			&cli.BoolFlag{Name: "count-only", Usage: "Get only the count"},
			&cli.BoolFlag{Name: "print-value-only", Usage: `Only write values when using the "simple" output format`},
			&cli.Int64Flag{Name: "min-create-rev", Usage: "Minimum create revision"},
			&cli.Int64Flag{Name: "max-create-rev", Usage: "Maximum create revision"},
			&cli.Int64Flag{Name: "min-mod-rev", Usage: "Minimum modification revision"},
			&cli.Int64Flag{Name: "max-mod-rev", Usage: "Maximum modification revision"},
			&cli.BoolFlag{Name: "stream", Usage: "Use the RangeStream RPC"},
		},
		Action: func(c *cli.Context) error {
			req, err := newGetRequest(c)
			if err != nil {
				return err
			}
			return sink(c, req)
		},
	}
}

// getRequest is a get as options of etcd's client.
type getRequest struct {
	key  string
	opts []clientv3.OpOption
}

func (r getRequest) op() clientv3.Op { return clientv3.OpGet(r.key, r.opts...) }

func newGetRequest(c *cli.Context) (getRequest, error) {
	prefix, fromKey := c.Bool("prefix"), c.Bool("from-key")
	var usage error
	switch {
	case c.NArg() == 0, c.NArg() > 2:
		usage = errors.New("get command needs one argument as key and an optional argument as range_end")
	case prefix && fromKey:
		usage = errPrefixAndFromKey
	case c.Bool("keys-only") && c.Bool("count-only"):
		usage = errors.New("`--keys-only` and `--count-only` cannot be set at the same time, choose one")
	case c.NArg() == 2 && (prefix || fromKey):
		usage = errRangeEndTwice
	}
	if usage != nil {
		return getRequest{}, withCode(exitBadArgs, usage)
	}
	serializable, err := isSerializable(c)
	if err != nil {
		return getRequest{}, err
	}
	key, opts := prefixOrFromKey(c.Args().First(), prefix, fromKey)
	if c.NArg() == 2 {
		opts = append(opts, clientv3.WithRange(c.Args().Get(1)))
	}
	if serializable {
		opts = append(opts, clientv3.WithSerializable())
	}
	more, err := getOptions(c)
	return getRequest{key: key, opts: append(opts, more...)}, err
}

// isSerializable reads --consistency.
func isSerializable(c *cli.Context) (bool, error) {
	switch s := c.String("consistency"); s {
	case "l":
		return false, nil
	case "s":
		return true, nil
	default:
		return false, failf(exitBadFeature, "unknown consistency flag %q", s)
	}
}

// getOptions reads the flags that select and order within the range.
func getOptions(c *cli.Context) ([]clientv3.OpOption, error) {
	sort, err := sortOption(c)
	if err != nil {
		return nil, err
	}
	opts := []clientv3.OpOption{clientv3.WithLimit(c.Int64("limit")), sort}
	for _, r := range []struct {
		flag   string
		option func(int64) clientv3.OpOption
	}{
		{"rev", clientv3.WithRev},
		{"min-create-rev", clientv3.WithMinCreateRev}, {"max-create-rev", clientv3.WithMaxCreateRev},
		{"min-mod-rev", clientv3.WithMinModRev}, {"max-mod-rev", clientv3.WithMaxModRev},
	} {
		if v := c.Int64(r.flag); v > 0 {
			opts = append(opts, r.option(v))
		}
	}
	for _, kind := range []string{"create", "mod"} {
		lo, hi := c.Int64("min-"+kind+"-rev"), c.Int64("max-"+kind+"-rev")
		if hi > 0 && lo > hi {
			return nil, failf(exitBadFeature, "--min-%s-rev %d is above --max-%s-rev %d", kind, lo, kind, hi)
		}
	}
	if c.Bool("keys-only") {
		opts = append(opts, clientv3.WithKeysOnly())
	}
	if c.Bool("count-only") {
		opts = append(opts, clientv3.WithCountOnly())
	}
	return opts, nil
}

var (
	sortOrders = map[string]clientv3.SortOrder{
		"": clientv3.SortNone, "ASCEND": clientv3.SortAscend, "DESCEND": clientv3.SortDescend,
	}
	sortTargets = map[string]clientv3.SortTarget{
		"": clientv3.SortByKey, "KEY": clientv3.SortByKey, "CREATE": clientv3.SortByCreateRevision,
		"MODIFY": clientv3.SortByModRevision, "VALUE": clientv3.SortByValue, "VERSION": clientv3.SortByVersion,
	}
)

func sortOption(c *cli.Context) (clientv3.OpOption, error) {
	order, ok := sortOrders[strings.ToUpper(c.String("order"))]
	if !ok {
		return nil, failf(exitBadFeature, "bad sort order %v", c.String("order"))
	}
	target, ok := sortTargets[strings.ToUpper(c.String("sort-by"))]
	if !ok {
		return nil, failf(exitBadFeature, "bad sort target %v", c.String("sort-by"))
	}
	return clientv3.WithSort(target, order), nil
}

// runGet sends a get and prints the answer.
func runGet(c *cli.Context, req getRequest) error {
	return withClient(c, func(ctx context.Context, s *session, client *clientv3.Client) error {
		resp, err := fetch(ctx, client, req, c.Bool("stream"))
		if err != nil {
			return err
		}
		if format := c.String("write-out"); c.Bool("count-only") && format != "fields" {
			return failf(exitBadArgs, "--count-only is only for `--write-out=fields`")
		} else if c.Bool("print-value-only") {
			simple, ok := s.print.(*simplePrinter)
			if !ok {
				return failf(exitBadArgs, "print-value-only is only for `--write-out=simple`")
			}
			simple.valueOnly = true
		}
		return s.print.get(resp)
	})
}

func fetch(ctx context.Context, client *clientv3.Client, req getRequest, stream bool) (*clientv3.GetResponse, error) {
	if !stream {
		return client.Get(ctx, req.key, req.opts...)
	}
	chunks, err := client.GetStream(ctx, req.key, req.opts...)
	if err != nil {
		return nil, err
	}
	return clientv3.GetStreamToGetResponse(chunks)
}
