//go:build interop

package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A command under a lock has the terminal: it may read what is typed.
func TestLock_commandHasTheTerminal(t *testing.T) {
	endpoint := startEtcd(t, "")
	for _, from := range []string{"", " </dev/tty"} {
		got := call(t, "script", endpoint, "typed\n", "-qec", `conclave lock L -- sh -c 'read x`+from+`; echo "got $x"; exit 4'`, "/dev/null")
		if !strings.Contains(got.stdout, "got typed") || got.code != 4 {
			t.Errorf("reading from the terminal%s: %+v", from, got)
		}
	}
}

// A command that is stopped as by Ctrl-Z stops conclave, which a shell then lets go
// on with the command.
func TestLock_stoppedAndContinued(t *testing.T) {
	endpoint := startEtcd(t, "")
	path := filepath.Join(t.TempDir(), "job.sh")
	script := `set -m
conclave lock L --ttl 60 -- sh -c 'kill -TSTP $$; read x; echo "resumed with $x"; exit 3'
echo "stopped $?"
fg
echo "status $?"
`
	if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	got := call(t, "script", endpoint, "typed\n", "-qec", "bash "+path, "/dev/null")
	for _, want := range []string{"stopped 148", "resumed with typed", "status 3"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("no %q in %+v", want, got)
		}
	}
}

// A cluster that does not answer does not keep a command from being ended before
// it holds anything.
func TestHold_endedBeforeItHolds(t *testing.T) {
	for _, line := range []string{"lock L true", "elect E me", "register K v"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		r := startCall(t, "conclave", l.Addr().String(), nil, append(words(line), "--command-timeout", "60s")...)
		conn, err := l.Accept() // and say nothing
		if err != nil {
			t.Fatal(err)
		}
		got := r.end(syscall.SIGINT)
		if status, ok := r.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGINT {
			t.Errorf("%s ended by %s: %+v", line, r.cmd.ProcessState, got)
		}
		_ = conn.Close()
		_ = l.Close()
	}
}
