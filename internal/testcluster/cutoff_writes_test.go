package testcluster_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/conclave-kv/conclave/internal/testcluster"
)

// A follower that was cut off for longer than an election takes, and comes back to
// the same leader in the same term, has the writes answered that it took before.
func TestCluster_writesOfFollowerThatWasCutOff(t *testing.T) {
	c := testcluster.Start(t, 3, testcluster.Options{ElectionTimeout: 200 * time.Millisecond})
	clients := perMember(t, c)
	if _, err := clients[0].Put(within(t), "k", "v"); err != nil {
		t.Fatal(err)
	}
	lead := c.Leader()
	f := (lead + 1) % 3
	before, err := clients[lead].Status(within(t), clients[lead].Endpoints()[0])
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	var mu sync.Mutex
	failed, longest, done := 0, time.Duration(0), 0
	for w := range 16 {
		work.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				began := time.Now()
				_, err := clients[f].Put(within(t), fmt.Sprintf("%d-%d", w, n), "v")
				mu.Lock()
				done++
				longest = max(longest, time.Since(began))
				if err != nil {
					failed++
					t.Logf("after %v: %v", time.Since(began), err)
				}
				mu.Unlock()
			}
		})
	}
	written := func() int {
		mu.Lock()
		defer mu.Unlock()
		return done
	}
	// until waits shorter than a request may take.
	until := func(what string, is func() bool) {
		t.Helper()
		for limit := time.Now().Add(5 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(limit) {
				t.Errorf("not within 5 s: %s", what)
				return
			}
		}
	}
	until("writes", func() bool { return written() >= 100 })
	c.Isolate(f)
	until("the follower knows no leader", func() bool {
		status, err := clients[f].Status(within(t), clients[f].Endpoints()[0])
		return err == nil && status.Leader == 0
	})
	c.Heal()
	cut := written()
	until("writes again", func() bool { return written() >= cut+100 })
	stop()
	work.Wait()
	after, err := clients[lead].Status(within(t), clients[lead].Endpoints()[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d writes, the longest took %v; term %d, then %d", done, longest, before.RaftTerm, after.RaftTerm)
	if failed > 0 {
		t.Errorf("%d writes got no outcome, though the cluster was whole again long before their time was up", failed)
	}
}
