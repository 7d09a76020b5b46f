//go:build interop

package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// pauses is how often TestPause stops the leader's clock.
const pauses = 5

// A leader that was not run for a while does not know that it was replaced. What
// it then says must be the truth, and nobody acknowledges what it did not keep.
func TestPause_leaderWakesUpReplaced(t *testing.T) {
	t.Parallel()
	g := start(t, 3, true)
	var clients []*clientv3.Client
	for _, m := range g.members {
		clients = append(clients, m.dial())
		newGauge(t, m)
	}
	l := newLoad(t, g)
	answered := 0
	for round := range pauses {
		var leader *member
		eventually(t, serveTimeout, "a leader", func() error {
			if leader = g.leader(clients); leader == nil {
				return errors.New("nobody leads")
			}
			return nil
		})
		index := slices.Index(g.members, leader)
		other := clients[(index+1)%3]
		pid := leader.proc.cmd.Process.Pid
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		value := fmt.Sprint(round)
		eventually(t, outageLimit, "a write without the leader", func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			_, err := other.Put(ctx, "x", value)
			return err
		})
		// The read waits in the old leader's socket when it wakes up.
		answer := make(chan error, 1)
		go func() { answer <- readsNewest(t, clients[index], value) }()
		time.Sleep(50 * time.Millisecond) // a read that is late proves nothing, and fails nothing
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		switch err := <-answer; {
		case errors.Is(err, errStale):
			t.Errorf("%s, round %d: %v", leader.name, round, err)
		case err == nil:
			answered++
		}
		leader.serves()
	}
	t.Logf("%d of %d reads that a replaced leader found when it woke up were answered", answered, pauses)
	l.end()
	acked, _ := l.soFar()
	for i, m := range g.members {
		holds(t, m.name, clients[i], acked)
	}
	for _, m := range g.members {
		m.proc.stop()
	}
}

// errStale: a linearizable read showed what was not the newest.
var errStale = errors.New("stale read")

// readsNewest fails with errStale if a read is answered with something else. No
// answer at all is no lie.
func readsNewest(t *testing.T, client *clientv3.Client, want string) error {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	resp, err := client.Get(ctx, "x")
	if err == nil && (len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != want) {
		return fmt.Errorf("%w: %v at revision %d, want %q", errStale, resp.Kvs, resp.Header.Revision, want)
	}
	return err
}
