package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stopGrace is how long conclave may take to stop. Where it does not, there is no
// shell that would let it go on.
const stopGrace = 100 * time.Millisecond

// terminal is the controlling terminal while conclave is in its foreground: it is
// lent to a command, which may then read from it, and gets what its keys send.
type terminal struct {
	file *os.File
}

// ownTerminal opens the controlling terminal, nil where there is none or conclave
// runs in its background.
func ownTerminal() *terminal {
	file, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	t := &terminal{file}
	if !t.ours() {
		_ = file.Close()
		return nil
	}
	return t
}

// ours reports whether conclave's process group has the foreground.
func (t *terminal) ours() bool {
	group, err := unix.IoctlGetInt(int(t.file.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// lend has a command start in the foreground, in the process group of its own that
// it gets.
func (t *terminal) lend(attr *syscall.SysProcAttr) {
	if t != nil {
		attr.Foreground, attr.Ctty = true, int(t.file.Fd())
	}
}

// giveTo gives a process group the foreground. From the background, where conclave
// is while a command has it, that is otherwise a reason to be stopped.
func (t *terminal) giveTo(group int) {
	signal.Ignore(syscall.SIGTTOU)
	defer signal.Reset(syscall.SIGTTOU)
	_ = unix.IoctlSetPointerInt(int(t.file.Fd()), unix.TIOCSPGRP, group) // without a terminal there is nothing to give
}

// watch returns a channel that is sent to when a child may have stopped, and what
// ends that.
func (t *terminal) watch() (changes <-chan os.Signal, end func()) {
	if t == nil {
		return nil, func() {}
	}
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGCHLD)
	return c, func() { signal.Stop(c) }
}

// follow stops conclave where the command was stopped, as by Ctrl-Z, so that the
// shell has the terminal again, and goes on with it when conclave goes on.
func (t *terminal) follow(pid int) {
	if t == nil {
		return
	}
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WNOHANG, nil); err != nil || info.Signo == 0 {
		return
	}
	t.giveTo(unix.Getpgrp())
	resumed := make(chan os.Signal, 1)
	signal.Notify(resumed, syscall.SIGCONT)
	defer signal.Stop(resumed)
	_ = unix.Kill(0, unix.SIGTSTP) // the whole job, as the key would have
	select {
	case <-resumed:
	case <-time.After(stopGrace):
	}
	// The shell has put conclave in the foreground again, or in the background.
	if t.ours() {
		t.giveTo(pid)
	}
	_ = unix.Kill(-pid, unix.SIGCONT)
}

// takeBack ends the lending.
func (t *terminal) takeBack() {
	if t == nil {
		return
	}
	t.giveTo(unix.Getpgrp())
	_ = t.file.Close()
}
