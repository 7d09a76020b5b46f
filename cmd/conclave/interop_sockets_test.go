//go:build interop

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// startOnSockets runs a member of a program with a socket file for clients, one
// with TLS, and one for metrics, all in its directory, which it returns.
func startOnSockets(t *testing.T, program, certs string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sockets") //nolint:usetesting // a short name: so are those of socket files
	if err != nil {
		t.Fatal(err)
	}
	peer := "http://127.0.0.1:" + freePort(t)
	file := func(name string) string { return filepath.Join(dir, name) }
	cmd := exec.Command(program, "--name", "m1", "--data-dir", file("data"), "--log-level", "error",
		"--cert-file", filepath.Join(certs, "m1.pem"), "--key-file", filepath.Join(certs, "m1-key.pem"),
		"--listen-client-urls", "unix://"+file("plain")+",unixs://"+file("tls.sock"), "--advertise-client-urls", "unix://"+file("plain"),
		"--listen-metrics-urls", "unix://"+file("metrics"),
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "m1="+peer)
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH")}
	cmd.WaitDelay = 10 * time.Second
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
		if t.Failed() {
			t.Logf("%s said: %s", program, log.String())
		}
	})
	return dir
}

// etcdctl uses the socket files of conclave as it uses etcd's.
func TestSockets_etcdctl(t *testing.T) {
	certs := t.TempDir()
	for _, line := range []string{"cert ca init --dir " + certs + "/ca", "cert issue --ca-dir " + certs + "/ca --profile server --cn m1 --hosts tls.sock --out " + certs} {
		if out, err := exec.Command("conclave", words(line)...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
	etcdctl := realTool(t, "etcdctl")
	var answers [2][]outcome
	for i, program := range []string{realTool(t, "etcd"), "conclave"} {
		dir := startOnSockets(t, program, certs)
		plain, tls := "unix://"+dir+"/plain", "unixs://"+dir+"/tls.sock"
		for deadline := time.Now().Add(time.Minute); call(t, etcdctl, plain, "", "endpoint", "health").code != 0; {
			if time.Now().After(deadline) {
				t.Fatalf("%s does not serve", program)
			}
		}
		for _, step := range []struct{ endpoint, line string }{
			{plain, "put k v"}, {plain, "get k"}, {tls, "get k --cacert " + certs + "/ca.pem"}, {tls, "put k2 v2 --cacert " + certs + "/ca.pem"},
			{tls, "get k --insecure-skip-tls-verify"}, {tls, "get k --command-timeout 1s"}, {plain, "get --prefix k -w json --print-value-only"},
		} {
			got := call(t, etcdctl, step.endpoint, "", words(step.line)...)
			got.errors = "" // names the file
			answers[i] = append(answers[i], got)
		}
		if program != "conclave" {
			continue // etcd 3.7.3 listens for metrics at another address: it drops the path
		}
		probe := exec.Command("curl", "-s", "--unix-socket", filepath.Join(dir, "metrics"), "http://localhost/livez")
		if out, err := probe.Output(); err != nil || string(out) != "ok\n" {
			t.Errorf("%s: livez on a socket file: %q, %v", program, out, err)
		}
	}
	for i, want := range answers[0] {
		if answers[1][i] != want {
			t.Errorf("step %d: conclave answers %+v, etcd %+v", i, answers[1][i], want)
		}
	}
}
