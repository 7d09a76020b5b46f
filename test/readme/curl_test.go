package readme

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// example finds the README's command for curl.
var example = regexp.MustCompile(`(?m)^\s*curl .* -d '([^']*)' https://m1\.example\.com:2379(/\S+)$`)

// The README's request to the JSON gateway, sent by curl to a member as it is
// but for the address and the certificates, reads the key that the README puts.
func TestReadme_curl(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := example.FindSubmatch(text)
	if found == nil {
		t.Fatal("README.md has no command for curl")
	}
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	client, peer := freePort(t), freePort(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	member := exec.CommandContext(ctx, binary, "--name", "m1", "--data-dir", filepath.Join(t.TempDir(), "data"), "--cluster-secret-file=",
		"--listen-client-urls", "http://"+client, "--advertise-client-urls", "http://"+client,
		"--listen-peer-urls", "http://"+peer, "--initial-advertise-peer-urls", "http://"+peer, "--initial-cluster", "m1=http://"+peer)
	member.Cancel = func() error { return member.Process.Signal(os.Interrupt) }
	member.WaitDelay = 10 * time.Second
	if err := member.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = member.Wait() }()
	for {
		out, err := exec.CommandContext(ctx, binary, "--endpoints", client, "put", "greeting", "hello").CombinedOutput()
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("put: %v: %s", err, out)
		}
	}
	out, err := exec.CommandContext(ctx, curl, "-sS", "-d", string(found[1]), "http://"+client+string(found[2])).CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"value":"aGVsbG8="`) {
		t.Errorf("curl: %v: %s", err, out)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
