//go:build interop

package main

import (
	"syscall"
	"testing"
)

// The lines dev prints are pasted with the real etcdctl in the path.
func TestDev_realEtcdctl(t *testing.T) {
	r := startDev(t, "--dir", string(newDevDir(t)))
	members := r.ready()
	checkLines(t, realTool(t, "etcdctl"), r.pasted())
	if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := r.finish(); err != nil {
		t.Errorf("after Ctrl-C dev ends with %v", err)
	}
	gone(t, members)
}
