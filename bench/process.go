package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// stopGrace is how long a server may take to stop before it is killed.
const stopGrace = 5 * time.Second

// process is one server process. A goroutine waits for its end; one that ends
// by itself fails the whole run.
type process struct {
	name     string
	cmd      *exec.Cmd
	log      string // file its output goes to
	expected atomic.Bool
	ended    chan struct{}
}

// startProcess runs a server with its output appended to the file log. fail is
// called when it ends unexpectedly.
func startProcess(name, log, binary string, args []string, fail context.CancelCauseFunc) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", name, err)
	}
	defer out.Close()
	p := &process{name: name, cmd: exec.Command(binary, args...), log: log, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = dieWithParent()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		err := p.cmd.Wait()
		if !p.expected.Load() {
			fail(fmt.Errorf("%s ended by itself (%w); its last lines:\n%s", name, orExit(err), p.tail()))
		}
		close(p.ended)
	}()
	return p, nil
}

func orExit(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// tail is the end of the process's log: five lines, the start of each.
func (p *process) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	lines = lines[max(0, len(lines)-5):]
	for i, line := range lines {
		lines[i] = line[:min(len(line), 300)]
	}
	return string(bytes.Join(lines, []byte("\n")))
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// signal sends a signal that does not end it.
func (p *process) signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("%s to %s: %w", s, p.name, err)
	}
	return nil
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// kill ends the process with SIGKILL and waits until it is gone.
func (p *process) kill() error {
	p.expected.Store(true)
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	<-p.ended
	return nil
}

// stop asks the process to end, insists after stopGrace, and waits.
func (p *process) stop() {
	p.expected.Store(true)
	_ = p.cmd.Process.Signal(syscall.SIGCONT) // it may be paused; an error says that it has ended
	if p.cmd.Process.Signal(syscall.SIGTERM) == nil {
		select {
		case <-p.ended:
			return
		case <-time.After(stopGrace):
		}
	}
	_ = p.cmd.Process.Kill() // fails only when it has ended, which is what is wanted
	<-p.ended
}

// ticksPerSecond is USER_HZ, the unit of CPU times in /proc, on every Linux
// platform that Go supports.
const ticksPerSecond = 100

// cpuSeconds is the processor time a process has used, user and system.
func cpuSeconds(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStat(string(text))
}

// parseStat takes utime and stime, fields 14 and 15 of proc(5)'s stat. The
// command name, field 2, may itself hold spaces and parentheses.
func parseStat(stat string) (float64, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("read CPU time: unexpected stat line %q", stat)
	}
	var ticks uint64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read CPU time: %w", err)
		}
		ticks += n
	}
	return float64(ticks) / ticksPerSecond, nil
}

// cpuOfAll sums the processor time of several processes, in seconds.
func cpuOfAll(pids []int) (float64, error) {
	var sum float64
	for _, pid := range pids {
		s, err := cpuSeconds(pid)
		if err != nil {
			return 0, err
		}
		sum += s
	}
	return sum, nil
}
