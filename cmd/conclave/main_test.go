package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/conclave-kv/conclave/internal/testcluster"
)

// TestMain makes this test binary answer to the name conclave too, in scripts
// and for os/exec.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"conclave": main})
}

// TestScripts runs the sessions in testdata.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"freeports": cmdFreePorts,
			"reachable": cmdReachable,
			"exitcode":  cmdExitCode,
			"probes":    cmdProbes,

			"probesocket": cmdProbeSocket,
			"says":        cmdSays,
			"zone":        cmdZone,
		},
	})
}

// cmdFreePorts sets each named variable to a port of 127.0.0.1 that nobody
// listens on.
func cmdFreePorts(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: freeports VAR...")
	}
	ports, err := testcluster.FindPorts(len(args))
	ts.Check(err)
	for i, name := range args {
		ts.Setenv(name, ports[i])
	}
}

// cmdReachable waits until `conclave endpoint health` succeeds for an endpoint.
func cmdReachable(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: reachable ENDPOINT")
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		err := ts.Exec("conclave", "--endpoints", args[0], "--command-timeout", "1s", "endpoint", "health")
		if err == nil {
			return
		}
	}
	ts.Fatalf("%s did not become healthy", args[0])
}

// cmdSays runs a program again and again, until what it prints matches.
func cmdSays(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: says PATTERN PROGRAM [ARG...]")
	}
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		_ = ts.Exec(args[1], args[2:]...) // what it says counts
		if pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("%v never said %q", args[1:], args[0])
}

// cmdExitCode runs a program and checks the number it exits with; stdout and
// stderr then look at its output.
func cmdExitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode CODE PROGRAM [ARG...]")
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("run %v: %v", args[1:], err)
		}
		code = exit.ExitCode()
	}
	if want := args[0]; strconv.Itoa(code) != want {
		ts.Fatalf("%v exited with %d, want %s", args[1:], code, want)
	}
}

// cmdProbes asks a metrics URL, without a certificate, what kubelet does.
func cmdProbes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: probes URL")
	}
	probe(ts, http.DefaultClient, args[0])
}

// cmdProbeSocket does the same at a socket file.
func cmdProbeSocket(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: probesocket FILE")
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", args[0])
	}}}
	probe(ts, client, "http://localhost")
	client.CloseIdleConnections()
}

func probe(ts *testscript.TestScript, client *http.Client, url string) {
	const healthy = `{"health":"true","reason":""}`
	for path, want := range map[string]string{
		"/livez": "ok", "/readyz": "ok", "/readyz?verbose": "[+]non_learner ok",
		"/health?exclude=NOSPACE&serializable=true": healthy, "/health?serializable=false": healthy,
		"/metrics": "etcd_server_has_leader 1",
	} {
		resp, err := client.Get(url + path)
		ts.Check(err)
		body, err := io.ReadAll(resp.Body)
		ts.Check(errors.Join(err, resp.Body.Close()))
		if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			ts.Fatalf("%s answers %s, and no %q: %s", path, resp.Status, want, body)
		}
	}
}
