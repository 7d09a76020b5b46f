package faultdisk

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// answerTimeout bounds one command. A crash unmounts, forgets and mounts.
const answerTimeout = 30 * time.Second

// Available says why there can be no such disk here, or nil.
func Available() error {
	if os.Geteuid() != 0 {
		return errors.New("mounting a file system needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return fmt.Errorf("this system has no FUSE (modprobe fuse): %w", err)
	}
	return nil
}

// Build compiles the program into dir and returns its path. top is the top of
// the repository.
func Build(ctx context.Context, top, dir string) (string, error) {
	path, err := filepath.Abs(filepath.Join(dir, "faultfs"))
	if err != nil {
		return "", err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, ".")
	build.Dir = filepath.Join(top, "test", "faultfs")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build test/faultfs: %w\n%s", err, out)
	}
	return path, nil
}

// Disk is one mounted disk.
type Disk struct {
	Path string // where it is mounted

	cmd     *exec.Cmd
	ended   chan struct{}
	errors  bytes.Buffer // what the program complained of; to be read after ended
	mu      sync.Mutex   // one command at a time
	in      io.WriteCloser
	answers *bufio.Reader
	pipe    *os.File
}

// Start mounts backing's files at mountpoint; both are made if missing. The
// options are those of the program. Close it. Should this process die without,
// the program unmounts by itself.
func Start(program, backing, mountpoint string, options ...string) (*Disk, error) {
	answers, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	d := &Disk{
		Path: mountpoint, cmd: exec.Command(program, append(options, backing, mountpoint)...),
		ended: make(chan struct{}), answers: bufio.NewReader(answers), pipe: answers,
	}
	d.cmd.Stdout, d.cmd.Stderr = out, &d.errors
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C is for us
	if d.in, err = d.cmd.StdinPipe(); err == nil {
		err = d.cmd.Start()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", program, err), answers.Close())
	}
	go func() {
		_ = d.cmd.Wait() // ProcessState has the outcome
		close(d.ended)
	}()
	if _, err := d.answer(); err != nil {
		return nil, errors.Join(fmt.Errorf("mount %s: %w", mountpoint, err), d.Close())
	}
	return d, nil
}

// Do gives one command and returns the answer to it.
func (d *Disk) Do(command string, args ...any) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	words := []string{command}
	for _, a := range args {
		words = append(words, fmt.Sprint(a))
	}
	line := strings.Join(words, " ")
	if _, err := fmt.Fprintln(d.in, line); err != nil {
		return "", fmt.Errorf("disk %s: %s: %w", d.Path, line, err)
	}
	answer, err := d.answer()
	if err != nil {
		return "", fmt.Errorf("disk %s: %s: %w", d.Path, line, err)
	}
	return answer, nil
}

func (d *Disk) answer() (string, error) {
	if err := d.pipe.SetReadDeadline(time.Now().Add(answerTimeout)); err != nil {
		return "", err
	}
	line, err := d.answers.ReadString('\n')
	if errors.Is(err, io.EOF) {
		<-d.ended
		return "", fmt.Errorf("the program has ended: %s: %s", d.cmd.ProcessState, strings.TrimSpace(d.errors.String()))
	}
	if err != nil {
		return "", err
	}
	verdict, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	if verdict != "ok" {
		return "", errors.New(rest)
	}
	return rest, nil
}

// Count is the number of changes and syncs since the start.
func (d *Disk) Count() (int64, error) {
	text, err := d.Do("count")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(text, 10, 64)
}

// Stopped says whether the operation given to stop was reached.
func (d *Disk) Stopped() (bool, error) {
	text, err := d.Do("stopped")
	return text == "true", err
}

// closeGrace is how long the program may take to unmount.
const closeGrace = 10 * time.Second

// Close unmounts. Who still has files open there gets EIO.
func (d *Disk) Close() error {
	err := d.in.Close()
	defer d.pipe.Close()
	select {
	case <-d.ended:
	case <-time.After(closeGrace):
		_ = d.cmd.Process.Kill() // it has ended just now, or does
		<-d.ended
		return errors.Join(err, fmt.Errorf("disk %s: not unmounted within %v", d.Path, closeGrace),
			syscall.Unmount(d.Path, syscall.MNT_DETACH))
	}
	if !d.cmd.ProcessState.Success() || d.errors.Len() > 0 {
		return fmt.Errorf("disk %s: %s: %s", d.Path, d.cmd.ProcessState, strings.TrimSpace(d.errors.String()))
	}
	return err
}
