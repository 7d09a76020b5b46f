//go:build interop

package main

import (
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// grantID matches the id in a printed lease, which the server chooses.
var grantID = regexp.MustCompile(`^lease ([0-9a-f]{16}) granted`)

// leaseOf grants a lease with a program and returns its id as printed.
func leaseOf(t *testing.T, program, endpoint string) string {
	t.Helper()
	got := call(t, program, endpoint, "", "lease", "grant", "1000")
	found := grantID.FindStringSubmatch(got.stdout)
	if found == nil {
		t.Fatalf("%s lease grant: %+v", program, got)
	}
	return found[1]
}

func TestLease_sameBytesAsEtcdctl(t *testing.T) {
	endpoint, etcdctl := startEtcd(t, ""), realTool(t, "etcdctl")
	empty := startEtcd(t, "")
	id := leaseOf(t, "conclave", endpoint)
	// One key: etcd tells several in any order.
	if got := call(t, "conclave", endpoint, "", "put", "b c", "v", "--lease", id); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	for _, f := range formats {
		for _, hex := range []string{"", " --hex"} {
			for _, q := range []string{"timetolive %s", "timetolive %s --keys", "list", "keep-alive --once %s", "timetolive 77", "timetolive 77 --keys", "keep-alive 77"} {
				line := "lease " + strings.ReplaceAll(q, "%s", id) + " -w " + f + hex
				sameAnswer(t, etcdctl, endpoint, line)
			}
			sameAnswer(t, etcdctl, empty, "lease list -w "+f+hex)
		}
	}
	for _, line := range []string{
		"lease grant", "lease grant x", "lease grant 1 2", "lease grant 99999999999999", "lease revoke", "lease revoke zz", "lease revoke 77",
		"lease timetolive", "lease timetolive zz", "lease keep-alive", "lease keep-alive zz", "lease keep-alive --once 77",
		"put x y --lease 77",
	} {
		sameAnswer(t, etcdctl, endpoint, line)
	}
	for _, f := range []string{"simple", "json", "fields", "table"} {
		var got [2]outcome
		for i, program := range []string{etcdctl, "conclave"} {
			id := leaseOf(t, program, endpoint)
			got[i] = call(t, program, endpoint, "", "lease", "revoke", id, "-w", f)
			got[i].stdout = strings.ReplaceAll(got[i].stdout, id, "ID")
			grant := call(t, program, endpoint, "", "lease", "grant", "50", "-w", f)
			got[i].stdout += regexp.MustCompile(`[0-9a-f]{16,}`).ReplaceAllString(grant.stdout, "ID") + grant.errors + fmt.Sprint(grant.code)
		}
		strip := regexp.MustCompile(`ID|[0-9]{16,}`)
		for i := range got {
			got[i].stdout = strip.ReplaceAllString(got[i].stdout, "N")
		}
		if got[0] != got[1] {
			t.Errorf("-w %s\nconclave: %+v\netcdctl:  %+v", f, got[1], got[0])
		}
	}
}

func TestLeaseKeepAlive_untilRevoked(t *testing.T) {
	endpoint, etcdctl := startEtcd(t, ""), realTool(t, "etcdctl")
	for _, f := range []string{"simple", "json", "fields"} {
		var got [2]outcome
		for i, program := range []string{etcdctl, "conclave"} {
			id := leaseOf(t, etcdctl, endpoint)
			r := startCall(t, program, endpoint, nil, "lease", "keep-alive", id, "-w", f)
			r.says("1000")
			if got := call(t, etcdctl, endpoint, "", "lease", "revoke", id); got.code != 0 {
				t.Fatalf("%+v", got)
			}
			// The next renewal would be minutes later.
			got[i] = r.end(syscall.SIGKILL)
			got[i].stdout = regexp.MustCompile(`[0-9a-f]{16,}`).ReplaceAllString(got[i].stdout, "ID")
		}
		if got[0] != got[1] {
			t.Errorf("-w %s\nconclave: %+v\netcdctl:  %+v", f, got[1], got[0])
		}
	}
}
