package testcluster_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/conclave-kv/conclave/daemon"
	"github.com/conclave-kv/conclave/internal/testcluster"
)

// save writes a snapshot of a member, in the form of `conclave snapshot save`.
func save(t *testing.T, client *clientv3.Client) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := client.SnapshotWithVersion(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Snapshot.Close()
	data, err := io.ReadAll(stream.Snapshot)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "backup.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// restore makes a member's data directory from a snapshot.
func restore(t *testing.T, m *testcluster.Member, file string, bump uint64) daemon.Restored {
	t.Helper()
	cfg := m.Config()
	r, err := daemon.Restore(daemon.RestoreConfig{
		Snapshot: file, DataDir: m.Dir, Name: m.Name, InitialCluster: cfg.InitialCluster,
		Token: cfg.InitialClusterToken, PeerURLs: m.PeerURL, Bump: bump,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// saved is a snapshot of a cluster of one that holds a few keys.
func saved(t *testing.T) string {
	t.Helper()
	c := testcluster.Start(t, 1, testcluster.Options{})
	cl := client(t, c.Endpoints()...)
	for i := range 20 {
		if _, err := cl.Put(t.Context(), "k", strings.Repeat("v", i)); err != nil {
			t.Fatal(err)
		}
	}
	return save(t, cl)
}

// A cluster that was restored works, keeps its state over a restart, and gives
// it to a member that is added later: the restored keys are in no log.
func TestRestore_laterMemberGetsEverything(t *testing.T) {
	file := saved(t)
	c := testcluster.New(t, 3, testcluster.Options{})
	for _, m := range c.Members {
		r := restore(t, m, file, 0)
		if r.Revision != 21 || r.Keys != 1 {
			t.Errorf("restored %+v", r)
		}
	}
	for range 2 {
		for _, m := range c.Members {
			m.Launch()
		}
		for _, m := range c.Members {
			m.AwaitReady()
		}
		got, err := client(t, c.Endpoints()...).Get(t.Context(), "k")
		if err != nil || got.Header.Revision != 21 || len(got.Kvs) != 1 || got.Kvs[0].Version != 20 {
			t.Fatalf("got %v, %v", got, err)
		}
		for _, m := range c.Members {
			m.Stop()
		}
	}
	for _, m := range c.Members {
		m.Launch()
	}
	for _, m := range c.Members {
		m.AwaitReady()
	}
	cl := client(t, c.Endpoints()...)
	added := c.Extend()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		_, err := cl.MemberAddAsLearner(t.Context(), []string{added.PeerURL})
		if err == nil {
			break
		}
		if time.Now().After(end) { // until the members have been connected for long enough
			t.Fatal(err)
		}
	}
	added.Launch()
	added.AwaitReady()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		revision, _, err := added.Daemon.HashKV()
		if err == nil && revision == 21 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the added member is at revision %d: %v", revision, err)
		}
	}
	if equal, state := c.Equal(); !equal {
		t.Error(state)
	}
	// A learner gives snapshots too.
	c2 := testcluster.New(t, 1, testcluster.Options{})
	if r := restore(t, c2.Members[0], save(t, client(t, added.ClientURL)), 0); r.Revision != 21 {
		t.Errorf("of the learner: %+v", r)
	}
}

// A client that asks for a snapshot and does not read it holds up neither writes
// nor the end of the member.
func TestSnapshot_stalledReader(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{})
	cl := client(t, c.Endpoints()...)
	value := strings.Repeat("v", 64<<10)
	for i := range 64 { // more than a connection buffers
		if _, err := cl.Put(t.Context(), fmt.Sprint(i), value); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := pb.NewMaintenanceClient(client(t, c.Endpoints()...).ActiveConnection()).Snapshot(t.Context(), &pb.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.Recv()
	if err != nil || first.RemainingBytes < 3<<20 {
		t.Fatalf("%d bytes remain, %v", first.GetRemainingBytes(), err)
	}
	for i := range 200 { // 12 MiB, past what is mapped of a small file
		if _, err := cl.Put(t.Context(), fmt.Sprint(i%64), value); err != nil {
			t.Fatal(err)
		}
	}
	c.Members[0].Stop()
	for err == nil {
		_, err = stream.Recv()
	}
	if errors.Is(err, io.EOF) {
		t.Error("the stream ended as if it were whole")
	}
}

// What a restore that was killed leaves is not taken for a member's, and the next
// one takes its place.
func TestRestore_interrupted(t *testing.T) {
	file := saved(t)
	c := testcluster.New(t, 1, testcluster.Options{})
	m := c.Members[0]
	left := filepath.Join(m.Dir, "member.restore", "snap")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(left, "db"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.Launch()
	if err := m.AwaitEnd(); err == nil || !strings.Contains(err.Error(), "interrupted `conclave snapshot restore`") {
		t.Fatalf("a start on what is left: %v", err)
	}
	restore(t, m, file, 0)
	m.Launch()
	m.AwaitReady()
	if got, err := client(t, c.Endpoints()...).Get(t.Context(), "k"); err != nil || len(got.Kvs) != 1 {
		t.Errorf("got %v, %v", got, err)
	}
}

// First members that begin with different states do not form a cluster, whether
// one of them has another snapshot or none.
func TestRestore_differentStatesRefuse(t *testing.T) {
	file := saved(t)
	for name, prepare := range map[string]func(m *testcluster.Member){
		"empty":  func(*testcluster.Member) {},
		"bumped": func(m *testcluster.Member) { restore(t, m, file, 1000) },
	} {
		t.Run(name, func(t *testing.T) {
			c := testcluster.New(t, 2, testcluster.Options{})
			restore(t, c.Members[0], file, 0)
			prepare(c.Members[1])
			for _, m := range c.Members {
				m.Launch()
			}
			// Which one hears of the other first is chance; the other may then wait
			// for a peer that is gone.
			other, err := testcluster.AwaitFirstEnd(c.Members[0], c.Members[1])
			if err == nil || !strings.Contains(err.Error(), "not restored from the same snapshot") {
				t.Errorf("the first to end said %v", err)
			}
			select {
			case <-other.Daemon.Ready():
				t.Errorf("%s serves", other.Name)
			default:
			}
			_ = other.End() // it may have been told too
		})
	}
}

// With the same cluster secret the CAs are those of before, so that certificates
// of clients stay good; and the members get certificates anew, though their ids
// had some.
func TestRestore_clientCertificatesStayGood(t *testing.T) {
	c := testcluster.Start(t, 3, testcluster.Options{Secure: true})
	settings := c.ClientTLS("alice")
	cl := clientTLS(t, c, settings)
	if _, err := cl.Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	file := save(t, cl)
	c.Stop()
	for _, m := range c.Members {
		m.Dir += "-restored"
		restore(t, m, file, 0)
	}
	for _, m := range c.Members {
		m.Launch()
	}
	for _, m := range c.Members {
		m.AwaitReady()
	}
	got, err := clientTLS(t, c, settings).Get(t.Context(), "k")
	if err != nil || len(got.Kvs) != 1 {
		t.Errorf("got %v, %v", got, err)
	}
}

func clientTLS(t *testing.T, c *testcluster.Cluster, settings *tls.Config) *clientv3.Client {
	t.Helper()
	cl, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints(), TLS: settings, DialTimeout: time.Minute, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cl.Close() })
	return cl
}
