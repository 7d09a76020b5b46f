package testcluster_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-kv/conclave/internal/testcluster"
)

// A write under way while its leader stops is answered by the next leader's
// term: nobody sees an error, and it is applied once.
func TestCluster_writesSurviveLeaderStop(t *testing.T) {
	c := testcluster.Start(t, 3, testcluster.Options{ElectionTimeout: 200 * time.Millisecond})
	clients := perMember(t, c)
	leader := c.Leader()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var wg sync.WaitGroup
	var mu sync.Mutex
	written := 0
	progress := make(chan struct{}, 1)
	for i := range clients {
		if i == leader {
			continue
		}
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if _, err := clients[i].Put(within(t), fmt.Sprintf("%d-%d", i, n), "v"); err != nil {
					t.Errorf("put through %s: %v", c.Members[i].Name, err)
					return
				}
				mu.Lock()
				written++
				mu.Unlock()
				select {
				case progress <- struct{}{}:
				default:
				}
			}
		})
	}
	c.Members[leader].Stop()
	awaitMore := func(more int) {
		mu.Lock()
		want := written + more
		mu.Unlock()
		tooLate := time.After(time.Minute)
		for {
			mu.Lock()
			enough := written >= want
			mu.Unlock()
			if enough || t.Failed() {
				return
			}
			select {
			case <-progress:
			case <-tooLate:
				t.Fatal("writes do not go on")
			}
		}
	}
	awaitMore(50)
	stop()
	wg.Wait()
	c.Members[leader].Launch()
	c.Members[leader].AwaitReady()
	resp, err := clients[leader].Get(within(t), "", withAll()...)
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if int(resp.Count) != written || resp.Header.Revision != int64(written)+1 {
		t.Fatalf("%d keys at revision %d after %d writes", resp.Count, resp.Header.Revision, written)
	}
}

// All members stop and start again: the same keys at the same revisions.
func TestCluster_restartKeepsEverything(t *testing.T) {
	c := testcluster.Start(t, 3, testcluster.Options{})
	clients := perMember(t, c)
	for i := range 30 {
		if _, err := clients[i%3].Put(within(t), fmt.Sprint(i%7), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	before, err := clients[0].Get(within(t), "", withAll()...)
	if err != nil {
		t.Fatal(err)
	}
	c.Stop()
	for _, m := range c.Members {
		m.Launch()
	}
	for i, m := range c.Members {
		m.AwaitReady()
		after, err := clients[i].Get(within(t), "", withAll()...)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(after.Kvs) != fmt.Sprint(before.Kvs) || after.Header.Revision != before.Header.Revision {
			t.Fatalf("%s after the restart: %v at %d, before: %v at %d", m.Name, after.Kvs, after.Header.Revision, before.Kvs, before.Header.Revision)
		}
	}
}

// A member whose data directory was lost must not vote again under its id.
func TestCluster_wipedMemberIsRefused(t *testing.T) {
	c := testcluster.Start(t, 3, testcluster.Options{})
	wiped := c.Members[1]
	wiped.Stop()
	if err := os.RemoveAll(wiped.Dir); err != nil {
		t.Fatal(err)
	}
	wiped.Launch()
	err := wiped.AwaitEnd()
	if err == nil || !strings.Contains(err.Error(), "started with another data directory") || !strings.Contains(err.Error(), "add it again") {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(wiped.Dir); !os.IsNotExist(err) {
		t.Fatalf("a refused start left its directory: %v", err)
	}
	if _, err := client(t, c.Members[0].ClientURL).Put(within(t), "k", "v"); err != nil {
		t.Fatalf("the others: %v", err)
	}
}

// Nor must one that lost its state and its log, and kept the rest.
func TestCluster_lostStateIsRefused(t *testing.T) {
	c := testcluster.Start(t, 3, testcluster.Options{})
	m := c.Members[1]
	m.Stop()
	for _, part := range []string{"wal", "snap"} {
		if err := os.RemoveAll(filepath.Join(m.Dir, "member", part)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(m.Dir, "member", "snap"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, empty := range []bool{false, true} {
		if empty { // as good as none
			if err := os.WriteFile(filepath.Join(m.Dir, "member", "snap", "db"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		m.Launch()
		if err := m.AwaitEnd(); err == nil || !strings.Contains(err.Error(), "has lost the state") || !strings.Contains(err.Error(), "--data-dir") {
			t.Fatalf("state file empty: %v; got %v", empty, err)
		}
	}
	if _, err := client(t, c.Members[0].ClientURL).Put(within(t), "k", "v"); err != nil {
		t.Fatalf("the others: %v", err)
	}
}

// A member whose first start ended while the state file was made, because the disk was
// full perhaps, starts again.
func TestCluster_startThatMadeAnEmptyFile(t *testing.T) {
	c := testcluster.New(t, 1, testcluster.Options{})
	m := c.Members[0]
	m.Launch()
	m.AwaitReady()
	m.Stop()
	identity := filepath.Join(m.Dir, "member", "identity.json")
	raw, err := os.ReadFile(identity)
	if err != nil {
		t.Fatal(err)
	}
	fresh := strings.Replace(string(raw), `"started": true`, `"started": false`, 1)
	if fresh == string(raw) {
		t.Fatalf("it has not started: %s", raw)
	}
	for _, err := range []error{
		os.WriteFile(identity, []byte(fresh), 0o600),
		os.RemoveAll(filepath.Join(m.Dir, "member", "wal")), os.Mkdir(filepath.Join(m.Dir, "member", "wal"), 0o700),
		os.WriteFile(filepath.Join(m.Dir, "member", "snap", "db"), nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	m.Launch()
	m.AwaitReady()
	if _, err := client(t, m.ClientURL).Put(within(t), "k", "v"); err != nil {
		t.Fatal(err)
	}
}

// Any start order, one of them late.
func TestCluster_lateMember(t *testing.T) {
	c := testcluster.New(t, 3, testcluster.Options{})
	c.Members[2].Launch()
	c.Members[0].Launch()
	c.Members[0].AwaitReady()
	c.Members[2].AwaitReady()
	if _, err := client(t, c.Members[0].ClientURL).Put(within(t), "k", "v"); err != nil {
		t.Fatal(err)
	}
	c.Members[1].Launch()
	c.Members[1].AwaitReady()
	resp, err := client(t, c.Members[1].ClientURL).Get(within(t), "k")
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatalf("the late member read %v, %v", resp, err)
	}
}
