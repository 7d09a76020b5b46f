//go:build interop

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/conclave-kv/conclave/internal/testcluster"
)

// realTool returns the path of a program built by test/interop/build.sh.
func realTool(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "bin", "interop", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v; build it with: make interop-programs", err)
	}
	return path
}

// startEtcd runs a one-member etcd. Two of them with the same advertised URLs
// have the same ids, so that the same requests get the same answers, byte for
// byte. It returns the client endpoint.
func startEtcd(t *testing.T, advertise string) string {
	t.Helper()
	client, peer := freePort(t), freePort(t)
	if advertise == "" {
		advertise = "http://127.0.0.1:" + client
	}
	cmd := exec.Command(realTool(t, "etcd"), "--name", "m1", "--data-dir", t.TempDir(), "--log-level", "error",
		"--listen-client-urls", "http://127.0.0.1:"+client, "--advertise-client-urls", advertise,
		"--listen-peer-urls", "http://127.0.0.1:"+peer, "--initial-advertise-peer-urls", "http://127.0.0.1:1",
		"--initial-cluster", "m1=http://127.0.0.1:1")
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("etcd said: %s", log.String())
		}
	})
	// The cluster version is written a moment after the start; it is the last
	// entry etcd adds by itself.
	awaitClusterVersion(t, "http://127.0.0.1:"+client+"/version")
	return "127.0.0.1:" + client
}

func awaitClusterVersion(t *testing.T, url string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if resp, err := http.Get(url); err == nil {
			var body bytes.Buffer
			_, _ = body.ReadFrom(resp.Body)
			_ = resp.Body.Close()
			if strings.Contains(body.String(), `"etcdcluster":"3.7`) {
				return
			}
		}
	}
	t.Fatalf("%s never told the cluster version", url)
}

func freePort(t *testing.T) string {
	t.Helper()
	return testcluster.FreePorts(t, 1)[0]
}

// outcome is what a user sees of one call.
type outcome struct {
	stdout string
	errors string // the lines of stderr that begin with "Error"
	code   int
}

var (
	tookPattern  = regexp.MustCompile(`[0-9.]+(ns|µs|ms|s)\b`)
	fillPattern  = regexp.MustCompile(`─+| +`)
	errorPattern = regexp.MustCompile(`(?m)^(Error|.* is unhealthy|Failed to).*$`)
)

// call runs a client program against an endpoint. Durations in the output are
// replaced, since no two calls take the same time.
func call(t *testing.T, program, endpoint, stdin string, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "ETCDCTL_ENDPOINTS=" + endpoint}
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, isExit := errors.AsType[*exec.ExitError](err); err != nil && !isExit {
		t.Fatalf("%s %q: %v", program, args, err)
	}
	out := tookPattern.ReplaceAllString(stdout.String(), "TOOK")
	if out != stdout.String() && strings.Contains(out, "─") {
		// The width of a table's column followed the duration.
		out = fillPattern.ReplaceAllString(out, "·")
	}
	return outcome{
		stdout: out,
		errors: strings.Join(errorPattern.FindAllString(tookPattern.ReplaceAllString(stderr.String(), "TOOK"), -1), "\n"),
		code:   cmd.ProcessState.ExitCode(),
	}
}

// step is one call both programs make.
type step struct {
	stdin string
	args  []string
}

func words(line string) []string { return strings.Fields(line) }

var formats = []string{"simple", "json", "fields", "table", "protobuf"}

// changes is a session of requests in the order given; the later ones see what
// the earlier ones did.
func changes() []step {
	var steps []step
	add := func(stdin string, args ...string) { steps = append(steps, step{stdin, args}) }
	add("", "put", "a", "1")
	add("", "put", "b", "--", "-2")
	add("from stdin\n", "put", "c")
	add("", "put", "bin", "\x01é\n")
	add("", "put", "a", "--ignore-value")
	for _, f := range formats {
		for _, hex := range []string{"--hex=false", "--hex"} {
			add("", "put", "a", "x"+f, "--prev-kv", "-w", f, hex)
			add("", "get", "a", "-w", f, hex)
			add("", "get", "", "--prefix", "-w="+f, hex)
			add("", "get", "", "--prefix", "--stream", "--limit=2", "-w="+f, hex)
			add("", "get", "none", "-w"+f, hex)
			add("", "get", "", "--from-key", "--keys-only", "-w", f, hex)
			add("value(\"a\") = \"x"+f+"\"\nmod(\"b\") > \"0\"\n\nget a\nput d 'single quoted'\ndel c --prev-kv\n\n\n", "txn", "-w", f, hex)
			add("c(\"a\") > \"1000\"\n\n\nget \"\" --prefix\nput \"a b\" \"c\\nd\"\n\n", "txn", "-w", f, hex)
			add("\n\n\n", "txn", "-i", "-w", f, hex)
			add("", "del", "d", "--prev-kv", "-w", f, hex)
			add("", "del", "none", "-w", f, hex)
		}
	}
	for _, line := range []string{
		"get a b", "get a c --print-value-only", "get a --print-value-only -w json", "get a --count-only",
		"get a --count-only -w fields", "get --prefix a --limit 1 -w json", "get --order=DESCEND --sort-by=MODIFY --from-key a",
		"get a --order SIDEWAYS", "get a --sort-by SIZE", "get a --consistency q", "get a --consistency s", "get a --rev 2 -w json",
		"get a --rev 9999", "get a --min-mod-rev 1 --max-mod-rev 5", "get a --prefix --from-key", "get a b --prefix",
		"get a --keys-only --count-only", "get", "get --stream --prefix a", "get a --hex=true",
		"del b c --range", "del a b --prefix", "del a --prefix --from-key", "del", "put", "put a b --lease zz", "put a b --lease 77",
		"put a --ignore-value b", "put none --ignore-value", "put a b --ignore-lease", "compaction", "compaction 999",
		"compaction 3", "compaction 3", "compact 4 --physical", "get a --rev 2", "txn extra", "alarm list extra", "get --cert /none a",
	} {
		add("", words(line)...)
	}
	for _, text := range []string{
		"", "nonsense\n", "value(\"a\") = \"x\n", "mod(\"a\") = \"x\"\n", "size(\"a\") = \"1\"\n",
		"\nnonsense a\n\n\n", "\nget\n\n\n", "\nput a --frobnicate b\n\n\n", "\nget a --prefix --from-key\n\n\n", "value(\"a\") = \"1\"\n\n",
	} {
		add(text, "txn")
	}
	return steps
}

func TestChanges_sameBytesAsEtcdctl(t *testing.T) {
	// Both servers advertise the same URLs, so their ids are equal.
	const advertise = "http://127.0.0.1:2"
	theirs, ours := startEtcd(t, advertise), startEtcd(t, advertise)
	etcdctl := realTool(t, "etcdctl")
	for i, s := range changes() {
		want := call(t, etcdctl, theirs, s.stdin, s.args...)
		got := call(t, "conclave", ours, s.stdin, s.args...)
		if got != want {
			t.Errorf("step %d: %q with stdin %q\nconclave: %+v\netcdctl:  %+v", i, s.args, s.stdin, got, want)
		}
	}
}

func TestQueries_sameBytesAsEtcdctl(t *testing.T) {
	endpoint := startEtcd(t, "")
	etcdctl := realTool(t, "etcdctl")
	dead := "127.0.0.1:" + freePort(t)
	var lines []string
	for _, f := range formats {
		for _, hex := range []string{"", " --hex"} {
			for _, q := range []string{"member list", "endpoint status", "endpoint status --cluster", "endpoint --cluster health", "endpoint health", "endpoint hashkv", "endpoint hashkv --rev 1 --cluster", "alarm list"} {
				lines = append(lines, fmt.Sprintf("%s -w %s%s", q, f, hex))
			}
		}
	}
	lines = append(lines, "member list --consistency s", "endpoint hashkv --rev 99")
	for _, line := range lines {
		sameAnswer(t, etcdctl, endpoint, line)
	}
	for _, line := range []string{
		"get a --command-timeout 300ms", "endpoint health --command-timeout 300ms", "endpoint health --command-timeout=300ms -w json",
		"endpoint hashkv --command-timeout 300ms", "endpoint hashkv --command-timeout 300ms -w json", "endpoint status --command-timeout 300ms", "endpoint status --command-timeout 300ms -w json", "member list --command-timeout 300ms",
	} {
		sameAnswer(t, etcdctl, dead, line)
	}
}

// Where etcdctl does not say what to write instead, conclave does, and the exit
// codes are the same.
func TestMistakes_sameCodesAsEtcdctl(t *testing.T) {
	endpoint, dead := startEtcd(t, ""), "127.0.0.1:"+freePort(t)
	etcdctl := realTool(t, "etcdctl")
	for _, m := range []struct{ endpoint, line string }{
		{endpoint, "get a -w toml"}, {endpoint, "compaction ten"}, {endpoint, "move-leader zz"},
		{endpoint, "get a --command-timeout 5"}, {endpoint, "get a --limit many"},
		{endpoint, "snapshot save"}, {endpoint, "snapshot save x.db --cert none --key none"}, {endpoint, "snapshot save none/x.db"},
		{"a:1,b:1", "snapshot save none/x.db"}, {dead, "snapshot save none/x.db --command-timeout 300ms"},
		{dead, "snapshot save none/x.db --user root:pw --dial-timeout 300ms"},
	} {
		want := call(t, etcdctl, m.endpoint, "", words(m.line)...)
		got := call(t, "conclave", m.endpoint, "", words(m.line)...)
		if got.stdout != want.stdout || got.code != want.code || want.code == 0 {
			t.Errorf("%s at %s\nconclave: %+v\netcdctl:  %+v", m.line, m.endpoint, got, want)
		}
	}
}

// sameAnswer compares the programs on one line. The state may move between two
// calls (the size of the file does, by itself, and the time that a lease has), so
// etcdctl is asked before and after, again while it says neither what conclave does
// nor the same twice.
func sameAnswer(t *testing.T, etcdctl, endpoint, line string) {
	t.Helper()
	for range 10 {
		before := call(t, etcdctl, endpoint, "", words(line)...)
		got := call(t, "conclave", endpoint, "", words(line)...)
		after := call(t, etcdctl, endpoint, "", words(line)...)
		if got == before || got == after {
			return
		}
		if before == after {
			t.Errorf("%s\nconclave: %+v\netcdctl:  %+v", line, got, before)
			return
		}
	}
	t.Errorf("%s: etcdctl never gave the same answer twice", line)
}
