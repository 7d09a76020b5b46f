//go:build interop

package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stopGrace is how long a process may take to stop before it is killed.
const stopGrace = 15 * time.Second

// process is one running program in a process group of its own.
type process struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	out   string        // file that both output streams are appended to
	start int64         // where in out this process began
	ended chan struct{} // closed when Wait has returned
}

// launch starts a program in dir. It is killed when the test ends, and what it
// said is shown if the test failed.
func launch(t *testing.T, name, dir string, argv ...string) *process {
	t.Helper()
	path := filepath.Join(dir, name+".log")
	out, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p := &process{t: t, name: name, cmd: exec.Command(argv[0], argv[1:]...), out: path, ended: make(chan struct{})}
	if info, err := out.Stat(); err == nil {
		p.start = info.Size()
	}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, out, out
	p.cmd.Env = environment()
	// The kernel ends it should this process die without its clean-up.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // ProcessState has the outcome
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s (%s) said last:\n%s", p.name, p.cmd.ProcessState, tail(p.said(), 40))
		}
	})
	return p
}

// environment is ours without what would change the programs under test.
func environment() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "CONCLAVE_") && !strings.HasPrefix(kv, "ETCD") && !strings.HasPrefix(kv, "NOTIFY_SOCKET=") {
			env = append(env, kv)
		}
	}
	return env
}

// said is what the process has printed.
func (p *process) said() string {
	text, err := os.ReadFile(p.out)
	if err != nil || int64(len(text)) < p.start {
		return fmt.Sprint(err)
	}
	return string(text[p.start:])
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// kill ends the whole group at once and waits.
func (p *process) kill() {
	if p.running() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // fails only when it just ended
	}
	<-p.ended
}

// stop asks the process to end and waits; it must not have to be killed.
func (p *process) stop() {
	p.t.Helper()
	if !p.running() {
		p.t.Errorf("%s has ended by itself: %s", p.name, p.cmd.ProcessState)
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(stopGrace):
		p.t.Errorf("%s has not stopped %v after SIGTERM", p.name, stopGrace)
		p.kill()
	}
}

// exit waits until the process ends by itself and returns its exit code.
func (p *process) exit(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(within):
		p.t.Fatalf("%s has not ended after %v", p.name, within)
	}
	return p.cmd.ProcessState.ExitCode()
}

// says waits until the process has printed all of the parts.
func (p *process) says(within time.Duration, parts ...string) {
	p.t.Helper()
	eventually(p.t, within, p.name+" to log", func() error {
		text := p.said()
		for _, part := range parts {
			if !strings.Contains(text, part) {
				if !p.running() {
					p.t.Fatalf("%s has ended (%s) without saying %q", p.name, p.cmd.ProcessState, part)
				}
				return fmt.Errorf("no %q", part)
			}
		}
		return nil
	})
}

// tail is the end of a text, its long lines cut.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	all = all[max(0, len(all)-lines):]
	for i, line := range all {
		all[i] = line[:min(len(line), 400)]
	}
	return strings.Join(all, "\n")
}

// output runs a program to its end and returns both its streams; the error
// holds them too.
func output(dir, stdin string, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var out bytes.Buffer
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, strings.NewReader(stdin), &out, &out
	cmd.Env = environment()
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		err = errors.Join(ctx.Err(), err)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out.String())
	}
	return out.String(), err
}

// must runs a program that has to succeed.
func must(t *testing.T, dir string, argv ...string) string {
	t.Helper()
	out, err := output(dir, "", argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
