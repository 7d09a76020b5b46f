package main

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/urfave/cli/v2"
)

// childShell starts a shell script as a child whose output may be read line by line.
func childShell(t *testing.T, script string, env ...string) (*child, io.Reader) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = read.Close() })
	app := &cli.App{Reader: strings.NewReader("not for it"), Writer: write, ErrWriter: io.Discard}
	ch, err := startChild(cli.NewContext(app, flag.NewFlagSet("", flag.ContinueOnError), nil), []string{"sh", "-c", script}, env...)
	if err != nil {
		t.Fatal(err)
	}
	_ = write.Close() // the child has its own
	return ch, read
}

func TestChild_exitCodes(t *testing.T) {
	for script, want := range map[string]int{"true": 0, "exit 7": 7, "kill -TERM $$": 143, "read x || exit 9": 9, `exit "$EXTRA"`: 5} {
		ch, _ := childShell(t, script, "EXTRA=5")
		if got := exitCode(ch.wait(nil, nil)); got != want {
			t.Errorf("%s: exit code %d, want %d", script, got, want)
		}
	}
}

func TestChild_signals(t *testing.T) {
	ch, out := childShell(t, `trap 'exit 42' USR1; echo ready; while :; do sleep 0.05; done`)
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGUSR1
	if got := exitCode(ch.wait(signals, nil)); got != 42 {
		t.Errorf("exit code %d, want the one of the trap", got)
	}
}

// A command that does not listen to SIGTERM, and what it has started, are gone
// when wait returns: the pipe they write to has no writer left.
func TestChild_lost(t *testing.T) {
	for _, script := range []string{
		`sleep 1000 & echo ready; wait`,
		`trap "" TERM; (while :; do sleep 0.05; done) & echo ready; wait`,
	} {
		ch, out := childShell(t, script)
		if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
			t.Fatal(err)
		}
		lost := make(chan struct{})
		close(lost)
		if err := ch.wait(nil, lost); !errors.Is(err, errEnded) {
			t.Errorf("got %v, want errEnded", err)
		}
		var rest bytes.Buffer
		if _, err := rest.ReadFrom(out); err != nil {
			t.Error(err)
		}
	}
}
