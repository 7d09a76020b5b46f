package snapshots

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/conclave-kv/conclave/daemon"
	"github.com/conclave-kv/conclave/internal/testcluster"
)

// minors are the versions there are snapshots of.
var minors = []string{"3.4", "3.5", "3.6", "3.7"}

// A member restored from a snapshot of etcd's answers what that etcd answered:
// every key at every revision, the history, its hashes, the leases. So it does
// after a restart; and it goes on from there.
func TestRestore_ofRealEtcd(t *testing.T) {
	for _, minor := range minors {
		t.Run(minor, func(t *testing.T) {
			t.Parallel()
			r, file := load(t, minor)
			c := testcluster.New(t, 1, testcluster.Options{})
			m := c.Members[0]
			restored, err := daemon.Restore(daemon.RestoreConfig{
				Snapshot: file, DataDir: m.Dir, Name: m.Name,
				InitialCluster: m.Config().InitialCluster, Token: m.Config().InitialClusterToken, PeerURLs: m.PeerURL,
			})
			if err != nil {
				t.Fatal(err)
			}
			if want := len(r.state(r.Revision)); restored.Revision != r.Revision || restored.Keys != want || restored.Auth {
				t.Errorf("restored %+v, want revision %d and %d keys", restored, r.Revision, want)
			}
			sameUsers(t, r, file, m)
			for range 2 {
				m.Launch()
				m.AwaitReady()
				newAsker(t, m, r).compareAll()
				m.Stop()
			}
			m.Launch()
			m.AwaitReady()
			newAsker(t, m, r).goOn()
		})
	}
}

// state replays the history: the keys, in order, as they are at a revision.
func (r recording) state(revision int64) []keyValue {
	keys := map[text]keyValue{}
	for _, kv := range r.AtStart {
		keys[kv.Key] = kv
	}
	for _, e := range r.Events {
		switch {
		case e.Mod > revision:
		case e.Deleted:
			delete(keys, e.Key)
		default:
			keys[e.Key] = e.keyValue
		}
	}
	var out []keyValue
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		out = append(out, keys[key])
	}
	return out
}

// asker asks a restored member.
type asker struct {
	t      *testing.T
	ctx    context.Context
	r      recording
	client *clientv3.Client
}

func newAsker(t *testing.T, m *testcluster.Member, r recording) asker {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{m.ClientURL}, Context: ctx, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return asker{t, ctx, r, client}
}

func (a asker) compareAll() {
	a.t.Helper()
	a.hashes()
	a.keys()
	a.events()
	a.leases()
	alarms, err := a.client.AlarmList(a.ctx)
	if err != nil || len(alarms.Alarms) != 0 {
		a.t.Errorf("alarms %v, %v", alarms, err)
	}
	members, err := a.client.MemberList(a.ctx)
	if err != nil || len(members.Members) != 1 {
		a.t.Errorf("members %v, %v", members, err)
	}
}

func (a asker) hashes() {
	a.t.Helper()
	if len(a.r.Hashes) < 2 || a.r.Hashes[0].Revision != a.r.Revision {
		a.t.Fatalf("hashes %+v of revision %d", a.r.Hashes, a.r.Revision)
	}
	for _, want := range a.r.Hashes {
		got, err := a.client.HashKV(a.ctx, a.client.Endpoints()[0], want.Revision)
		if err != nil {
			a.t.Fatal(err)
		}
		if got := (hash{got.HashRevision, got.Hash, got.CompactRevision}); got != want {
			a.t.Errorf("hash %+v, etcd's %+v", got, want)
		}
	}
}

// keys compares every revision that is not compacted, and meets one that is.
func (a asker) keys() {
	a.t.Helper()
	for revision := a.r.Compacted; revision <= a.r.Revision; revision++ {
		got, err := a.client.Get(a.ctx, "", clientv3.WithPrefix(), clientv3.WithRev(revision))
		if err != nil {
			a.t.Fatalf("at revision %d: %v", revision, err)
		}
		if got, want := newKeyValues(got.Kvs), a.r.state(revision); !slices.Equal(got, want) {
			a.t.Errorf("at revision %d: keys %+v\nwant %+v", revision, got, want)
		}
	}
	if _, err := a.client.Get(a.ctx, "a/0", clientv3.WithRev(a.r.Compacted-1)); !errors.Is(err, rpctypes.ErrCompacted) {
		a.t.Errorf("before the compaction: %v", err)
	}
	if _, err := a.client.Get(a.ctx, "a/0", clientv3.WithRev(a.r.Revision+1)); !errors.Is(err, rpctypes.ErrFutureRev) {
		a.t.Errorf("after the newest revision: %v", err)
	}
}

// events compares what a watch tells of the past.
func (a asker) events() {
	a.t.Helper()
	var got []event
	watch := a.client.Watch(a.ctx, "", clientv3.WithPrefix(), clientv3.WithRev(a.r.Compacted+1))
	for len(got) < len(a.r.Events) {
		resp := <-watch
		if err := resp.Err(); err != nil || len(resp.Events) == 0 {
			a.t.Fatalf("watch after %d events: %v, %v", len(got), resp, err)
		}
		got = append(got, newEvents(resp.Events)...)
	}
	if !slices.Equal(got, a.r.Events) {
		a.t.Errorf("events %+v\nwant %+v", got, a.r.Events)
	}
}

// leases are there with their keys and the time they were granted for, of which
// only what the member has run is gone; a new leader adds up to two seconds.
func (a asker) leases() {
	a.t.Helper()
	list, err := a.client.Leases(a.ctx)
	if err != nil {
		a.t.Fatal(err)
	}
	var got []lease
	for _, l := range list.Leases {
		ttl, err := a.client.TimeToLive(a.ctx, l.ID, clientv3.WithAttachedKeys())
		if err != nil {
			a.t.Fatal(err)
		}
		if ttl.TTL > ttl.GrantedTTL+2 || ttl.TTL < ttl.GrantedTTL-50 {
			a.t.Errorf("lease %x has %d of %d seconds", ttl.ID, ttl.TTL, ttl.GrantedTTL)
		}
		got = append(got, newLease(ttl))
	}
	sortLeases(got)
	if !reflect.DeepEqual(got, a.r.Leases) {
		a.t.Errorf("leases %+v\nwant %+v", got, a.r.Leases)
	}
}

// goOn writes more: the next revision follows, and the end of a lease takes its
// keys along.
func (a asker) goOn() {
	a.t.Helper()
	put, err := a.client.Put(a.ctx, "a/0", "later")
	if err != nil || put.Header.Revision != a.r.Revision+1 {
		a.t.Errorf("a put is at revision %d, %v", put.Header.Revision, err)
	}
	many := a.r.Leases[slices.IndexFunc(a.r.Leases, func(l lease) bool { return len(l.Keys) > 1 })]
	if _, err := a.client.Revoke(a.ctx, clientv3.LeaseID(many.ID)); err != nil {
		a.t.Fatal(err)
	}
	for _, key := range many.Keys {
		if got, err := a.client.Get(a.ctx, string(key)); err != nil || len(got.Kvs) != 0 {
			a.t.Errorf("key %q after the end of its lease: %v, %v", key, got, err)
		}
	}
}

// sameUsers compares users, roles and the like, record by record, between the
// snapshot and the state file made of it.
func sameUsers(t *testing.T, r recording, file string, m *testcluster.Member) {
	t.Helper()
	was, is := records(t, file), records(t, filepath.Join(m.Dir, "member", "snap", "db"))
	if !maps.Equal(was, is) {
		t.Errorf("users and roles\n%q, in the snapshot\n%q", is, was)
	}
	for _, user := range r.Users {
		if is["authUsers/"+user] == "" {
			t.Errorf("no user %s", user)
		}
	}
	for _, role := range r.Roles {
		if is["authRoles/"+role] == "" {
			t.Errorf("no role %s", role)
		}
	}
}

// records reads the buckets of users and roles of a file.
func records(t *testing.T, file string) map[string]string {
	t.Helper()
	db, err := bbolt.Open(file, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	found := map[string]string{}
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			if !bytes.HasPrefix(name, []byte("auth")) {
				return nil
			}
			return b.ForEach(func(k, v []byte) error {
				found[fmt.Sprintf("%s/%s", name, k)] = string(v)
				return nil
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
