package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// converse starts the watches that lines of standard input ask for, until a line
// can not be read or a watch can not be shown. Its goroutines have ended when it
// returns, but for the one that reads standard input: a read can not be ended.
func (w *watcher) converse(ctx context.Context, c *cli.Context, at watchPlace) error {
	var watches sync.WaitGroup
	defer watches.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines, ended := make(chan string), make(chan error, 1)
	go func() { ended <- readLines(ctx, c.App.Reader, lines) }()
	failed := make(chan error, 1)
	for {
		var line string
		select {
		case line = <-lines:
		case err := <-ended:
			return failf(exitInvalidInput, "error reading watch request line: %w", err)
		case err := <-failed:
			return err
		}
		req, err := w.take(ctx, c, at, line)
		if err != nil {
			return err
		}
		if req != nil {
			watches.Go(func() {
				if err := w.follow(ctx, *req); err != nil {
					select {
					case failed <- err:
					default: // the first one counts
					}
				}
			})
		}
	}
}

// readLines hands on the lines of r. It returns the error that ended them.
func readLines(ctx context.Context, r io.Reader, lines chan<- string) error {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		select {
		case lines <- strings.TrimSuffix(line, "\n"):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take does what one line says; a watch is returned. What etcdctl goes on after
// is reported here and is no error.
func (w *watcher) take(ctx context.Context, c *cli.Context, at watchPlace, line string) (*watchRequest, error) {
	args, err := splitQuoted(line)
	switch {
	case err != nil:
		w.refuse(" %s (%v)", line, err)
	case len(args) == 0:
		w.refuse(": %s (watch and progress supported)", line)
	case args[0] == "progress":
		return nil, w.client.RequestProgress(clientv3.WithRequireLeader(ctx))
	case args[0] != watchWord:
		w.refuse(" %s (only support watch)", line)
	case len(args) < 2 && at.key == "":
		w.refuse(" %s (command type or key is not provided)", line)
	default:
		req, err := parseWatch(c, args, at)
		if errors.Is(err, errWatchTwoEnds) {
			w.refuse(" %s (%v)", line, err)
			return nil, nil
		}
		return &req, withCode(exitBadArgs, err)
	}
	return nil, nil
}

func (w *watcher) refuse(format string, args ...any) {
	fmt.Fprintf(w.errOut, "Invalid command"+format+"\n", args...)
}
