package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// devTaker is a process that has a port.
type devTaker struct {
	pid     int
	command string // with its arguments, shortened
	program string // path, as the kernel says it; empty if not readable
}

func (t devTaker) String() string { return fmt.Sprintf("process %d (%s)", t.pid, t.command) }

// runs reports whether the process runs the program at path, or ran it before
// a newer copy took its place.
func (t devTaker) runs(path string) bool {
	return strings.TrimSuffix(t.program, " (deleted)") == path
}

// maxTakerCommand bounds how much of a command line is shown, in bytes.
const maxTakerCommand = 100

// findTaker names the process that listens on a port of this machine. It reads
// Linux's /proc; elsewhere, and for processes of other users, it finds none.
func findTaker(port int) (devTaker, bool) {
	inodes := map[string]bool{}
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		raw, err := os.ReadFile("/proc/net/" + table)
		if err != nil {
			continue
		}
		for inode := range listeningInodes(string(raw), port) {
			inodes[inode] = true
		}
	}
	if len(inodes) == 0 {
		return devTaker{}, false
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return devTaker{}, false
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil {
			continue
		}
		inode, ok := strings.CutPrefix(target, "socket:[")
		if ok && inodes[strings.TrimSuffix(inode, "]")] {
			return describeTaker(filepath.Dir(filepath.Dir(link)))
		}
	}
	return devTaker{}, false
}

// listeningInodes finds the sockets bound to a port in a table of /proc/net:
// for TCP those that listen, for UDP those without a peer.
func listeningInodes(table string, port int) map[string]bool {
	const (
		local, state, inode    = 1, 3, 9 // columns, see proc(5)
		listening, unconnected = "0A", "07"
	)
	found := map[string]bool{}
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) <= inode || f[state] != listening && f[state] != unconnected {
			continue
		}
		_, hex, _ := strings.Cut(f[local], ":")
		if n, err := strconv.ParseUint(hex, 16, 16); err == nil && int(n) == port {
			found[f[inode]] = true
		}
	}
	return found
}

// describeTaker reads a process's directory in /proc.
func describeTaker(proc string) (devTaker, bool) {
	pid, err := strconv.Atoi(filepath.Base(proc))
	if err != nil {
		return devTaker{}, false
	}
	t := devTaker{pid: pid}
	raw, _ := os.ReadFile(filepath.Join(proc, "cmdline")) // gone by now: named by id only
	t.command = strings.TrimSpace(strings.ReplaceAll(string(raw), "\x00", " "))
	if len(t.command) > maxTakerCommand {
		t.command = t.command[:maxTakerCommand] + "..."
	}
	if t.command == "" {
		t.command = "name unknown"
	}
	t.program, _ = os.Readlink(filepath.Join(proc, "exe")) // of another user: unknown
	return t, true
}
