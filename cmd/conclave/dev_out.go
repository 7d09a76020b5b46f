package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/conclave-kv/conclave/internal/durable"
)

// devOut writes what dev does, a line each, from any goroutine.
type devOut struct {
	mu sync.Mutex
	w  io.Writer
}

// line writes one line about a part of the cluster; without one it goes on
// about the part before.
func (o *devOut) line(part, format string, args ...any) {
	o.write(fmt.Sprintf("%-9s  %s\n", part, fmt.Sprintf(format, args...)))
}

func (o *devOut) write(s string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, _ = io.WriteString(o.w, s) // nobody reads it then
}

// show prints the members and what to paste, and writes the env file.
func (d *dev) show(ctx context.Context) error {
	status, err := d.clients.status(ctx)
	if err != nil {
		return fmt.Errorf("ask for the members: %w", err)
	}
	if err := durable.WriteFile(d.dir.envPath(), []byte(d.env()), 0o600); err != nil {
		return fmt.Errorf("--dir %s: %w", d.dir, err)
	}
	d.out.write("\n" + d.table(status) + "\n" + d.lines() + "\nCtrl-C stops the cluster.\n")
	return nil
}

// table lists the members.
func (d *dev) table(status devStatus) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	row := func(cells ...string) { fmt.Fprintln(w, strings.Join(cells, "\t")) }
	row("MEMBER", "ID", "CLIENTS", "PEERS", "LEADER", "DATA")
	for _, m := range d.state.Members {
		leader := ""
		if m.Name == status.leader {
			leader = "leader"
		}
		row(m.Name, fmt.Sprintf("%x", status.ids[m.Name]), m.clientURL(), m.peerURL(), leader, d.dir.dataPath(m.Name))
	}
	_ = w.Flush() // a strings.Builder does not fail
	return b.String()
}

// access is how clients reach the cluster: the names of global flags, and of
// environment variables, with their values.
func (d *dev) access() [][2]string {
	return [][2]string{
		{"endpoints", strings.Join(d.state.clientURLs(), ",")},
		{"cacert", d.dir.caPath()},
		{"cert", d.dir.certPath()},
		{"key", d.dir.keyPath()},
	}
}

// lines are commands that work as pasted into any shell on this machine.
func (d *dev) lines() string {
	var flags []string
	for _, a := range d.access() {
		flags = append(flags, shellQuote("--"+a[0]+"="+a[1]))
	}
	program, reach := shellQuote(d.dir.programPath()), strings.Join(flags, " ")
	var b strings.Builder
	b.WriteString("Lines to paste:\n\n")
	for _, words := range []string{"put greeting hello", "get greeting", "endpoint status --write-out=table"} {
		fmt.Fprintf(&b, "%s %s %s\n", program, reach, words)
	}
	b.WriteString("\nWith etcdctl:\n\n")
	fmt.Fprintf(&b, "etcdctl %s get greeting\n", reach)
	b.WriteString("\nThe same with variables instead of flags:\n\n")
	fmt.Fprintf(&b, "source %s\n%s member list\netcdctl endpoint health --cluster\n", shellQuote(d.dir.envPath()), program)
	return b.String()
}

// env is the env file, for any POSIX shell.
func (d *dev) env() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# How clients reach the cluster of conclave dev in this directory: source it.\n")
	for _, prefix := range clientPrefixes {
		for _, a := range d.access() {
			fmt.Fprintf(&b, "export %s=%s\n", variable(prefix, a[0]), shellQuote(a[1]))
		}
	}
	return b.String()
}

// shellQuote writes a word so that a shell reads it as it is.
func shellQuote(word string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_./:,=@%+", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
