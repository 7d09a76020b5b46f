package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestDevLines_wholeAndQuoted(t *testing.T) {
	d := &dev{dir: "/home/me/my tests", state: usualDevState(t, 3)}
	want := `'/home/me/my tests/bin/conclave' ` +
		`--endpoints=https://127.0.0.1:2379,https://127.0.0.1:22379,https://127.0.0.1:32379 ` +
		`'--cacert=/home/me/my tests/ca.crt' '--cert=/home/me/my tests/root.crt' '--key=/home/me/my tests/root.key' put greeting hello`
	if lines := d.lines(); !strings.Contains(lines, "\n"+want+"\n") {
		t.Errorf("lines:\n%s\nwant among them:\n%s", lines, want)
	}
	if lines := d.lines(); !strings.Contains(lines, "\nsource '/home/me/my tests/env'\n") {
		t.Errorf("lines do not source the env file:\n%s", lines)
	}
}

func TestDevTable_marksLeader(t *testing.T) {
	d := &dev{dir: "/d", state: usualDevState(t, 2)}
	table := d.table(devStatus{ids: map[string]uint64{"m1": 0x1a, "m2": 0x2b}, leader: "m2"})
	rows := strings.Split(strings.TrimSpace(table), "\n")
	want := [][]string{
		{"MEMBER", "ID", "CLIENTS", "PEERS", "LEADER", "DATA"},
		{"m1", "1a", "https://127.0.0.1:2379", "https://m1.conclave.test:2380", "/d/m1.conclave"},
		{"m2", "2b", "https://127.0.0.1:22379", "https://m2.conclave.test:22380", "leader", "/d/m2.conclave"},
	}
	if len(rows) != len(want) {
		t.Fatalf("table:\n%s", table)
	}
	for i, row := range rows {
		if got := strings.Fields(row); strings.Join(got, " ") != strings.Join(want[i], " ") {
			t.Errorf("row %d: %q, want %q", i, got, want[i])
		}
	}
}

// The env file is read by a shell, so a shell judges it.
func TestDevEnv_readByShell(t *testing.T) {
	dir := devDir(filepath.Join(t.TempDir(), `it's "odd" $HOME`))
	if err := os.Mkdir(string(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	d := &dev{dir: dir, state: usualDevState(t, 1)}
	if err := os.WriteFile(dir.envPath(), []byte(d.env()), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", `. `+shellQuote(dir.envPath())+` && env`).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{
		"CONCLAVE_ENDPOINTS=https://127.0.0.1:2379", "CONCLAVE_CACERT=" + dir.caPath(), "CONCLAVE_CERT=" + dir.certPath(), "CONCLAVE_KEY=" + dir.keyPath(),
		"ETCDCTL_ENDPOINTS=https://127.0.0.1:2379", "ETCDCTL_CACERT=" + dir.caPath(), "ETCDCTL_CERT=" + dir.certPath(), "ETCDCTL_KEY=" + dir.keyPath(),
	} {
		if !strings.Contains("\n"+string(out), "\n"+want+"\n") {
			t.Errorf("the shell has no %s", want)
		}
	}
}
