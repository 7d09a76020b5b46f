package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// devProcess is one process of a member, from start to exit.
type devProcess struct {
	pid     int
	started time.Time
	exited  chan struct{} // closed when the process is gone
	err     error         // why it ended; read after exited
	line    *os.File      // dev's end of the lifeline
}

// startDevProcess runs program with its output appended to the file log. The
// process has a group of its own: Ctrl-C in the terminal reaches dev alone,
// which stops its members in order. A goroutine waits for it to exit.
func startDevProcess(program string, args []string, log string) (*devProcess, error) {
	out, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close() //nolint:errcheck // the process has its own handle
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close() //nolint:errcheck // likewise
	cmd := exec.Command(program, args...)
	cmd.Env = memberEnv(os.Environ())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	p := &devProcess{pid: cmd.Process.Pid, started: time.Now(), exited: make(chan struct{}), line: ours}
	go func() {
		p.err = cmd.Wait()
		_ = ours.Close() // nobody holds the other end
		close(p.exited)
	}()
	return p, nil
}

// signal sends to the whole group of the process, if it still runs.
func (p *devProcess) signal(sig syscall.Signal) {
	select {
	case <-p.exited: // the id may be another's by now
	default:
		_ = syscall.Kill(-p.pid, sig) // gone in between, at worst
	}
}

// describeExit says in words how the process ended.
func (p *devProcess) describeExit() string {
	if p.err == nil {
		return "ended unexpectedly"
	}
	return "ended unexpectedly: " + p.err.Error()
}

// rotateLog keeps the log of the run before beside the new one.
func rotateLog(path, old string) error {
	err := os.Rename(path, old)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
