package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
)

// endGrace is the time between the SIGTERM for a command that must end and the
// SIGKILL.
const endGrace = 5 * time.Second

// exitSignalled is what shells add to the number of the signal that ended a
// command.
const exitSignalled = 128

// errEnded: the command was ended because what it ran under was lost.
var errEnded = errors.New("command ended")

// child is a command that the user runs under a lock or a registration.
type child struct {
	cmd    *exec.Cmd
	exited chan error
	tty    *terminal // lent to it; nil where there is none to lend
}

// runChild runs a command to its end, with extra variables in its environment,
// and hands signals on to it. The error is its failure, with its exit code, or
// errEnded if lost was closed before.
func runChild(c *cli.Context, argv []string, signals <-chan os.Signal, lost <-chan struct{}, env ...string) error {
	command, err := startChild(c, argv, env...)
	if err != nil {
		return err
	}
	return command.wait(signals, lost)
}

// startChild starts a command with extra variables in its environment, in a
// process group of its own, so that signals reach what it has started too. That
// group gets the terminal if ours has it. Its standard input is ours, unless that
// is a terminal which it does not get. The goroutine that waits for it ends with it.
func startChild(c *cli.Context, argv []string, env ...string) (*child, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	tty := ownTerminal()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = inputForChild(c.App.Reader, tty), c.App.Writer, c.App.ErrWriter
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	tty.lend(cmd.SysProcAttr)
	if err := cmd.Start(); err != nil {
		tty.takeBack()
		return nil, err
	}
	ch := &child{cmd: cmd, exited: make(chan error, 1), tty: tty}
	go func() { ch.exited <- cmd.Wait() }()
	return ch, nil
}

func inputForChild(in io.Reader, tty *terminal) io.Reader {
	file, ok := in.(*os.File)
	if !ok {
		return nil
	}
	if tty != nil {
		return file
	}
	if info, err := file.Stat(); err != nil || info.Mode()&os.ModeCharDevice != 0 {
		return nil
	}
	return file
}

// wait hands signals on to the command until it ends, and returns its failure
// with its exit code. When lost closes the command is ended, and the error is
// errEnded.
func (ch *child) wait(signals <-chan os.Signal, lost <-chan struct{}) error {
	defer ch.tty.takeBack()
	changes, end := ch.tty.watch()
	defer end()
	ch.tty.follow(ch.cmd.Process.Pid) // it may have stopped already
	for {
		select {
		case <-changes:
			ch.tty.follow(ch.cmd.Process.Pid)
		case err := <-ch.exited:
			return childError(err)
		case sig := <-signals:
			if number, ok := sig.(syscall.Signal); ok {
				ch.signal(number)
			}
		case <-lost:
			ch.end()
			return errEnded
		}
	}
}

// end stops the command and all of its group.
func (ch *child) end() {
	ch.signal(syscall.SIGTERM)
	select {
	case <-ch.exited: //nolint:errcheck // it was ended: how does not matter
	case <-time.After(endGrace):
		defer func() { <-ch.exited }() //nolint:errcheck // likewise
	}
	// What the command has started may have survived it. The number of the
	// group is nobody else's while any of it is left.
	ch.signal(syscall.SIGKILL)
}

func (ch *child) signal(sig syscall.Signal) {
	_ = syscall.Kill(-ch.cmd.Process.Pid, sig)             // gone in between, at worst
	_ = syscall.Kill(-ch.cmd.Process.Pid, syscall.SIGCONT) // a stopped one would take no notice
}

// childError gives the failure of a command the exit code of the command.
func childError(err error) error {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return withCode(exitSignalled+int(status.Signal()), err)
	}
	return withCode(exit.ExitCode(), err)
}
