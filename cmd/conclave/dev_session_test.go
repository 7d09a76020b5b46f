package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

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
	l := listenSoon(t, devAddr(s.Members[2].PeerPort))
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

// listenSoon listens where a process that was killed did a moment ago: it counts
// as a zombie while its last threads still hold the port.
func listenSoon(t *testing.T, addr string) net.Listener {
	t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(devPatience); ; <-look.C {
		l, err := net.Listen("tcp", addr)
		if err == nil {
			return l
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
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
