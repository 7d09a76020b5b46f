package fsm

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

func anchorOf(member, seq uint64) *conclavepb.AuditAnchor {
	hash := sha256.Sum256(fmt.Appendf(nil, "%d of %d", seq, member))
	return &conclavepb.AuditAnchor{Member: member, Seq: seq, Hash: hash[:], Time: int64(seq) * 1000}
}

// anchor has a machine apply an anchor, and returns its answer.
func anchor(m *Machine, index uint64, a *conclavepb.AuditAnchor) error {
	m.begin()
	m.at.index = index
	body, err := AppendRequest(nil, KindAuditAnchor, ByMember, a)
	if err != nil {
		panic(err)
	}
	e := entry{rest: body}
	req, _, err := e.next()
	if err != nil {
		panic(err)
	}
	defer m.Publish()
	return m.apply(index, &task{request: req}, true).Err
}

// What a member has anchored stays as it is: neither an earlier record nor another
// hash of the same one takes its place.
func TestAnchors_neverGoBack(t *testing.T) {
	m := openMachine(t, filepath.Join(t.TempDir(), "db"))
	defer m.Close()
	m.Configure(1, 1, members(1))
	other := anchorOf(7, 20)
	other.Hash = bytes.Repeat([]byte{1}, sha256.Size)
	for i, c := range []struct {
		a    *conclavepb.AuditAnchor
		want error
	}{
		{anchorOf(7, 10), nil}, {anchorOf(7, 20), nil}, {anchorOf(7, 20), nil}, {anchorOf(8, 5), nil},
		{anchorOf(7, 19), ErrAnchorBack}, {anchorOf(7, 10), ErrAnchorBack}, {other, ErrAnchorBack}, {anchorOf(7, 21), nil},
	} {
		if err := anchor(m, uint64(2+i), c.a); !errors.Is(err, c.want) {
			t.Errorf("record %d of member %d: %v, want %v", c.a.Seq, c.a.Member, err, c.want)
		}
	}
	if n := len(m.View().Anchors.Of(7)); n != 3 {
		t.Errorf("member 7 has %d anchors, want 3", n)
	}
}

// The newest anchors are kept, over a restart too, and of the members those that
// still anchor. What a reader holds does not change.
func TestAnchors_areBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	m := openMachine(t, path)
	m.Configure(1, 1, members(1))
	index := uint64(2)
	next := func(member, seq uint64) {
		t.Helper()
		if err := anchor(m, index, anchorOf(member, seq)); err != nil {
			t.Fatal(err)
		}
		index++
	}
	next(999, 1)
	held := m.View().Anchors
	for seq := range uint64(maxAnchors + 10) {
		next(1, seq+1)
	}
	for member := range uint64(maxAnchored - 1) {
		next(member+2, 1)
	}
	for _, when := range []string{"applied", "reopened"} {
		a := m.View().Anchors
		list := a.Of(1)
		if len(list) != maxAnchors || list[0].Seq != 11 || list[0].Index != 13 || list[0].Time != 11_000 {
			t.Fatalf("%s: member 1 has %d anchors from %+v on", when, len(list), list[0])
		}
		newest, _ := a.Newest(1)
		if want := anchorOf(1, maxAnchors+10); newest.Seq != want.Seq || !bytes.Equal(newest.Hash[:], want.Hash) {
			t.Errorf("%s: the newest is %+v", when, newest)
		}
		if len(a.of) != maxAnchored || len(a.Of(999)) != 0 {
			t.Errorf("%s: %d members are kept, and %d anchors of the one that fell silent", when, len(a.of), len(a.Of(999)))
		}
		if when == "applied" {
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			m = openMachine(t, path)
		}
	}
	defer m.Close()
	if len(held.Of(999)) != 1 || len(held.Of(1)) != 0 {
		t.Error("what a reader held has changed")
	}
}

// They are no part of what clients see as the state: revision, HashKV and applied
// keys are those of a cluster without. A restored cluster begins without them.
func TestAnchors_outsideTheKeys(t *testing.T) {
	dir := t.TempDir()
	var hashes [2]uint32
	for i := range hashes {
		m := openMachine(t, filepath.Join(dir, fmt.Sprint(i)))
		m.Configure(1, 1, members(1))
		m.Command(2, 1, entryOf(t, 1, 1, KindPut, &pb.PutRequest{Key: []byte("k"), Value: []byte("v")}))
		m.Publish()
		if i == 1 {
			if err := anchor(m, 3, anchorOf(1, 1)); err != nil {
				t.Fatal(err)
			}
		}
		h, err := m.HashKV(0)
		if err != nil || h.Revision != 2 {
			t.Fatalf("at revision %d: %v", h.Revision, err)
		}
		hashes[i] = h.Sum
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if hashes[0] != hashes[1] {
		t.Errorf("HashKV is %x without, %x with an anchor", hashes[0], hashes[1])
	}
	path := filepath.Join(dir, "1")
	if has := hasAnchors(t, path); !has {
		t.Fatal("the anchor is not in the file")
	}
	if _, err := Import(path, ImportOptions{Members: members(5)}); err != nil {
		t.Fatal(err)
	}
	if has := hasAnchors(t, path); has {
		t.Error("a restored state has anchors of the old cluster")
	}
}

func hasAnchors(t *testing.T, path string) (has bool) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.View(func(tx *bbolt.Tx) error { has = tx.Bucket(bucketAnchors) != nil; return nil }); err != nil {
		t.Fatal(err)
	}
	return has
}

func TestAnchors_damageIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	m := openMachine(t, path)
	m.Configure(1, 1, members(1))
	if err := errors.Join(anchor(m, 2, anchorOf(1, 1)), m.Close()); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketAnchors).Put([]byte("short"), nil) })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if m, err := openAtLevel(path, 0); !errors.Is(err, ErrCorrupt) {
		t.Errorf("opened %v: %v", m, err)
	}
}
