package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const txnDescription = `A transaction is read from standard input, as three blocks that each end with
an empty line: comparisons, requests for when all of them hold, requests for
when one does not.

  mod("key1") > "0"

  put key1 "overwrote-key1"

  put key1 "created-key1"
  put key2 "some extra key"

Comparisons: c|create, m|mod, ver|version, val|value or lease of a key, one of
= != < >, and a quoted value. Requests: put, get and del with their flags.`

func txnCommand() *cli.Command {
	return &cli.Command{
		Name:        "txn",
		Usage:       "Txn processes all the requests in one transaction",
		Description: txnDescription,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "interactive", Aliases: []string{"i"}, Usage: "Input transaction in interactive mode"},
		},
		Action: runTxn,
	}
}

func runTxn(c *cli.Context) error {
	if c.NArg() != 0 {
		return failf(exitBadArgs, "txn command does not accept argument")
	}
	s, err := newSession(c)
	if err != nil {
		return err
	}
	t, err := readTxn(c)
	if err != nil {
		if exitCode(err) == exitError {
			err = withCode(exitInvalidInput, err)
		}
		return err
	}
	client, err := s.connect()
	if err != nil {
		return err
	}
	defer client.Close() //nolint:errcheck // the process ends next
	ctx, cancel := s.timeout()
	defer cancel()
	return t.commit(ctx, s, client)
}

// transaction is what was read from standard input.
type transaction struct {
	compares          []clientv3.Cmp
	success, failures []clientv3.Op
}

func readTxn(c *cli.Context) (transaction, error) {
	in := bufio.NewReader(c.App.Reader)
	var t transaction
	addOp := func(ops *[]clientv3.Op) func(string) error {
		return func(line string) error {
			op, err := parseRequest(c, line)
			*ops = append(*ops, op)
			return err
		}
	}
	for _, block := range []struct {
		prompt string
		take   func(string) error
	}{
		{"compares:", func(line string) error {
			cmp, err := parseCompare(line)
			t.compares = append(t.compares, cmp)
			return err
		}},
		{"success requests (get, put, del):", addOp(&t.success)},
		{"failure requests (get, put, del):", addOp(&t.failures)},
	} {
		if c.Bool("interactive") {
			fmt.Fprintln(c.App.Writer, block.prompt)
		}
		if err := readBlock(in, block.take); err != nil {
			return t, err
		}
	}
	return t, nil
}

// readBlock hands the lines up to the next empty one to take.
func readBlock(in *bufio.Reader, take func(string) error) error {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		if line = strings.TrimSpace(line); line == "" {
			return nil
		}
		if err := take(line); err != nil {
			return err
		}
	}
}

func (t transaction) commit(ctx context.Context, s *session, client *clientv3.Client) error {
	resp, err := client.Txn(ctx).If(t.compares...).Then(t.success...).Else(t.failures...).Commit()
	if err != nil {
		return err
	}
	return s.print.txn(resp)
}
