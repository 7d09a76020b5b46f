package main

import (
	"os"
	"testing"
)

// Processor times come from Linux's /proc.
func TestRun_emptySystemEndToEnd(t *testing.T) {
	for _, mtls := range []string{"-mtls=false", "-mtls=true"} {
		dir := t.TempDir()
		err := dispatch(t.Context(), []string{
			"run", "-systems=empty", mtls, "-dir=" + dir, "-rounds=1", "-warmup=100ms", "-duration=1s", "-loads=put-100,get-1", "-keys=100",
		})
		if err != nil {
			t.Fatalf("%s: %v", mtls, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("%s: left behind %v, %v", mtls, left, err)
		}
	}
}
