package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// commands maps the first argument to what runs.
var commands = map[string]func(context.Context, []string) error{
	"run":          runLoads,
	"watch":        runWatch,
	"leases":       runLeases,
	"auth":         runAuth,
	"failover":     runFailover,
	"gaps":         runGaps,
	"install":      runInstall,
	"idle":         runIdle,
	"large":        runLarge,
	"load":         runLoad,
	"empty-server": runEmptyServer,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := dispatch(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("say what to measure: go run ./bench run, watch, leases, auth, failover, gaps, install, idle or large (-h lists the flags)")
	}
	command, ok := commands[args[0]]
	if !ok {
		return fmt.Errorf("unknown command %q: use run, watch, leases, auth, failover, gaps, install, idle or large", args[0])
	}
	return command(ctx, args[1:])
}
