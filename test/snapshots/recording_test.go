package snapshots

import (
	"cmp"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A recording is what a server answered about the state that its snapshot has.
type recording struct {
	Server    string            `json:"server"`
	Revision  int64             `json:"revision"`
	Compacted int64             `json:"compacted"`
	Hashes    []hash            `json:"hashes"`   // HashKV, the newest revision first
	AtStart   []keyValue        `json:"at_start"` // all keys at the revision compacted to
	Events    []event           `json:"events"`   // all since then, as a watch tells them
	Leases    []lease           `json:"leases"`   // by id
	Status    map[string]string `json:"status"`   // what `etcdutl snapshot status -w FORM` prints, by form
	Users     []string          `json:"users"`    // names
	Roles     []string          `json:"roles"`    // names
}

type hash struct {
	Revision  int64  `json:"revision"`
	Hash      uint32 `json:"hash"`
	Compacted int64  `json:"compacted"`
}

type keyValue struct {
	Key     text  `json:"key"`
	Value   text  `json:"value"`
	Create  int64 `json:"create"`
	Mod     int64 `json:"mod"`
	Version int64 `json:"version"`
	Lease   int64 `json:"lease,omitempty"`
}

// text is bytes, in JSON as Go quotes them: of any kind, and readable where they
// can be.
type text string

func (t text) MarshalText() ([]byte, error) {
	quoted := strconv.QuoteToASCII(string(t))
	return []byte(quoted[1 : len(quoted)-1]), nil
}

func (t *text) UnmarshalText(b []byte) error {
	plain, err := strconv.Unquote(`"` + string(b) + `"`)
	*t = text(plain)
	return err
}

// An event is a put, or the deletion of a key, which has nothing but a mod
// revision.
type event struct {
	Deleted bool `json:"deleted,omitempty"`
	keyValue
}

type lease struct {
	ID   int64  `json:"id"`
	TTL  int64  `json:"ttl"` // as granted, in seconds
	Keys []text `json:"keys"`
}

func newKeyValue(kv *mvccpb.KeyValue) keyValue {
	return keyValue{
		Key: text(kv.Key), Value: text(kv.Value),
		Create: kv.CreateRevision, Mod: kv.ModRevision, Version: kv.Version, Lease: kv.Lease,
	}
}

func newKeyValues(kvs []*mvccpb.KeyValue) (out []keyValue) {
	for _, kv := range kvs {
		out = append(out, newKeyValue(kv))
	}
	return out
}

func newEvents(events []*clientv3.Event) (out []event) {
	for _, e := range events {
		out = append(out, event{Deleted: e.Type == clientv3.EventTypeDelete, keyValue: newKeyValue(e.Kv)})
	}
	return out
}

func newLease(l *clientv3.LeaseTimeToLiveResponse) lease {
	out := lease{ID: int64(l.ID), TTL: l.GrantedTTL}
	for _, k := range l.Keys {
		out.Keys = append(out.Keys, text(k))
	}
	slices.Sort(out.Keys)
	return out
}

func sortLeases(all []lease) {
	slices.SortFunc(all, func(a, b lease) int { return cmp.Compare(a.ID, b.ID) })
}

// place is the directory of what a server of a minor version left.
func place(minor string) string { return filepath.Join("testdata", "etcd-"+minor) }

// load returns a recording, and its snapshot as a file of the test's own.
func load(t *testing.T, minor string) (r recording, file string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(place(minor), "recording.json"))
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	packed, err := os.Open(filepath.Join(place(minor), "snapshot.db.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	unpacked, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), fmt.Sprintf("etcd-%s.db", minor))
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return r, file
}
