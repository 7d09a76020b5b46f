package main

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startMember runs a member in a process of its own, with a systemd socket,
// and returns once systemd would be told that it is ready.
func startMember(t *testing.T) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	dir := t.TempDir()
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	cmd := exec.Command("conclave", "--data-dir", filepath.Join(dir, "data"), "--cluster-secret-file=",
		"--listen-client-urls", "http://127.0.0.1:0", "--advertise-client-urls", "http://127.0.0.1:1",
		"--listen-peer-urls", "http://127.0.0.1:0", "--initial-advertise-peer-urls", "http://127.0.0.1:1")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "NOTIFY_SOCKET=" + filepath.Join(dir, "notify")}
	cmd.WaitDelay = 10 * time.Second
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	if err := socket.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	state := make([]byte, 64)
	n, err := socket.Read(state)
	if err != nil || string(state[:n]) != "READY=1" {
		_ = cmd.Process.Kill()
		said, _ := io.ReadAll(log)
		t.Fatalf("systemd was told %q, %v; the member said %s", state[:n], err, said)
	}
	return cmd, bufio.NewScanner(log)
}

// A supervisor sees that the process ended by the signal it sent.
func TestServe_endsByItsSignal(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		cmd, log := startMember(t)
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		said := false
		for log.Scan() {
			said = said || strings.Contains(log.Text(), `"msg":"received signal; shutting down"`)
		}
		if !said {
			t.Errorf("%v: no line says that the signal was received", sig)
		}
		_ = cmd.Wait()
		if status := cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != sig {
			t.Errorf("%v: the process ended with %v", sig, cmd.ProcessState)
		}
	}
}

func TestGHSA528j9r78wffx_secretsInFlags(t *testing.T) {
	got := redacted([]string{"conclave", "--name", "m", "--discovery-password", "p1", "-discovery-user=u:p2", "--discovery-user", "u:p3", "--wal-dir=x", "--initial-cluster=m=http://u:p4@h:1"})
	want := []string{"conclave", "--name", "m", "--discovery-password", "***", "--discovery-user=***", "--discovery-user", "***", "--wal-dir=x", "--initial-cluster=m=http://***@h:1"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
