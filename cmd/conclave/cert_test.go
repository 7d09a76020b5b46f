package main

import (
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestCertScripts runs the sessions in testdata/certs.
func TestCertScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/certs",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"appears":   cmdAppears,
			"freeports": cmdFreePorts,
			"reachable": cmdReachable,
			"exitcode":  cmdExitCode,
		},
	})
}

// cmdAppears waits until a file exists.
func cmdAppears(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: appears FILE")
	}
	path := ts.MkAbs(args[0])
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
	}
	ts.Fatalf("%s did not appear", args[0])
}
