//go:build interop

package cluster_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// copied is another process's member: the same identity, from a copy of the data
// directory as it is now, on ports of its own.
func (m *member) copied() *member {
	t := m.g.t
	t.Helper()
	c := *m
	c.home = filepath.Join(m.g.dir, m.name+"-copy")
	c.data = filepath.Join(c.home, "data")
	c.peer, c.client = freePort(t, m.addr), freePort(t, m.addr)
	if err := os.CopyFS(c.data, os.DirFS(m.data)); err != nil {
		t.Fatal(err)
	}
	// CopyFS makes files that all may read; keys must not be.
	err := filepath.WalkDir(c.home, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	c.proc = nil
	return &c
}

// Two processes with one identity could vote twice. While the member runs, a
// copy of its data directory ends its start by itself, told where the member is,
// and the member notices nothing. Once the member is dead the copy is the member.
func TestCopied_oneOfTwoRuns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		secure bool
	}{{"plaintext", false}, {"ownCA", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := start(t, 3, c.secure)
			if c.secure {
				g.settle()
			}
			original := g.members[2]
			original.proc.stop() // so that the copy is a whole one
			twin := original.copied()
			original.launch()
			original.serves()
			client := original.dial()

			p := twin.launch()
			for p.running() {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				if _, err := client.Put(ctx, "k", "v"); err != nil {
					t.Errorf("the original: %v", err)
				}
				cancel()
			}
			refusal(t, p, "--data-dir", twin.data, "two processes run under one member id",
				"connected from 127.", "answering at "+original.peerURL(), "stop one of them")

			original.proc.kill()
			twin.launch()
			began := time.Now()
			twin.serves()
			t.Logf("after the kill the copy served within %v", time.Since(began).Round(time.Millisecond))
			refusal(t, original.launch(), "two processes run under one member id")
			twin.serves()
		})
	}
}

// A member that is killed and started again at once is not taken for a copy.
func TestCopied_quickRestarts(t *testing.T) {
	t.Parallel()
	g := start(t, 3, false)
	m := g.members[1]
	var slowest time.Duration
	for range 5 {
		m.proc.kill()
		began := time.Now()
		m.launch()
		m.serves()
		slowest = max(slowest, time.Since(began))
	}
	t.Logf("the slowest of 5 restarts served after %v", slowest.Round(time.Millisecond))
}
