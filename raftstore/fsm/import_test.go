package fsm

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/kv"
)

// etcdFile writes a state as a version of etcd leaves it. What the versions
// differ in is what they had not invented yet: 3.5 the term, the membership of
// raft and the downgrade in it, 3.6 the version of the storage.
func etcdFile(t testing.TB, minor int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoFreelistSync: minor >= 5})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		put := func(bucket string, k, v []byte) {
			b, err := tx.CreateBucketIfNotExists([]byte(bucket))
			if err == nil && k != nil {
				err = b.Put(k, v)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, b := range []string{"key", "meta", "lease", "alarm", "cluster", "members", "members_removed", "auth", "authUsers", "authRoles"} {
			put(b, nil, nil)
		}
		for i := 2; i < 40; i++ {
			r := &mvccpb.KeyValue{Key: fmt.Appendf(nil, "k%d", i%8), Value: fmt.Appendf(nil, "v%d", i), ModRevision: int64(i), CreateRevision: 2, Version: 1, Lease: int64(i % 2)}
			enc, err := proto.Marshal(r)
			if err != nil {
				return err
			}
			put("key", recordKeyOf(uint64(i), 0, false), enc)
		}
		gone, err := proto.Marshal(&mvccpb.KeyValue{Key: []byte("k1")})
		if err != nil {
			return err
		}
		put("key", recordKeyOf(40, 0, true), gone)
		put("meta", []byte("consistent_index"), binary.BigEndian.AppendUint64(nil, 77))
		put("meta", []byte("scheduledCompactRev"), recordKeyOf(5, 0, false))
		put("meta", []byte("finishedCompactRev"), recordKeyOf(4, 0, false))
		put("lease", binary.BigEndian.AppendUint64(nil, 1), []byte{8, 1, 16, 60})
		put("members", []byte("8211f1d0f64f3269"), []byte(`{"id":9372538179322589801,"peerURLs":["http://old:1"],"name":"old"}`))
		put("members_removed", []byte("91bc3c398fb3c146"), []byte("removed"))
		put("cluster", []byte("clusterVersion"), fmt.Appendf(nil, "3.%d.0", minor))
		put("auth", []byte("authEnabled"), []byte{1})
		put("auth", []byte("authRevision"), binary.BigEndian.AppendUint64(nil, 4))
		put("authUsers", []byte("root"), []byte("\n\x04root"))
		put("authRoles", []byte("root"), []byte("\n\x04root"))
		for _, member := range []uint64{1, 9372538179322589801} {
			k, err := proto.Marshal(&pb.AlarmMember{MemberID: member, Alarm: pb.AlarmType_NOSPACE})
			if err != nil {
				return err
			}
			put("alarm", k, []byte{})
		}
		if minor >= 5 {
			put("meta", []byte("term"), binary.BigEndian.AppendUint64(nil, 9))
			put("meta", []byte("confState"), []byte(`{"voters":[9372538179322589801],"auto_leave":false}`))
			put("cluster", []byte("downgrade"), []byte(`{"target-version":"3.4.0","enabled":true}`))
		}
		if minor >= 6 {
			put("meta", []byte("storageVersion"), fmt.Appendf(nil, "3.%d.0", minor))
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func recordKeyOf(main, sub uint64, gone bool) []byte {
	k := binary.BigEndian.AppendUint64(nil, main)
	k = binary.BigEndian.AppendUint64(append(k, '_'), sub)
	if gone {
		k = append(k, 't')
	}
	return k
}

// dump reads all of a bucket.
func dump(t *testing.T, m *Machine, bucket string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := m.file.Load().view(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucket)).ForEach(func(k, v []byte) error {
			out[string(k)] = string(v)
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// States of etcd 3.4 to 3.7 become one of a new cluster: keys with their history,
// leases, users and roles are kept, and nothing of the old members is.
func TestImport_ofEtcd(t *testing.T) {
	var origins []string
	for minor := 4; minor <= 7; minor++ {
		path := etcdFile(t, minor)
		status, err := InspectSnapshot(path)
		want := map[int]string{4: "", 5: "", 6: "3.6.0", 7: "3.7.0"}[minor]
		if err != nil || status.Revision != 40 || status.Keys != 7 || status.Version != want || status.Hash == 0 {
			t.Errorf("3.%d: %+v, %v", minor, status, err)
		}
		found, err := Import(path, ImportOptions{Members: members(1, 2, 3)})
		if err != nil {
			t.Fatal(err)
		}
		if found.Revision != 40 || found.Keys != 7 || !found.Auth {
			t.Errorf("3.%d: %+v", minor, found)
		}
		origins = append(origins, found.Origin)
		m := openMachine(t, path)
		if index, term := m.Synced().Position(); index != ImportIndex || term != ImportTerm {
			t.Errorf("3.%d: at index %d of term %d", minor, index, term)
		}
		v := m.View()
		if n := len(v.Members.All()); n != 3 || v.Members.Removed(0x91bc3c398fb3c146) || v.ClusterVersion != "" {
			t.Errorf("3.%d: %d members, cluster version %q", minor, n, v.ClusterVersion)
		}
		if alarms := v.Alarms.All(); len(alarms) != 1 || alarms[0].Member != 1 {
			t.Errorf("3.%d: alarms %v", minor, alarms)
		}
		if got, err := get(v, "k2", 20); err != nil || string(got) != "v18" {
			t.Errorf("3.%d: k2 at 20 is %q, %v", minor, got, err)
		}
		if _, err := get(v, "k2", 4); !errors.Is(err, kv.ErrCompacted) {
			t.Errorf("3.%d: before the compaction: %v", minor, err)
		}
		if got := dump(t, m, "members"); len(got) != 3 || got["1"] != `{"id":1,"peerURLs":["http://h1:1"]}` {
			t.Errorf("3.%d: members %v", minor, got)
		}
		if len(dump(t, m, "lease")) != 1 || len(dump(t, m, "authUsers")) != 1 || len(dump(t, m, "auth")) != 2 || len(dump(t, m, "cluster")) != 0 {
			t.Errorf("3.%d: lease %v, users %v, auth %v, cluster %v", minor, dump(t, m, "lease"), dump(t, m, "authUsers"), dump(t, m, "auth"), dump(t, m, "cluster"))
		}
		feed(t, m, "later", 2, 9) // and it goes on
		commit(t, m)
		closeMachine(t, m)
	}
	for _, o := range origins {
		if o != origins[0] {
			t.Errorf("the same state has the origins %v", origins)
		}
	}
}

// What a member of conclave holds of others goes too, and the revision rises as
// etcd's tool has it.
func TestImport_ofConclave(t *testing.T) {
	m := openMachine(t, filepath.Join(t.TempDir(), "db"))
	feed(t, m, "a", 1, 30)
	commit(t, m)
	path := filepath.Join(t.TempDir(), "copy")
	send(t, m, path)
	closeMachine(t, m)
	was := get1(t, path)
	found, err := Import(path, ImportOptions{Members: members(7), Bump: 1000})
	if err != nil || found.Revision != was.Revision+1000 || found.Keys != was.Keys {
		t.Fatalf("was %+v, became %+v, %v", was, found, err)
	}
	m = openMachine(t, path)
	defer closeMachine(t, m)
	v := m.View()
	if v.KV.CompactRev() != found.Revision || v.KV.Rev() != found.Revision {
		t.Errorf("compacted to %d at %d", v.KV.CompactRev(), v.KV.Rev())
	}
	if _, ok := v.Members.Get(7); !ok || len(v.Members.All()) != 1 {
		t.Errorf("members %v", v.Members.All())
	}
	for m.Prune() {
	}
	feed(t, m, "b", 2, 3)
	commit(t, m)
	if got, err := get(m.View(), "a3", 0); err != nil || got == nil {
		t.Errorf("a key from before: %d bytes, %v", len(got), err)
	}
	if _, err := Import(copyOf(t, path), ImportOptions{Members: members(7), Bump: 1 << 63}); !errors.Is(err, ErrNotSnapshot) {
		t.Errorf("a revision beyond all numbers: %v", err)
	}
}

func get1(t *testing.T, path string) SnapshotStatus {
	t.Helper()
	s, err := InspectSnapshot(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func copyOf(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fileOf(t, data)
}

func fileOf(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Files that are no snapshots, or parts of one, are refused with what is wrong.
func TestImport_refuses(t *testing.T) {
	good, err := os.ReadFile(etcdFile(t, 7))
	if err != nil {
		t.Fatal(err)
	}
	bolt := func(fill func(*bbolt.Tx) error) []byte {
		path := filepath.Join(t.TempDir(), "db")
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Update(fill), db.Close()); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	with := func(bucket string, k, v []byte) []byte {
		return bolt(func(tx *bbolt.Tx) error {
			for _, name := range []string{"key", "meta", bucket} {
				if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
					return err
				}
			}
			return tx.Bucket([]byte(bucket)).Put(k, v)
		})
	}
	files := map[string]struct {
		data []byte
		want string
	}{
		"nothing":           {nil, "is empty"},
		"text":              {bytes.Repeat([]byte("no database "), 1000), "meta pages"},
		"no buckets":        {bolt(func(*bbolt.Tx) error { return nil }), `no bucket "key"`},
		"no key bucket":     {bolt(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("meta")); return err }), `no bucket "key"`},
		"no meta bucket":    {bolt(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("key")); return err }), `no bucket "meta"`},
		"no revision":       {with("key", []byte("k"), []byte("v")), "is no revision"},
		"no record":         {with("key", recordKeyOf(2, 0, false), []byte{0xff}), "cannot be decoded"},
		"wrong revision":    {with("key", recordKeyOf(2, 0, false), []byte("\n\x01k\x18\x09")), "says that it is of revision 9"},
		"newer version":     {with("conclave", []byte("format"), []byte{9}), "newer version"},
		"flipped in a page": {flipped(good, int(binary.NativeEndian.Uint64(good[32:]))*os.Getpagesize()+8), "at byte"},
	}
	whole := int(get1(t, fileOf(t, good)).Size) // behind it there is nothing
	for size := 512; size < whole; size += 1 + whole/60 {
		files[fmt.Sprintf("cut at %d", size)] = struct {
			data []byte
			want string
		}{good[:size], ""}
	}
	for name, tt := range files {
		path := fileOf(t, tt.data)
		_, err := Import(path, ImportOptions{Members: members(1)})
		if !errors.Is(err, ErrNotSnapshot) && !errors.Is(err, ErrNewerFormat) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "rebuild this member") {
			t.Errorf("%s: advice for a member's own state: %v", name, err)
		}
	}
}

// realSnapshot is what a server of etcd saved, without its checksum.
func realSnapshot(t testing.TB, minor string) []byte {
	t.Helper()
	packed, err := os.Open(filepath.Join("..", "..", "test", "snapshots", "testdata", "etcd-"+minor, "snapshot.db.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	r, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data[:len(data)-sha256.Size]
}

// A bit is flipped all over real snapshots, whose checksum is not looked at: a file
// that does not hang together is refused in one line, by status and by import
// alike; any other becomes a state that a member opens.
func TestImport_flippedBitsOfRealSnapshots(t *testing.T) {
	for _, minor := range []string{"3.4", "3.5", "3.6", "3.7"} {
		good := realSnapshot(t, minor)
		refused, step := 0, 211
		if testing.Short() {
			step = 701
		}
		for at := 3; at < len(good); at += step {
			path := fileOf(t, flipped(good, at))
			_, told := InspectSnapshot(path)
			_, err := Import(path, ImportOptions{Members: members(1)})
			if err == nil {
				if told != nil {
					t.Errorf("%s, flipped at byte %d: imported, and status says %v", minor, at, told)
				}
				closeMachine(t, openMachine(t, path))
				continue
			}
			if refused++; !errors.Is(err, ErrNotSnapshot) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s, flipped at byte %d: %v", minor, at, err)
			}
		}
		if refused == 0 { // most of a file is free space
			t.Errorf("%s: none was refused", minor)
		}
	}
}

func flipped(data []byte, at int) []byte {
	out := bytes.Clone(data)
	out[at] ^= 0x10
	return out
}

// Whatever a file holds, reading it ends, with a state or an error. Most inputs are
// of 60 KiB: -fuzzminimizetime 5x keeps the time from going into smaller ones.
func FuzzImport(f *testing.F) {
	for minor := 4; minor <= 7; minor += 3 {
		data, err := os.ReadFile(etcdFile(f, minor))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, uint32(0), byte(0))
		f.Add(data, uint32(len(data)/2), byte(0x80))
	}
	for _, minor := range []string{"3.4", "3.5", "3.6", "3.7"} {
		f.Add(realSnapshot(f, minor), uint32(5000), byte(1))
	}
	f.Fuzz(func(t *testing.T, data []byte, at uint32, flip byte) {
		if len(data) > 1<<20 {
			t.Skip("nothing is different about a larger file, and it takes the time of many small ones")
		}
		if len(data) > 0 {
			data = bytes.Clone(data)
			data[int(at)%len(data)] ^= flip
		}
		path := fileOf(t, data)
		_, statusErr := InspectSnapshot(path)
		_, err := Import(path, ImportOptions{Members: members(1), Bump: 7})
		if err == nil && statusErr != nil {
			t.Errorf("restored what status refuses: %v", statusErr)
		}
		if err != nil {
			return
		}
		m := openMachine(t, path)
		if m.View().KV.Rev() < 7 {
			t.Errorf("revision %d", m.View().KV.Rev())
		}
		closeMachine(t, m)
	})
}
