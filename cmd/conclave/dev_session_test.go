package main

import (
	"bufio"
	"io"
	"math/rand/v2"
	"net"
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
	first := 2400 + 10*rand.IntN(80)
	free := func(port int) bool { return port%10000 >= first && freeTCP(port) }
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

// checkLines pastes every line dev printed and looks at what comes out.
func checkLines(t *testing.T, etcdctl string, lines []string) {
	t.Helper()
	answers := []string{
		"OK\n", "greeting\nhello\n", "IS LEADER", "greeting\nhello\n", // with flags, the last by etcdctl
		"", "started, m3", "is healthy: successfully committed proposal", // with variables
	}
	if len(lines) != len(answers) {
		t.Fatalf("%d lines to paste: %q, want %d", len(lines), lines, len(answers))
	}
	env := ""
	for i, line := range lines {
		if strings.HasPrefix(line, "source ") {
			env = line + "\n"
			continue
		}
		out := shell(t, etcdctl, env+line)
		if !strings.Contains(out, answers[i]) || strings.Contains(out, "Warning") {
			t.Errorf("%s\nprinted %q, want %q", line, out, answers[i])
		}
	}
	if env == "" {
		t.Error("no env file to source")
	}
}

// ownEtcdctl is conclave under etcdctl's name, whose flags and variables it
// understands.
func ownEtcdctl(t *testing.T, dir devDir) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "etcdctl")
	text := "#!/bin/sh\nexec " + shellQuote(dir.programPath()) + ` "$@"` + "\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return script
}

func TestDev_session(t *testing.T) {
	dir := newDevDir(t)
	first := startDev(t, "--dir", string(dir))
	members := first.ready()
	if len(members) != devDefaultMembers {
		t.Fatalf("member processes %v, want %d", members, devDefaultMembers)
	}
	checkLines(t, ownEtcdctl(t, dir), first.pasted())

	t.Run("second dev is refused", func(t *testing.T) {
		second := startDev(t, "--dir", string(dir), "--reset")
		if err := second.finish(); err == nil || !strings.Contains(second.said(), "another conclave dev runs there") {
			t.Errorf("a second dev on the directory: %v\n%s", err, second.said())
		}
	})
	leader := regexp.MustCompile(`(?m)^m(\d) .* leader `).FindStringSubmatch(first.said())
	if leader == nil {
		t.Fatalf("no member is marked as the leader:\n%s", first.said())
	}
	follower := "1"
	if leader[1] == follower {
		follower = "2"
	}
	t.Run("member that dies is restarted", func(t *testing.T) {
		if err := syscall.Kill(members[follower[0]-'1'], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		first.await(`^m` + follower + ` +ended unexpectedly: signal: killed$`)
		first.await(`^ +its last words: .`)
		pid, err := strconv.Atoi(first.await(`^m` + follower + ` +process (\d+)$`)[1])
		if err != nil {
			t.Fatal(err)
		}
		members = append(members, pid)
	})
	t.Run("Ctrl-C stops the leader last", func(t *testing.T) {
		if err := first.cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if err := first.finish(); err != nil {
			t.Errorf("after Ctrl-C dev ends with %v", err)
		}
		stops := regexp.MustCompile(`(?m)^m(\d) +stopped in `).FindAllStringSubmatch(first.said(), -1)
		if len(stops) != 3 || stops[2][1] != leader[1] {
			t.Errorf("stopped %q; want three, the last m%s, which leads", stops, leader[1])
		}
		gone(t, members)
	})
	t.Run("the same command continues", func(t *testing.T) {
		again := startDev(t, "--dir", string(dir))
		members := again.ready()
		if !strings.Contains(again.said(), "continuing the cluster of 3 members") {
			t.Error("dev does not say that it continues")
		}
		out := shell(t, "/bin/false", again.pasted()[1])
		if out != "greeting\nhello\n" {
			t.Errorf("the key is now %q", out)
		}
		if err := again.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = again.finish() // killed
		gone(t, members)
	})
	t.Run("port taken", func(t *testing.T) { checkTakenPort(t, dir) })
	t.Run("too late", func(t *testing.T) {
		late := startDev(t, "--dir", string(dir), "--timeout", "1ms")
		if err := late.finish(); err == nil || !strings.Contains(late.said(), "Error: not healthy after 1ms") ||
			!regexp.MustCompile(`(?m)^m3 .*its last words: .`).MatchString(late.said()) {
			t.Errorf("dev ended with %v:\n%s", err, late.said())
		}
	})
	t.Run("reset deletes its own", func(t *testing.T) { checkReset(t, dir) })
}

func checkTakenPort(t *testing.T, dir devDir) {
	s, err := loadDevState(dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", devAddr(s.Members[2].PeerPort))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // a test's listener
	r := startDev(t, "--dir", string(dir))
	err = r.finish()
	want := "Error: port " + strconv.Itoa(s.Members[2].PeerPort) + " (peers of m3) is taken by process " + strconv.Itoa(os.Getpid())
	if _, statErr := os.Stat("/proc/net/tcp"); statErr != nil {
		want = "(peers of m3) is taken by another program" // named on Linux only
	}
	if err == nil || !strings.Contains(r.said(), want) {
		t.Errorf("dev ended with %v:\n%s\nwant %s", err, r.said(), want)
	}
}

// checkReset lets dev find something of somebody else, and fail before it
// could make a new cluster on the usual ports.
func checkReset(t *testing.T, dir devDir) {
	mine := dir.path("notes")
	if err := os.WriteFile(mine, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := loadDevState(dir)
	if err != nil {
		t.Fatal(err)
	}
	d := &dev{dir: dir, state: s, out: &devOut{w: io.Discard}}
	if err := d.removeAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(string(dir))
	if err != nil || len(left) != 1 || left[0].Name() != "notes" {
		t.Errorf("left after --reset: %v, %v; want only the notes", left, err)
	}
}
