//go:build interop

package main

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
	"time"
)

// startConclave runs a one-member conclave with the URLs startEtcd gives etcd,
// so that its ids are the same. It returns the client endpoint.
func startConclave(t *testing.T, advertise string) string {
	t.Helper()
	client, peer := freePort(t), freePort(t)
	cmd := exec.Command("conclave", "--name", "m1", "--data-dir", t.TempDir()+"/data", "--cluster-secret-file=",
		"--listen-client-urls", "http://127.0.0.1:"+client, "--advertise-client-urls", advertise,
		"--listen-peer-urls", "http://127.0.0.1:"+peer, "--initial-advertise-peer-urls", "http://127.0.0.1:1",
		"--initial-cluster", "m1=http://127.0.0.1:1")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.WaitDelay = 10 * time.Second
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("conclave said: %s", log.String())
		}
	})
	awaitClusterVersion(t, "http://127.0.0.1:"+client+"/version")
	return "127.0.0.1:" + client
}

// etcdctl cannot tell the servers apart by what they answer about keys: same
// revisions, same terms, same ids, same errors.
func TestServer_sameAnswersAsEtcd(t *testing.T) {
	const advertise = "http://127.0.0.1:2"
	theirs, ours := startEtcd(t, advertise), startConclave(t, advertise)
	etcdctl := realTool(t, "etcdctl")
	for i, s := range changes() {
		want := call(t, etcdctl, theirs, s.stdin, s.args...)
		got := call(t, etcdctl, ours, s.stdin, s.args...)
		if got != want {
			t.Errorf("step %d: %q with stdin %q\nconclave answers: %+v\netcd answers:     %+v", i, s.args, s.stdin, got, want)
		}
	}
}
