//go:build interop

package cluster_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// steps is how many requests the two servers are given.
const steps = 400

// besideEtcd starts a member of conclave and one of etcd, each alone, to be given
// the same requests in plaintext.
func besideEtcd(t *testing.T) (s *solo, ours *process, their *solo, theirs *process) {
	t.Helper()
	s = newSolo(t)
	ours = launch(t, "one", s.home, s.plain().argv()...)
	home := t.TempDir()
	their = &solo{member: s.other, dns: s.dns}
	their.data = filepath.Join(home, "data")
	argv := append([]string{realTool(t, "etcd")}, their.plain().set("data-dir", their.data).argv()[1:]...)
	theirs = launch(t, "etcd", home, argv...)
	for _, p := range []*process{ours, theirs} {
		p.says(serveTimeout, "ready to serve client requests")
	}
	s.g.secret = "" // the client speaks plaintext
	return s, ours, their, theirs
}

// The same requests give the same answers and the same history on disk as with
// a real etcd, and etcd's own tool reads ours.
func TestDataDirectory_equalsEtcds(t *testing.T) {
	t.Parallel()
	s, ours, their, theirs := besideEtcd(t)
	a, b := s.dial(), their.dial()
	rng := rand.New(rand.NewPCG(3, 7))
	revision := int64(1)
	for i := range steps {
		op, compact := randomRequest(rng, revision)
		got, want := perform(t, a, op, compact), perform(t, b, op, compact)
		if got != want {
			t.Fatalf("step %d: %v\nconclave: %s\netcd:     %s", i, op, got, want)
		}
		if got, err := a.Get(t.Context(), "x"); err == nil {
			revision = got.Header.Revision
		}
	}
	theirs.stop()
	ours.stop()
	etcdutl := realTool(t, "etcdutl")
	ourFile, theirFile := filepath.Join(s.data, "member", "snap", "db"), filepath.Join(their.data, "member", "snap", "db")
	for _, at := range []int64{0, revision, revision - 1, revision - 10} {
		rev := fmt.Sprintf("--rev=%d", at)
		got, err := output(s.home, "", etcdutl, "hashkv", ourFile, rev, "-w", "json")
		want, _ := output(s.home, "", etcdutl, "hashkv", theirFile, rev, "-w", "json") // may be compacted, for both
		if got != want || at == 0 && err != nil {
			t.Errorf("etcdutl hashkv %s of our file: %s, of etcd's: %s", rev, got, want)
		}
	}
	got, want := snapshotStatus(t, etcdutl, ourFile), snapshotStatus(t, etcdutl, theirFile)
	if got != want {
		t.Errorf("etcdutl snapshot status of our file: %+v, of etcd's: %+v", got, want)
	}
	t.Logf("%d requests, revision %d, %+v", steps, revision, got)
}

// status is what etcdutl says about a file that must be equal. The file's hash
// and size are of the whole file, and its key count includes other buckets.
type status struct {
	Revision int64  `json:"revision"`
	Version  string `json:"version"`
}

func snapshotStatus(t *testing.T, etcdutl, file string) status {
	t.Helper()
	var s status
	out := must(t, filepath.Dir(file), etcdutl, "snapshot", "status", file, "-w", "json")
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return s
}

// randomRequest makes a request over few keys, so that they meet, or now and
// then a compaction to the given revision.
func randomRequest(rng *rand.Rand, now int64) (op clientv3.Op, compact int64) {
	key := func() string { return string([]byte{byte('a' + rng.IntN(6)), byte('0' + rng.IntN(4))}) }
	put := func() clientv3.Op {
		opts := []clientv3.OpOption{}
		if rng.IntN(2) == 0 {
			opts = append(opts, clientv3.WithPrevKV())
		}
		return clientv3.OpPut(key(), fmt.Sprint(rng.IntN(1000)), opts...)
	}
	del := func() clientv3.Op {
		opts := []clientv3.OpOption{clientv3.WithPrevKV()}
		if rng.IntN(3) == 0 {
			opts = append(opts, clientv3.WithRange(key()))
		}
		return clientv3.OpDelete(key(), opts...)
	}
	get := func() clientv3.Op { return clientv3.OpGet(key()[:1], clientv3.WithPrefix()) }
	switch n := rng.IntN(20); {
	case n == 0 && now > 20:
		return clientv3.Op{}, now - int64(rng.IntN(10))
	case n < 9:
		return put(), 0
	case n < 12:
		return del(), 0
	case n < 14:
		return get(), 0
	}
	// One key is put at most once in a transaction: etcd refuses more.
	cmp := clientv3.Compare(clientv3.ModRevision(key()), ">", rng.Int64N(now+1))
	return clientv3.OpTxn([]clientv3.Cmp{cmp}, []clientv3.Op{put(), get()}, []clientv3.Op{del(), get()}), 0
}

// perform sends a request and returns the answer as text, without what tells
// one cluster from another.
func perform(t *testing.T, client *clientv3.Client, op clientv3.Op, compact int64) string {
	t.Helper()
	var msg proto.Message
	var err error
	if compact != 0 {
		var resp *clientv3.CompactResponse
		if resp, err = client.Compact(t.Context(), compact, clientv3.WithCompactPhysical()); err == nil {
			msg = (*pb.CompactionResponse)(resp)
		}
	} else {
		var resp clientv3.OpResponse
		if resp, err = client.Do(t.Context(), op); err == nil {
			msg = answer(resp, op)
		}
	}
	if err != nil {
		return err.Error()
	}
	text, err := protojson.Marshal(msg)
	if err != nil {
		t.Fatal(err)
	}
	return anonymous(t, text)
}

func answer(resp clientv3.OpResponse, op clientv3.Op) proto.Message {
	switch {
	case op.IsPut():
		return (*pb.PutResponse)(resp.Put())
	case op.IsDelete():
		return (*pb.DeleteRangeResponse)(resp.Del())
	case op.IsTxn():
		return (*pb.TxnResponse)(resp.Txn())
	}
	return (*pb.RangeResponse)(resp.Get())
}

// anonymous is the answer with the revision alone in its header.
func anonymous(t *testing.T, text []byte) string {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	header, ok := fields["header"].(map[string]any)
	if !ok {
		t.Fatalf("an answer without a header: %s", text)
	}
	fields["header"] = map[string]any{"revision": header["revision"]}
	out, err := json.Marshal(fields) // in the order of names
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// A real etcd continues from our state file, restored with etcd's own tool.
func TestDataDirectory_startsEtcd(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	s.g.secret = ""
	const keys = 20
	ours := launch(t, "one", s.home, s.plain().argv()...)
	ours.says(serveTimeout, "ready to serve client requests")
	var last *clientv3.PutResponse
	var err error
	for i := range keys {
		if last, err = s.dial().Put(t.Context(), fmt.Sprintf("k%02d", i), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	ours.stop()
	restored := filepath.Join(t.TempDir(), "data")
	peer := "http://" + s.addr + ":" + s.peer
	must(t, s.home, realTool(t, "etcdutl"), "snapshot", "restore", filepath.Join(s.data, "member", "snap", "db"), "--skip-hash-check",
		"--data-dir", restored, "--name", "one", "--initial-cluster", "one="+peer, "--initial-advertise-peer-urls", peer)
	etcd := launch(t, "etcd", s.home, append([]string{realTool(t, "etcd")}, s.plain().set("data-dir", restored).argv()[1:]...)...)
	etcd.says(serveTimeout, "ready to serve client requests")
	resp, err := s.dial().Get(t.Context(), "k", clientv3.WithPrefix())
	if err != nil || len(resp.Kvs) != keys {
		t.Fatalf("etcd reads %v, %v", resp, err)
	}
	for i, kv := range resp.Kvs {
		if string(kv.Key) != fmt.Sprintf("k%02d", i) || string(kv.Value) != fmt.Sprint(i) || kv.Version != 1 {
			t.Errorf("key %d is %v", i, kv)
		}
	}
	if newest := resp.Kvs[keys-1].ModRevision; newest != last.Header.Revision {
		t.Errorf("the last key is at revision %d in etcd, at %d in conclave", newest, last.Header.Revision)
	}
}
