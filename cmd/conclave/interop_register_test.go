//go:build interop

package main

import (
	"strings"
	"syscall"
	"testing"
)

func TestRegister_whileCommandRuns(t *testing.T) {
	endpoint := startEtcd(t, "")
	got := call(t, "conclave", endpoint, "", "register", "/s/a", "addr", "--ttl", "5s", "--", "sh", "-c", "conclave get /s/a; exit 7")
	if got.stdout != "/s/a\naddr\n" || got.code != 7 {
		t.Errorf("got %+v", got)
	}
	if got := call(t, "conclave", endpoint, "", "get", "/s/a"); got.stdout != "" {
		t.Errorf("the key is still there: %q", got.stdout)
	}
	if got := call(t, "conclave", endpoint, "", "register", "/s/a", "v", "/none/such"); got.code != exitError || !strings.Contains(got.errors, "no such file") {
		t.Errorf("got %+v", got)
	}
	if got := call(t, "conclave", endpoint, "", "lease", "list"); got.stdout != "found 0 leases\n" {
		t.Errorf("got %q", got.stdout)
	}
}

func TestRegister_untilSignal(t *testing.T) {
	endpoint := startEtcd(t, "")
	w := startCall(t, "conclave", endpoint, nil, "watch", "--prefix", "/s/", "--rev", "1", "--", "sh", "-c", `echo "$ETCD_WATCH_EVENT_TYPE"`)
	r := startCall(t, "conclave", endpoint, nil, "register", "/s/a", "addr")
	w.says(`"PUT"`)
	r.says("/s/a registered under lease ")
	if got := r.end(syscall.SIGTERM); got.code != 0 || got.errors != "" {
		t.Errorf("got %+v", got)
	}
	w.says(`"DELETE"`)
}

func TestRegister_keyOfAnother(t *testing.T) {
	endpoint := startEtcd(t, "")
	first := startCall(t, "conclave", endpoint, nil, "register", "/s/a", "first")
	first.says("registered")
	got := call(t, "conclave", endpoint, "", "register", "/s/a", "second", "true")
	if want := `Error: "/s/a" is there already, under lease `; got.code != exitError || !strings.HasPrefix(got.errors, want) {
		t.Errorf("got %+v, want %s", got, want)
	}
	got = call(t, "conclave", endpoint, "", "register", "--replace", "/s/a", "second", "--", "conclave", "get", "/s/a")
	if got.stdout != "/s/a\nsecond\n" || got.code != 0 {
		t.Errorf("got %+v", got)
	}
	first.end(syscall.SIGINT)
}

// A key that somebody else deletes comes back, and one that is taken over when it
// is free again.
func TestRegister_keyGoneOrTaken(t *testing.T) {
	endpoint, etcdctl := startEtcd(t, ""), realTool(t, "etcdctl")
	value := func() string { return call(t, etcdctl, endpoint, "", "get", "/s/a", "--print-value-only").stdout }
	r := startCall(t, "conclave", endpoint, nil, "register", "/s/a", "addr", "--ttl", "60")
	r.says("registered under lease ")
	call(t, etcdctl, endpoint, "", "del", "/s/a")
	await(t, func() bool { return value() == "addr\n" })
	await(t, func() bool {
		return strings.Contains(r.stderr.String(), "Warning: the registration of /s/a was lost (lease ")
	})
	call(t, etcdctl, endpoint, "", "put", "/s/a", "other")
	await(t, func() bool { return strings.Contains(r.stderr.String(), "was taken over (lease ") })
	await(t, func() bool {
		return strings.Contains(r.stderr.String(), `cannot register /s/a yet: "/s/a" is there already`)
	})
	if got := value(); got != "other\n" {
		t.Errorf("somebody else's is now %q", got)
	}
	call(t, etcdctl, endpoint, "", "del", "/s/a")
	await(t, func() bool { return value() == "addr\n" })
	if got := r.end(syscall.SIGINT); got.code != 0 {
		t.Errorf("got %+v", got)
	}
	if got := call(t, etcdctl, endpoint, "", "lease", "list"); got.stdout != "found 0 leases\n" {
		t.Errorf("got %q", got.stdout)
	}
}

// A lease that is gone while the command runs is replaced.
func TestRegister_againAfterLoss(t *testing.T) {
	endpoint, etcdctl := startEtcd(t, ""), realTool(t, "etcdctl")
	r := startCall(t, "conclave", endpoint, nil, "register", "/s/a", "addr", "--ttl", "2")
	r.says("registered under lease ")
	_, rest, _ := strings.Cut(r.stdout.String(), "under lease ")
	id := rest[:16]
	if got := call(t, etcdctl, endpoint, "", "lease", "revoke", id); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	await(t, func() bool { return call(t, etcdctl, endpoint, "", "get", "/s/a").stdout == "/s/a\naddr\n" })
	await(t, func() bool { return strings.Contains(r.stderr.String(), "\n/s/a registered under lease ") })
	if want := "Warning: the registration of /s/a was lost (lease " + id + "); registering it again\n"; !strings.HasPrefix(r.stderr.String(), want) {
		t.Errorf("said %q, want %q", r.stderr.String(), want)
	}
	if got := r.end(syscall.SIGINT); got.code != 0 {
		t.Errorf("got %+v", got)
	}
	if got := call(t, etcdctl, endpoint, "", "get", "/s/a"); got.stdout != "" {
		t.Errorf("left %q", got.stdout)
	}
}
