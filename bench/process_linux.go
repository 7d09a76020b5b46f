package main

import "syscall"

// dieWithParent puts a child into a process group of its own, so that a
// terminal's Ctrl-C reaches only us and servers stop in order, and has the
// kernel kill it should we die without stopping it.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
