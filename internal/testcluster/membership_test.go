package testcluster_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclave-kv/conclave/daemon"
	"github.com/conclave-kv/conclave/internal/testcluster"
)

// dialer makes clients of a cluster, secure or not.
func dialer(t *testing.T, c *testcluster.Cluster) func(endpoints ...string) *clientv3.Client {
	if c.SecretFile == "" {
		return func(endpoints ...string) *clientv3.Client { return client(t, endpoints...) }
	}
	settings := c.ClientTLS("admin")
	return func(endpoints ...string) *clientv3.Client {
		cl, err := clientv3.New(clientv3.Config{Endpoints: endpoints, TLS: settings, DialTimeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cl.Close() })
		return cl
	}
}

// until repeats a change that etcd's health check may refuse for five seconds.
func until(t *testing.T, what string, change func(context.Context) error) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		err := change(within(t))
		if err == nil {
			return
		}
		if !strings.Contains(err.Error(), "unhealthy cluster") && !strings.Contains(err.Error(), "in sync with leader") &&
			!strings.Contains(err.Error(), "not supported for learner") || time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(100 * time.Millisecond) // between two tries
	}
}

// idOf finds a member by its peer URL.
func idOf(t *testing.T, client *clientv3.Client, m *testcluster.Member) uint64 {
	t.Helper()
	resp, err := client.MemberList(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range resp.Members {
		if e.PeerURLs[0] == m.PeerURL {
			return e.ID
		}
	}
	t.Fatalf("%s is not listed: %v", m.Name, resp.Members)
	return 0
}

// A cluster of one grows to three and is left by its first member, in plain text
// and with the built-in CA; everything is there at the end.
func TestMembership_growAndLeave(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("secure=%v", secure), func(t *testing.T) {
			t.Parallel()
			c := testcluster.Start(t, 1, testcluster.Options{Secure: secure, Configure: func(_ int, cfg *daemon.Config) { cfg.StrictReconfigCheck = false }})
			dial := dialer(t, c)
			first := c.Members[0]
			cl := dial(first.ClientURL)
			for i := range 100 {
				if _, err := cl.Put(within(t), fmt.Sprintf("k%d", i), "v"); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				m := c.Extend()
				until(t, "add "+m.Name, func(ctx context.Context) error {
					_, err := cl.MemberAdd(ctx, []string{m.PeerURL})
					return err
				})
				m.Launch()
				m.AwaitReady()
				if _, err := dial(m.ClientURL).Put(within(t), "by "+m.Name, "v"); err != nil {
					t.Fatal(err)
				}
			}
			stays := dial(c.Members[1].ClientURL, c.Members[2].ClientURL)
			if _, err := stays.MemberRemove(within(t), idOf(t, cl, first)); err != nil {
				t.Fatal(err)
			}
			if err := first.AwaitEnd(); err != nil {
				t.Fatalf("the removed member ended with %v", err)
			}
			resp, err := stays.Get(within(t), "", withAll()...)
			if err != nil || resp.Count != 102 {
				t.Fatalf("%d keys, %v", resp.Count, err)
			}
			// It does not come back.
			first.Launch()
			if err := first.AwaitEnd(); err == nil || !strings.Contains(err.Error(), "permanently removed") || !strings.Contains(err.Error(), "conclave member add") {
				t.Fatalf("started again: %v", err)
			}
		})
	}
}

// A member that was off while it was removed learns it from its peers, and its
// start fails.
func TestMembership_removedWhileOff(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("secure=%v", secure), func(t *testing.T) {
			t.Parallel()
			c := testcluster.Start(t, 3, testcluster.Options{Secure: secure})
			cl := dialer(t, c)(c.Members[0].ClientURL)
			off := c.Members[2]
			id := idOf(t, cl, off)
			off.Stop()
			until(t, "remove", func(ctx context.Context) error {
				_, err := cl.MemberRemove(ctx, id)
				return err
			})
			off.Launch()
			if err := off.AwaitEnd(); err == nil || !strings.Contains(err.Error(), "permanently removed") {
				t.Fatalf("started: %v", err)
			}
			off.Launch()
			if err := off.AwaitEnd(); err == nil || !strings.Contains(err.Error(), "noted") {
				t.Fatalf("started again: %v", err)
			}
		})
	}
}

// A learner joins, serves its own reads, is promoted, and a wiped one is refused
// with the way back.
func TestMembership_learner(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{})
	cl := client(t, c.Members[0].ClientURL)
	m := c.Extend()
	added, err := cl.MemberAddAsLearner(within(t), []string{m.PeerURL})
	if err != nil {
		t.Fatal(err)
	}
	m.Launch()
	m.AwaitReady()
	own := client(t, m.ClientURL)
	if _, err := own.Get(within(t), "k", clientv3.WithSerializable()); err != nil {
		t.Errorf("serializable read: %v", err)
	}
	if _, err := own.Get(within(t), "k"); err == nil || !strings.Contains(err.Error(), "rpc not supported for learner") {
		t.Errorf("linearizable read: %v", err)
	}
	until(t, "promote", func(ctx context.Context) error {
		_, err := cl.MemberPromote(ctx, added.Member.ID)
		return err
	})
	until(t, "write through the promoted one", func(ctx context.Context) error { // once it has heard of it
		_, err := own.Put(ctx, "k", "v")
		return err
	})
	m.Stop()
	if err := os.RemoveAll(m.Dir); err != nil {
		t.Fatal(err)
	}
	m.Launch()
	if err := m.AwaitEnd(); err == nil || !strings.Contains(err.Error(), "was started as \"m2\" already") || !strings.Contains(err.Error(), "conclave member remove") {
		t.Fatalf("a wiped member: %v", err)
	}
}

// What keeps a member from joining is said in one line, with what to do.
func TestMembership_refusedJoins(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{})
	cl := client(t, c.Members[0].ClientURL)
	m := c.Extend()
	m.Launch()
	err := m.AwaitEnd()
	if err == nil || !strings.Contains(err.Error(), "run \"conclave member add m2 --peer-urls="+m.PeerURL) {
		t.Fatalf("not added: %v", err)
	}
	if _, err := os.Stat(m.Dir); !os.IsNotExist(err) {
		t.Errorf("a refused start left its directory: %v", err)
	}
	if _, err := cl.MemberAdd(within(t), []string{m.PeerURL}); err != nil {
		t.Fatal(err)
	}
	other := c.Extend() // in the list of m now, and not in the cluster
	m.Launch()
	if err := m.AwaitEnd(); err == nil || !strings.Contains(err.Error(), "member count is unequal") || strings.Contains(err.Error(), "\n") {
		t.Fatalf("one too many: %v", err)
	}
	c.Drop(other)
	m.Launch()
	m.AwaitReady()
}

// A joining member that is stopped again and again gets there with the same
// command.
func TestMembership_interruptedJoin(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{})
	cl := client(t, c.Members[0].ClientURL)
	for i := range 200 {
		if _, err := cl.Put(within(t), fmt.Sprint(i), strings.Repeat("v", 1000)); err != nil {
			t.Fatal(err)
		}
	}
	m := c.Extend()
	if _, err := cl.MemberAdd(within(t), []string{m.PeerURL}); err != nil {
		t.Fatal(err)
	}
	for i := range 15 {
		m.Launch()
		time.Sleep(time.Duration(i*7) * time.Millisecond) // the length of the fault
		m.Stop()
	}
	m.Launch()
	m.AwaitReady()
	resp, err := client(t, m.ClientURL).Get(within(t), "", withAll()...)
	if err != nil || resp.Count != 200 {
		t.Fatalf("%d keys, %v", resp.Count, err)
	}
}

// A member that comes back at another address tells the cluster itself; and a
// cluster whose members all have moved finds itself by the list of one start.
func TestMembership_moved(t *testing.T) {
	if testing.Short() {
		t.Skip("short tests run under the race detector: the library reads an address beside changing it")
	}
	c := testcluster.Start(t, 3, testcluster.Options{})
	cl := perMember(t, c)
	one := c.Members[2]
	one.Stop()
	one.Relocate()
	one.Launch()
	one.AwaitReady()
	awaitURL(t, cl[0], one)
	c.Stop()
	for _, m := range c.Members {
		m.Relocate()
	}
	for _, m := range c.Members {
		m.Launch()
	}
	for _, m := range c.Members {
		m.AwaitReady()
	}
	for _, m := range c.Members {
		awaitURL(t, cl[0], m)
	}
}

// awaitURL waits until the cluster knows a member's peer URL.
func awaitURL(t *testing.T, cl *clientv3.Client, m *testcluster.Member) {
	t.Helper()
	var seen string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		resp, err := cl.MemberList(within(t))
		if err != nil {
			continue
		}
		seen = fmt.Sprint(resp.Members)
		for _, e := range resp.Members {
			if e.Name == m.Name && e.PeerURLs[0] == m.PeerURL {
				return
			}
		}
	}
	t.Fatalf("%s is not known at %s: %s", m.Name, m.PeerURL, seen)
}

// A leader that was cut off does not say what it cannot know: that a member is
// not there.
func TestMembership_cutOffLeaderRefusesNothing(t *testing.T) {
	c := testcluster.Start(t, 3, testcluster.Options{})
	leader := c.Leader()
	cl := client(t, c.Members[leader].ClientURL)
	if _, err := cl.Put(within(t), "k", "v"); err != nil {
		t.Fatal(err)
	}
	c.Isolate(leader)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := cl.MemberUpdate(ctx, 1234, []string{"http://127.0.0.1:1"})
	if err == nil || strings.Contains(err.Error(), "member not found") {
		t.Fatalf("the cut off leader says %v", err)
	}
	c.Heal()
	until(t, "the answer of a leader that leads", func(ctx context.Context) error {
		_, err := cl.MemberUpdate(ctx, 1234, []string{"http://127.0.0.1:1"})
		if err != nil && strings.Contains(err.Error(), "member not found") {
			return nil
		}
		return err
	})
}
