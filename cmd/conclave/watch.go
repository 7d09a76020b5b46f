package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"

	"github.com/urfave/cli/v2"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// watchWord is the only command in which "--" ends the arguments as well as
// the flags: what follows it is a command, whatever stands before.
const watchWord = "watch"

const watchDescription = `Prints events until it is stopped. With a command behind -- the command is run
for each event, one after another, with the event in its environment:
ETCD_WATCH_REVISION, and quoted ETCD_WATCH_EVENT_TYPE ("PUT" or "DELETE"),
ETCD_WATCH_KEY and ETCD_WATCH_VALUE. A command that fails ends the watch.

The key and the range end may come from CONCLAVE_WATCH_KEY and
CONCLAVE_WATCH_RANGE_END, or from etcdctl's ETCDCTL_WATCH_KEY and
ETCDCTL_WATCH_RANGE_END.

With -i, lines are read from standard input:

  watch [options] [key or prefix] [range_end] [-- command]
  progress`

func watchCommand(action cli.ActionFunc) *cli.Command {
	return &cli.Command{
		Name:        watchWord,
		Usage:       "Watches events stream on keys or prefixes",
		ArgsUsage:   "[key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
		Description: watchDescription,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "interactive", Aliases: []string{"i"}, Usage: "Interactive mode"},
			&cli.BoolFlag{Name: "prefix", Usage: "Watch on a prefix if prefix is set"},
			&cli.Int64Flag{Name: "rev", Usage: "Revision to start watching"},
			&cli.BoolFlag{Name: "prev-kv", Usage: "get the previous key-value pair before the event happens"},
			&cli.BoolFlag{Name: "progress-notify", Usage: "get periodic watch progress notification from server"},
		},
		Action: action,
	}
}

func runWatch(c *cli.Context) error {
	at, err := newWatchPlace()
	if err != nil {
		return err
	}
	var req watchRequest
	if !c.Bool("interactive") {
		if req, err = newWatchRequest(c, at); err != nil {
			return withCode(exitBadArgs, err)
		}
	}
	// A watch has no end: --command-timeout is for calls.
	return withClient(c, func(_ context.Context, s *session, client *clientv3.Client) error {
		ctx, cancel := context.WithCancel(c.Context)
		defer cancel()
		w := &watcher{client: client, print: s.print, out: c.App.Writer, errOut: c.App.ErrWriter}
		if c.Bool("interactive") {
			return w.converse(ctx, c, at)
		}
		if err := w.follow(ctx, req); err != nil {
			return err
		}
		return failf(exitInterrupted, "watch is canceled by the server")
	})
}

// watcher shows what watches of one client bring.
type watcher struct {
	client      *clientv3.Client
	out, errOut io.Writer

	mu    sync.Mutex // one answer is printed at a time
	print printer
}

// follow shows the events of one watch until the server ends it, ctx is done,
// or an event can not be shown.
func (w *watcher) follow(ctx context.Context, req watchRequest) error {
	for resp := range w.client.Watch(clientv3.WithRequireLeader(ctx), req.key, req.opts...) {
		if err := w.show(&resp); err != nil {
			return err
		}
		if len(req.command) == 0 {
			continue
		}
		for _, ev := range resp.Events {
			if err := w.runFor(ctx, req.command, resp.Header, ev); err != nil {
				fmt.Fprintf(w.errOut, "command %q error (%v)\n", req.command, err)
				return errSilent
			}
		}
	}
	return nil
}

func (w *watcher) show(resp *clientv3.WatchResponse) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if resp.Canceled {
		fmt.Fprintf(w.errOut, "watch was canceled (%v)\n", resp.Err())
	}
	if resp.IsProgressNotify() {
		fmt.Fprintf(w.out, "progress notify: %d\n", resp.Header.GetRevision())
	}
	return w.print.watch(resp)
}

// runFor runs the user's command for one event.
func (w *watcher) runFor(ctx context.Context, command []string, h *etcdserverpb.ResponseHeader, ev *clientv3.Event) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(),
		fmt.Sprintf("ETCD_WATCH_REVISION=%d", h.GetRevision()),
		fmt.Sprintf("ETCD_WATCH_EVENT_TYPE=%q", ev.Type),
		fmt.Sprintf("ETCD_WATCH_KEY=%q", ev.Kv.GetKey()),
		fmt.Sprintf("ETCD_WATCH_VALUE=%q", ev.Kv.GetValue()))
	cmd.Stdout, cmd.Stderr = w.out, w.errOut
	return cmd.Run()
}
