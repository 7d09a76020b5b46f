//go:build interop

package main

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// startWithQuota runs a member of its own with a quota and returns its endpoint.
func startWithQuota(t *testing.T, quota int) string {
	t.Helper()
	client, peer := freePort(t), freePort(t)
	url := "http://127.0.0.1:" + client
	cmd := exec.Command("conclave", "--name", "m1", "--data-dir", t.TempDir(), "--cluster-secret-file=",
		"--listen-client-urls", url, "--advertise-client-urls", url, "--quota-backend-bytes", fmt.Sprint(quota),
		"--listen-peer-urls", "http://127.0.0.1:"+peer, "--initial-advertise-peer-urls", "http://127.0.0.1:"+peer,
		"--initial-cluster", "m1=http://127.0.0.1:"+peer)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	endpoint := "127.0.0.1:" + client
	etcdctl := realTool(t, "etcdctl")
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if call(t, etcdctl, endpoint, "", "endpoint", "status", "--command-timeout=1s").code == 0 {
			return endpoint
		}
		if time.Now().After(deadline) {
			t.Fatal("the member does not serve")
		}
	}
}

const exceeded = "etcdserver: mvcc: database space exceeded"

// What etcd's users do about a full store, with etcd's tool: 13 pages, as in
// etcd's own test. Whoever comes to disarm the alarm finds it.
func TestEtcdctl_fullCompactDisarm(t *testing.T) {
	etcdctl := realTool(t, "etcdctl")
	endpoint := startWithQuota(t, 13*4096)
	do := func(words ...string) outcome { t.Helper(); return call(t, etcdctl, endpoint, "", words...) }
	page := strings.Repeat("b", 4096)
	full := false
	for range 20 {
		if r := do("put", "key", page); r.code != 0 {
			full = strings.Contains(r.errors, exceeded)
			break
		}
	}
	if !full {
		t.Fatal("20 pages fit into 13")
	}
	if r := do("alarm", "list"); !strings.Contains(r.stdout, "alarm:NOSPACE") {
		t.Errorf("alarms: %+v", r)
	}
	if r := do("endpoint", "health"); r.code == 0 {
		t.Errorf("healthy: %+v", r)
	}
	if r := do("put", "small", "x"); !strings.Contains(r.errors, exceeded) {
		t.Errorf("a put while there is an alarm: %+v", r)
	}
	for _, line := range []string{"del none", "compact " + newest(t, etcdctl, endpoint) + " --physical", "defrag"} {
		if r := do(words(line)...); r.code != 0 {
			t.Errorf("%s: %+v", line, r)
		}
	}
	if r := do("alarm", "disarm"); !strings.Contains(r.stdout, "alarm:NOSPACE") {
		t.Errorf("disarmed: %+v", r)
	}
	if r := do("put", "small", "x"); r.code != 0 {
		t.Errorf("a put afterwards: %+v", r)
	}
}

func newest(t *testing.T, etcdctl, endpoint string) string {
	t.Helper()
	for line := range strings.Lines(call(t, etcdctl, endpoint, "", "get", "none", "-w", "fields").stdout) {
		if n, ok := strings.CutPrefix(line, `"Revision" : `); ok {
			return strings.TrimSpace(n)
		}
	}
	t.Fatal("no revision")
	return ""
}

// Filled to the quota again and again, with keys and with history, a member never
// needs anybody: deletes and compactions pass when it is full, and then it takes
// writes again.
func TestEtcdctl_fillAndFreeAtRandom(t *testing.T) {
	etcdctl := realTool(t, "etcdctl")
	endpoint := startWithQuota(t, 256<<10)
	do := func(words ...string) outcome { t.Helper(); return call(t, etcdctl, endpoint, "", words...) }
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 6 {
		keys := 1 + rng.IntN(100)
		value := strings.Repeat("v", 2<<10+rng.IntN(30<<10))
		for n := 0; ; n++ {
			r := do("put", fmt.Sprint("key/", n%keys), value)
			if r.code != 0 {
				if !strings.Contains(r.errors, exceeded) {
					t.Fatalf("round %d: put %d: %+v", round, n, r)
				}
				break
			}
			if n == 3000 {
				t.Fatalf("round %d: never full", round)
			}
		}
		for n := range keys {
			if rng.IntN(3) > 0 {
				continue
			}
			if r := do("del", fmt.Sprint("key/", n)); r.code != 0 {
				t.Fatalf("round %d: a delete in a full store: %+v", round, r)
			}
		}
		if r := do("del", "key/", "--prefix"); r.code != 0 {
			t.Fatalf("round %d: deletes in a full store: %+v", round, r)
		}
		if r := do("compact", newest(t, etcdctl, endpoint)); r.code != 0 {
			t.Fatalf("round %d: a compaction in a full store: %+v", round, r)
		}
		if rng.IntN(2) == 0 {
			if r := do("defrag"); r.code != 0 {
				t.Fatalf("round %d: %+v", round, r)
			}
		}
		for deadline := time.Now().Add(time.Minute); do("put", "again", "x").code != 0; time.Sleep(100 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("round %d: no writes a minute after there was space: %+v", round, do("endpoint", "status", "-w", "table"))
			}
		}
	}
}
