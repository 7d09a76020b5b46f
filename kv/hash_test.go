package kv

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// A golden line is one request and what etcd 3.7.3's mvcc store answered to
// HashByRev after it: revision, hash, compact revision.
type goldenLine struct {
	Op       string          `json:"op"`
	Request  json.RawMessage `json:"request"`
	Revision int64           `json:"revision"`
	Hashes   [][3]int64      `json:"hashes"`
}

func perform(t *testing.T, b *Batch, l goldenLine) {
	t.Helper()
	parse := func(m proto.Message) {
		if err := protojson.Unmarshal(l.Request, m); err != nil {
			t.Fatal(err)
		}
	}
	// Requests that etcd refused are part of the history: errors are expected.
	switch l.Op {
	case "put":
		var q pb.PutRequest
		parse(&q)
		_, _ = b.Put(&q, None)
	case "delete":
		var q pb.DeleteRangeRequest
		parse(&q)
		_, _ = b.DeleteRange(&q, None)
	case "txn":
		var q pb.TxnRequest
		parse(&q)
		_, _ = b.Txn(&q, None)
	case "compact":
		var q pb.CompactionRequest
		parse(&q)
		_, _ = b.Compact(&q, None)
	default:
		t.Fatalf("unknown operation %q", l.Op)
	}
}

func TestStore_hashKVequalsEtcd(t *testing.T) {
	file, err := os.Open("testdata/hashkv.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	f := newFixture(t, Options{PruneStep: 4, MaxInline: 30})
	hashed := 0
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for n := 0; lines.Scan(); n++ {
		var l goldenLine
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		f.batch(func(b *Batch) { perform(t, b, l) })
		if rev := f.s.View().Rev(); rev != l.Revision {
			t.Fatalf("line %d: revision %d, etcd's %d", n+1, rev, l.Revision)
		}
		if n%3 == 0 {
			f.flush(len(f.queue) / 2)
		}
		for _, h := range l.Hashes {
			hashed++
			got, err := f.s.HashKV(h[0])
			want := Hash{Sum: uint32(h[1]), Revision: h[0], CompactRev: h[2], CurrentRev: l.Revision}
			if err != nil || got != want {
				t.Fatalf("line %d: hash %+v, %v; etcd's %+v", n+1, got, err, want)
			}
		}
	}
	if lines.Err() != nil || hashed < 50 {
		t.Fatalf("only %d hashes compared, %v", hashed, lines.Err())
	}
}

func TestStore_hashKVbounds(t *testing.T) {
	f := newFixture(t, Options{})
	f.put("a", "1", "a", "2", "a", "3")
	f.compact(3)
	if _, err := f.s.HashKV(2); !errors.Is(err, ErrCompacted) {
		t.Errorf("hash at a compacted revision: %v", err)
	}
	if _, err := f.s.HashKV(5); !errors.Is(err, ErrFutureRevision) {
		t.Errorf("hash at a future revision: %v", err)
	}
	unwritten, err := f.s.HashKV(0)
	if err != nil {
		t.Fatal(err)
	}
	f.settle()
	f.open()
	if written, err := f.s.HashKV(4); err != nil || written != unwritten {
		t.Errorf("hash %+v, %v after reopening, %+v before", written, err, unwritten)
	}
}
