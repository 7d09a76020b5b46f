package main

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// hideInput stops a terminal from showing what is typed and returns how to
// undo that, which a signal that ends the process does first: the shell after
// it would not show what is typed. It fails when f is no terminal.
func hideInput(f *os.File) (restore func(), err error) {
	fd := int(f.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	silent := *before
	silent.Lflag &^= unix.ECHO
	silent.Lflag |= unix.ICANON | unix.ISIG
	show := func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, before) }
	release := beforeSignals(show)
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &silent); err != nil {
		release()
		return nil, err
	}
	return func() {
		show()
		release()
	}, nil
}

// beforeSignals has do called before a signal ends the process, until release.
// One goroutine waits for them.
func beforeSignals(do func()) (release func()) {
	signals := make(chan os.Signal, 1)
	for _, s := range []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT} {
		if !signal.Ignored(s) { // as SIGHUP is under nohup
			signal.Notify(signals, s)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s, caught := <-signals
		if !caught {
			return
		}
		do()
		signal.Reset(s)
		_ = unix.Kill(os.Getpid(), s.(unix.Signal)) // now as if nobody had caught it
	}()
	return func() {
		signal.Stop(signals) // none comes after it returns
		close(signals)
		<-done
	}
}
