//go:build interop

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// leaseSuffix is the lease's part of the keys of locks and elections.
var leaseSuffix = regexp.MustCompile(`/[0-9a-f]{8,16}|/[-A-Za-z0-9+]{14,}`)

func TestLock_sameBytesAsEtcdctl(t *testing.T) {
	endpoint, etcdctl := startEtcd(t, ""), realTool(t, "etcdctl")
	for _, line := range []string{
		"lock", "lock L true", "lock L false", "lock L echo a b", "lock L -- sh -c exit\t7", "lock L -- echo -n x", "lock L /none/such",
		"elect", "elect E", "elect E a b", "elect E a -l", "lock L true --ttl x",
	} {
		args := strings.Split(line, " ")
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "\t", " ")
		}
		want := call(t, etcdctl, endpoint, "", args...)
		got := call(t, "conclave", endpoint, "", args...)
		if line == "lock L true --ttl x" {
			if got.code == 0 || want.code == 0 {
				t.Errorf("%s: %+v", line, got)
			}
			continue
		}
		if got != want {
			t.Errorf("%s\nconclave: %+v\netcdctl:  %+v", line, got, want)
		}
	}
	for _, line := range []string{"lock L", "lock L -w fields", "lock L -w table", "elect E me", "elect E me -w fields", "elect E me -w table"} {
		var got [2]outcome
		for i, program := range []string{etcdctl, "conclave"} {
			r := startCall(t, program, endpoint, nil, words(line)...)
			if strings.HasSuffix(line, "table") {
				got[i] = r.end(0)
				// etcdctl leaves the key behind for the time of its lease.
				call(t, etcdctl, endpoint, "", "del", "", "--from-key")
				continue
			}
			r.says("\n")
			got[i] = r.end(syscall.SIGINT)
			got[i].stdout = leaseSuffix.ReplaceAllString(got[i].stdout, "/ID")
			got[i].stdout = regexp.MustCompile(`(Revision"|Lease") : \d+`).ReplaceAllString(got[i].stdout, "$1 : N")
		}
		if got[0] != got[1] {
			t.Errorf("%s\nconclave: %+v\netcdctl:  %+v", line, got[1], got[0])
		}
		gone := call(t, etcdctl, endpoint, "", "get", "--prefix", "--keys-only", line[5:6])
		if gone.stdout != "" {
			t.Errorf("%s left %q", line, gone.stdout)
		}
	}
}

// Each program waits for a lock that the other holds, and hears of leaders that
// the other elects.
func TestLock_sharedWithEtcdctl(t *testing.T) {
	endpoint, etcdctl := startEtcd(t, ""), realTool(t, "etcdctl")
	for _, pair := range [][2]string{{etcdctl, "conclave"}, {"conclave", etcdctl}} {
		holder := startCall(t, pair[0], endpoint, nil, "lock", "L")
		holder.says("L/")
		waiter := startCall(t, pair[1], endpoint, nil, "lock", "L", "--", "echo", "got it")
		await(t, func() bool {
			return strings.Count(call(t, etcdctl, endpoint, "", "get", "--prefix", "--keys-only", "L/").stdout, "L/") == 2
		})
		if waiter.stdout.String() != "" {
			t.Fatalf("the lock was held twice")
		}
		if got := holder.end(syscall.SIGTERM); got.code != 0 {
			t.Errorf("holder: %+v", got)
		}
		if got := waiter.end(0); got.stdout != "got it\n" || got.code != 0 {
			t.Errorf("waiter: %+v", got)
		}

		observer := startCall(t, pair[0], endpoint, nil, "elect", "-l", "E")
		leader := startCall(t, pair[1], endpoint, nil, "elect", "E", "first")
		observer.says("\nfirst\n")
		leader.end(syscall.SIGINT)
		leader = startCall(t, pair[1], endpoint, nil, "elect", "E", "second")
		observer.says("\nsecond\n")
		leader.end(syscall.SIGINT)
		if got := observer.end(syscall.SIGINT); got.code != 0 || got.errors != "" {
			t.Errorf("observer: %+v", got)
		}
	}
}

// A waiter that is stopped leaves nothing that others would wait for.
func TestLock_stoppedWaiter(t *testing.T) {
	endpoint, etcdctl := startEtcd(t, ""), realTool(t, "etcdctl")
	holder := startCall(t, "conclave", endpoint, nil, "lock", "L")
	holder.says("L/")
	waiter := startCall(t, "conclave", endpoint, nil, "lock", "L", "true")
	keys := func() int {
		return strings.Count(call(t, etcdctl, endpoint, "", "get", "--prefix", "--keys-only", "L/").stdout, "L/")
	}
	await(t, func() bool { return keys() == 2 })
	if got := waiter.end(syscall.SIGINT); got.code != exitError || got.errors != "Error: context canceled" {
		t.Errorf("waiter: %+v", got)
	}
	if n := keys(); n != 1 {
		t.Errorf("%d keys, want the holder's", n)
	}
	if got := call(t, etcdctl, endpoint, "", "lease", "list"); !strings.HasPrefix(got.stdout, "found 1 leases\n") {
		t.Errorf("leases: %s", got.stdout)
	}
}

// Tokens grow from holder to holder, and are the key's create revision.
func TestLock_fencingToken(t *testing.T) {
	endpoint := startEtcd(t, "")
	last := ""
	for range 3 {
		got := call(t, "conclave", endpoint, "", "lock", "L", "--", "sh", "-c",
			`conclave get "$ETCD_LOCK_KEY" -w fields | sed -n 's/^"CreateRevision" : //p'; echo $CONCLAVE_FENCING_TOKEN`)
		created, token, _ := strings.Cut(strings.TrimSpace(got.stdout), "\n")
		if created != token || token <= last {
			t.Errorf("created at %s, token %s, the one before %s: %+v", created, token, last, got)
		}
		last = token
	}
}

// A lock whose lease is gone ends its command, with all that it has started.
func TestLock_lostEndsCommand(t *testing.T) {
	endpoint, etcdctl := startEtcd(t, ""), realTool(t, "etcdctl")
	dir := t.TempDir()
	r := startCall(t, "conclave", endpoint, nil, "lock", "L", "--ttl", "2s", "--", "sh", "-c",
		`(trap "" TERM; while [ ! -e `+dir+`/stop ]; do sleep 0.1; done) & echo $ETCD_LOCK_KEY; wait`)
	r.says("\n")
	id := fmt.Sprintf("%016s", strings.TrimSpace(r.stdout.String()[len("L/"):]))
	if got := call(t, etcdctl, endpoint, "", "lease", "revoke", id); got.code != 0 {
		t.Fatalf("revoke: %+v", got)
	}
	got := r.end(0)
	if want := "Error: the lock was lost: its lease " + id + " was revoked, or not renewed for 2s; the command was ended"; got.code != exitLost || got.errors != want {
		t.Errorf("got %+v, want %s", got, want)
	}
}

func await(t *testing.T, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if holds() {
			return
		}
	}
	t.Fatal("it never came to that")
}

// The example of fencing in docs/locks.md: a holder writes, and what was a
// holder before does not.
func TestLocksPage_fencing(t *testing.T) {
	endpoint, etcdctl := startEtcd(t, ""), realTool(t, "etcdctl")
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "locks.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```sh\nconclave lock report -- sh -c '\n")
	script, _, ok := strings.Cut(rest, "'\n```")
	if !ok {
		t.Fatal("docs/locks.md has no example of fencing")
	}
	holder := call(t, "conclave", endpoint, "", "lock", "report", "--", "sh", "-c", script)
	if holder.stdout != "SUCCESS\n\nOK\n" || holder.code != 0 {
		t.Errorf("holder: %+v", holder)
	}
	call(t, etcdctl, endpoint, "", "del", "report/last")
	// A holder that was paused: the lock is lost and taken while it sleeps.
	paused := call(t, "conclave", endpoint, "", "lock", "report", "--", "sh", "-c",
		`conclave del "$ETCD_LOCK_KEY" >/dev/null; conclave lock report -- true;`+script)
	if paused.stdout != "FAILURE\n" {
		t.Errorf("paused holder: %+v", paused)
	}
	if got := call(t, etcdctl, endpoint, "", "get", "report/last"); got.stdout != "" {
		t.Errorf("the paused holder has written: %q", got.stdout)
	}
}
