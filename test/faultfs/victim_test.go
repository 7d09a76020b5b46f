package main

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// victimWord starts the test binary as a program that writes and syncs a file.
const victimWord = "victim"

// victim writes and syncs without end, and says so before each sync.
func victim(args []string) int {
	f, err := os.OpenFile(args[0], os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for n := 0; ; n++ {
		if _, err := fmt.Fprintln(f, n); err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println(n)
		if err := f.Sync(); err != nil {
			fmt.Println(err)
			return 1
		}
	}
}

// startVictim runs one; the channel has its end.
func startVictim(t *testing.T, path string) (*exec.Cmd, <-chan error) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self, victimWord, path)
	must(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it may have ended
	return cmd, ended
}
