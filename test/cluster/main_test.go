//go:build interop

package cluster_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// conclave is the binary under test.
var conclave string

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	if conclave = os.Getenv("CONCLAVE_BINARY"); conclave != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "conclave-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	conclave = filepath.Join(dir, "conclave")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", conclave, "../../cmd/conclave").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build conclave: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// realTool is a program of etcd's, built by test/interop/build.sh.
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

// installed is a program of Debian's. A missing one is a failure: whoever asks
// for interoperability wants it tested.
func installed(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path
		}
	}
	t.Fatalf("%s is not installed; .ci/install bind9 knot openssl curl iproute2", name)
	return ""
}

// needRoot ends a test that only root can run.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes network namespaces, which only root may; run make interop as root")
	}
}

var loopbacks atomic.Uint32

// loopback is an address of this host for one member: not 127.0.0.1, whose
// ports outgoing connections take while a member is down.
func loopback() string {
	n := loopbacks.Add(1)
	return fmt.Sprintf("127.%d.%d.%d", 64+os.Getpid()%64, os.Getpid()/64%250+1, n%250+1)
}

// givenPorts are the addresses with ports that freePort has returned: the kernel may
// offer one again, as long as nobody listens there.
var givenPorts sync.Map

// freePort asks the kernel for a port that is free on addr, for TCP and UDP, and
// gives none twice.
func freePort(t *testing.T, addr string) string {
	t.Helper()
	for range 50 {
		ln, err := net.Listen("tcp", addr+":0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		udp, err := net.ListenPacket("udp", ln.Addr().String())
		if err != nil {
			continue
		}
		udp.Close()
		if _, given := givenPorts.LoadOrStore(ln.Addr().String(), true); given {
			continue
		}
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		return port
	}
	t.Fatalf("no free port on %s", addr)
	return ""
}

// writeFile writes a file only its owner may read.
func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// contains fails for every part that text lacks.
func contains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s: no %q in\n%s", what, part, text)
		}
	}
}
