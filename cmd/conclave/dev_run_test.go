package main

import (
	"bufio"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// devRun is a running `conclave dev`, with what it prints.
type devRun struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
	seen  []string
	ended chan error
}

// devPatience bounds each wait of a test, on a slow and busy machine.
const devPatience = time.Minute

// startDev starts dev in a process group of its own, like a shell, so that
// what is left of it can be killed when the test ends.
func startDev(t *testing.T, args ...string) *devRun {
	t.Helper()
	r := &devRun{t: t, cmd: exec.Command("conclave", append([]string{"dev"}, args...)...), lines: make(chan string, 1000), ended: make(chan error, 1)}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.cmd.Stdout, r.cmd.Stderr = write, write
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close() //nolint:errcheck // dev has it
	go func() {
		defer read.Close() //nolint:errcheck // only read
		for scan := bufio.NewScanner(read); scan.Scan(); {
			r.lines <- scan.Text()
		}
		close(r.lines)
		r.ended <- r.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill() // its members follow
		for range r.lines {      // until the reader is done
		}
		if t.Failed() {
			t.Logf("dev said:\n%s", strings.Join(r.seen, "\n"))
		}
	})
	return r
}

// await reads what dev prints until a line matches, and returns the match.
func (r *devRun) await(pattern string) []string {
	r.t.Helper()
	timeout := time.After(devPatience)
	for {
		select {
		case line, ok := <-r.lines:
			if !ok {
				r.t.Fatalf("dev ended without a line like %q", pattern)
			}
			r.seen = append(r.seen, line)
			if m := regexp.MustCompile(pattern).FindStringSubmatch(line); m != nil {
				return m
			}
		case <-timeout:
			r.t.Fatalf("dev does not say %q", pattern)
		}
	}
}

// finish reads the rest and returns how dev ended.
func (r *devRun) finish() error {
	r.t.Helper()
	timeout := time.After(devPatience)
	for {
		select {
		case line, ok := <-r.lines:
			if !ok {
				return <-r.ended
			}
			r.seen = append(r.seen, line)
		case <-timeout:
			r.t.Fatal("dev does not end")
		}
	}
}

// said is all output so far.
func (r *devRun) said() string { return strings.Join(r.seen, "\n") + "\n" }

// ready waits until the cluster runs and returns the processes of its members.
func (r *devRun) ready() []int {
	r.t.Helper()
	r.await(`^Ctrl-C stops the cluster\.$`)
	var pids []int
	for _, m := range regexp.MustCompile(`(?m)^m\d +process (\d+)`).FindAllStringSubmatch(r.said(), -1) {
		pid, err := strconv.Atoi(m[1])
		if err != nil {
			r.t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// pasted returns the commands dev prints to be pasted.
func (r *devRun) pasted() []string {
	r.t.Helper()
	_, text, ok := strings.Cut(r.said(), "\nLines to paste:\n")
	if !ok {
		r.t.Fatal("no lines to paste")
	}
	var commands []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasSuffix(line, ":") && !strings.HasSuffix(line, ".") {
			commands = append(commands, line)
		}
	}
	return commands
}

// gone waits until none of the processes runs any more.
func gone(t *testing.T, pids []int) {
	t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(devPatience); ; <-look.C {
		running := 0
		for _, pid := range pids {
			if syscall.Kill(pid, 0) == nil && !zombie(pid) {
				running = pid
			}
		}
		if running == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d still runs", running)
		}
	}
}

// zombie reports whether a process has ended, and nobody has asked how: a
// container's first process may not ask for those it inherits.
func zombie(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, rest, _ := strings.Cut(string(stat), ") ")
	return err == nil && strings.HasPrefix(rest, "Z")
}

// shell runs a line as pasted into a shell in which the etcdctl program is the
// given one.
func shell(t *testing.T, etcdctl, line string) string {
	t.Helper()
	bin := t.TempDir()
	if err := os.Symlink(etcdctl, filepath.Join(bin, "etcdctl")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "source() { . \"$1\"; }\n"+line) // not every sh has source
	cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s\n%v: %s", line, err, out)
	}
	return string(out)
}

// newDevDir makes a directory in which dev finds its choice of ports already
// made: the usual ones may be another test's, or a user's.
func newDevDir(t *testing.T) devDir {
	t.Helper()
	real, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	distance := 10 * rand.IntN(80) // from the usual ones, in either direction
	free := func(port int) bool {
		away := port%10000 - devClientPorts[0]
		return max(away, -away) >= distance && freeTCP(port)
	}
	s, _, err := chooseDevState(devDefaultMembers, free, freeUDP)
	if err != nil {
		t.Fatal(err)
	}
	dir := devDir(filepath.Join(real, "a dev's")) // pasted lines need quotes
	if err := os.Mkdir(string(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.save(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}
