package main

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A program that ends at a password prompt leaves a terminal that shows what is
// typed, and ends as the signal would have it.
func TestAskSecret_signal(t *testing.T) {
	for _, signal := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT} {
		t.Run(signal.String(), func(t *testing.T) {
			_, terminal := openTerminal(t)
			cmd := askAt(t, terminal)
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // its state counts
			if !showsInput(t, terminal) {
				t.Error("the terminal does not show what is typed")
			}
			// Go programs end by themselves at SIGQUIT, with all stacks.
			how := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if signal == unix.SIGQUIT && how.ExitStatus() != 2 || signal != unix.SIGQUIT && how.Signal() != signal {
				t.Errorf("ended with %s", cmd.ProcessState)
			}
		})
	}
}

// The signals that keys send go the same way.
func TestAskSecret_controlC(t *testing.T) {
	keys, terminal := openTerminal(t)
	cmd := askAt(t, terminal)
	if _, err := keys.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // its state counts
	if !showsInput(t, terminal) {
		t.Error("the terminal does not show what is typed")
	}
	if how := cmd.ProcessState.Sys().(syscall.WaitStatus); how.Signal() != unix.SIGINT {
		t.Errorf("ended with %s", cmd.ProcessState)
	}
}

// askAt starts a command that asks for a password at a terminal of its own, and
// returns when it has asked.
func askAt(t *testing.T, terminal *os.File) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("conclave", "--user", "root", "get", "a")
	cmd.Stdin = terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	if text, err := bufio.NewReader(said).ReadString(':'); err != nil {
		t.Fatalf("it asked nothing: %q, %v", text, err)
	}
	if showsInput(t, terminal) {
		t.Error("the terminal shows what is typed at the prompt")
	}
	return cmd
}

// openTerminal returns both ends of a new terminal.
func openTerminal(t *testing.T) (keys, terminal *os.File) {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	number, err := unix.IoctlGetUint32(int(keys.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile("/dev/pts/"+strconv.Itoa(int(number)), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = terminal.Close() })
	return keys, terminal
}

func showsInput(t *testing.T, terminal *os.File) bool {
	t.Helper()
	mode, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return mode.Lflag&unix.ECHO != 0
}
