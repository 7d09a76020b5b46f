package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/rs/zerolog"
	"google.golang.org/grpc/grpclog"

	"github.com/conclave-kv/conclave/daemon"
	"github.com/conclave-kv/conclave/internal/logging"
)

// serve runs one member until a signal ends it or it cannot go on. It does not
// return after a signal: the process then ends by that signal, as its parent
// expects (exit status 130 or 143), except as PID 1, where it returns nil.
func serve(cfg daemon.Config, warnings []string) error {
	level, err := logging.ParseLevel(cfg.LogLevel)
	if err != nil {
		return err
	}
	format, err := logging.ParseFormat(cfg.LogFormat)
	if err != nil {
		return err
	}
	rotation, err := cfg.Rotation()
	if err != nil {
		return err
	}
	out, err := logging.Open(cfg.LogOutputs, rotation)
	if err != nil {
		return err
	}
	defer out.Close() //nolint:errcheck // nothing is left to tell it to
	log := logging.New(level, format, out)
	log.Info().Strs("args", redacted(os.Args)).Msg("Running: ")
	for _, w := range append(warnings, cfg.Warnings()...) {
		log.Warn().Msg(w)
	}
	// What grpc has to say is about clients' connections and headers.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(discard{}, discard{}, grpcLog{log}))
	d, err := daemon.New(cfg, log)
	if err != nil {
		return err
	}
	caught, err := runUntilSignal(d, log)
	if err != nil {
		log.WithLevel(zerolog.FatalLevel).Err(err).Msg("stopped by an error")
		return err
	}
	if caught != nil {
		dieBy(caught)
	}
	return nil
}

// grpcLog makes the errors of the grpc libraries log lines of ours.
type grpcLog struct{ log zerolog.Logger }

func (l grpcLog) Write(p []byte) (int, error) {
	l.log.Debug().Msg(strings.TrimSpace(string(p)))
	return len(p), nil
}

// runUntilSignal runs the daemon and returns the signal that stopped it, if
// one did. A second signal while it stops ends the process at once.
func runUntilSignal(d *daemon.Daemon, log zerolog.Logger) (os.Signal, error) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	var caught os.Signal
	var wg sync.WaitGroup
	wg.Go(func() {
		ready := d.Ready()
		for {
			select {
			case caught = <-signals:
				log.Info().Stringer("signal", caught).Msg("received signal; shutting down")
				signal.Stop(signals)
				cancel()
				return
			case <-ready:
				ready = nil
				if err := notifySystemd("READY=1"); err != nil {
					log.Warn().Err(err).Msg("failed to notify systemd that this member is ready")
				}
			case <-ctx.Done():
				return
			}
		}
	})
	wg.Go(func() { paceCollector(ctx) })
	err := d.Run(ctx)
	cancel()
	wg.Wait()
	return caught, err
}

// notifySystemd sends a state to the socket systemd names for units of
// Type=notify; without such a socket it does nothing.
func notifySystemd(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	_, err = conn.Write([]byte(state))
	return errors.Join(err, conn.Close())
}

// dieBy ends the process by a signal. PID 1 cannot: the kernel ignores signals
// it has no handler for.
func dieBy(sig os.Signal) {
	number, ok := sig.(syscall.Signal)
	if !ok || os.Getpid() == 1 {
		return
	}
	signal.Reset(number)
	if err := syscall.Kill(os.Getpid(), number); err == nil {
		select {} // the signal arrives at any moment
	}
}

// redacted returns the arguments for the log, without the values of flags
// that hold secrets.
func redacted(args []string) []string {
	out := make([]string, len(args))
	hide := false
	for i, arg := range args {
		name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		secret := strings.HasPrefix(arg, "-") && (strings.HasSuffix(name, "password") || strings.HasSuffix(name, "discovery-user"))
		switch {
		case hide:
			out[i] = "***"
		case secret && hasValue:
			out[i] = "--" + name + "=***"
		default:
			out[i] = daemon.HideUsers(arg)
		}
		hide = secret && !hasValue
	}
	return out
}
