package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/rs/zerolog"
	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/pki/ledger"
)

// damageable makes a state file with every kind of page: branches, leaves with
// and without overflow, inline buckets, free pages.
func damageable(t *testing.T) (path string) {
	t.Helper()
	m := openMachine(t, filepath.Join(t.TempDir(), "db"))
	m.Configure(1, 1, members(1, 2, 3))
	index := uint64(1)
	apply := func(parts ...any) {
		index++
		m.Command(index, 2, entryOf(t, 2, index, parts...))
	}
	generation, err := ledger.Create(&conclavepb.Generation{
		Number: 1, TrustDomain: "t", PeerCa: []byte("a"), PeerCaCross: []byte("b"), ClientCa: []byte("c"),
		SealedPeerKey: []byte("d"), SealedClientKey: []byte("e"),
	})
	if err != nil {
		t.Fatal(err)
	}
	m.Command(index+1, 2, AppendRaw(AppendHeader(nil, 2, 1), KindLedger, Origin{}, generation))
	index++
	apply(KindAttributes, &conclavepb.Attributes{Member: 2, Name: "two", ClientUrls: []string{"http://two:2379"}},
		KindClusterVersion, &conclavepb.ClusterVersion{Version: "3.7.0"})
	for i := range 200 {
		apply(KindPut, &pb.PutRequest{Key: fmt.Appendf(nil, "key-%03d", i%150), Value: bytes.Repeat([]byte{byte(i)}, 100+i)})
		if i%40 == 0 {
			apply(KindPut, &pb.PutRequest{Key: fmt.Appendf(nil, "large-%d", i), Value: bytes.Repeat([]byte{byte(i)}, 3*4096)})
			apply(KindDeleteRange, &pb.DeleteRangeRequest{Key: fmt.Appendf(nil, "key-%03d", i/2)})
			m.Publish()
			commit(t, m)
		}
	}
	apply(KindCompact, &pb.CompactionRequest{Revision: 100})
	m.Publish()
	for m.Prune() {
	}
	commit(t, m)
	path = filepath.Join(t.TempDir(), "sent") // without the room to grow that a file in use has
	send(t, m, path)
	closeMachine(t, m)
	return path
}

// content is everything that a state file holds, as a member sees it.
func content(m *Machine) (string, error) {
	h, err := m.HashKV(0)
	if err != nil {
		return "", err
	}
	v := m.View()
	resp, err := v.KV.Range(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	if err != nil {
		return "", err
	}
	index, conf := m.Synced().Membership()
	at, term := m.Synced().Position()
	return fmt.Sprint(h, v.KV.CompactRev(), v.Members.All(), v.Members.removed, v.ClusterVersion,
		fmt.Sprintf("%x", v.Ledger.Digest()), index, conf, at, term, resp.Kvs), nil
}

// A region is a part of the file, [from, to).
type region struct{ from, to int }

// records finds, in a file with this content, where keys and values of records lie: what changes there is not
// structure.
func records(t *testing.T, path string, content []byte) (list []region) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	base := db.Info().Data
	at := func(b []byte) int { return int(uintptr(unsafe.Pointer(unsafe.SliceData(b))) - base) }
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				size := len(k) + len(v)
				from := at(k)
				if from >= 0 && from < len(content) {
					list = append(list, region{from, from + size})
					return nil
				}
				// Of a small bucket, which bbolt copies.
				both := append(slices.Clone(k), v...)
				for from := bytes.Index(content, both); from >= 0; {
					list = append(list, region{from, from + size})
					next := bytes.Index(content[from+1:], both)
					if next < 0 {
						break
					}
					from += 1 + next
				}
				return nil
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Bits flip anywhere in the file, or it ends early: opening it never ends the
// process. Either it holds the same, or the damage is told; only in the bytes of
// a record itself, which have no checksum, may a change pass.
func TestOpen_damage(t *testing.T) {
	path := damageable(t)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := openMachine(t, path)
	want, err := content(m)
	if err != nil {
		t.Fatal(err)
	}
	closeMachine(t, m)
	within := records(t, path, good)
	trial := filepath.Join(t.TempDir(), "db")
	counts := map[string]int{}
	try := func(name string, bad []byte, offset int) {
		if err := os.WriteFile(trial, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := Open(Options{Path: trial, Quota: 1 << 20, Log: zerolog.Nop()})
		switch {
		case errors.Is(err, ErrCorrupt):
			if !strings.Contains(err.Error(), trial) || !strings.Contains(err.Error(), "conclave member add") {
				t.Errorf("%s: %v", name, err)
			}
			counts["told"]++
			return
		case errors.Is(err, ErrNewerFormat):
			counts["told as newer"]++
			return
		case err != nil:
			t.Errorf("%s: %v", name, err)
			return
		}
		defer m.file.Load().db.Load().Close()
		got, err := content(m)
		inRecord := slices.ContainsFunc(within, func(r region) bool { return r.from <= offset && offset < r.to })
		switch {
		case err != nil:
			counts["told when read"]++
		case got == want:
			counts["the same"]++
		case inRecord:
			counts["another record"]++
		default:
			t.Errorf("%s: opened with another content", name)
		}
		m.file.Load().db.Load().NoSync = true
		// What was opened can be written to.
		m.Command(m.Applied()+1, 9, entryOf(t, 9, 1, KindPut, &pb.PutRequest{Key: []byte("next")}))
		m.Publish()
		if err := m.Commit(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	flip := func(offset int, bits byte) {
		bad := slices.Clone(good)
		bad[offset] ^= bits
		try(fmt.Sprintf("byte %d (page %d + %d) ^ %#x", offset, offset/4096, offset%4096, bits), bad, offset)
	}
	pages := map[uint16]int{}
	for at := 0; at+4096 <= len(good); at += 4096 {
		kind := binary.NativeEndian.Uint16(good[at+8:])
		step, limit := 1, 80 // heads and first elements of each kind of page, then samples
		if pages[kind]++; pages[kind] > 1 || testing.Short() {
			step, limit = 7, 40
		}
		for i := 0; i < limit; i += step {
			flip(at+i, 1<<(i%8))
		}
		sampled := 531
		if testing.Short() {
			sampled = 2003
		}
		for i := limit; i < 4096; i += sampled {
			flip(at+i, 0x80)
		}
		if at > 0 { // an empty file is a new one
			try(fmt.Sprintf("cut at %d", at), good[:at], at)
		}
		try(fmt.Sprintf("cut at %d", at+1000), good[:at+1000], at)
		zero := slices.Clone(good)
		clear(zero[at : at+4096])
		if at >= 2*4096 {
			try(fmt.Sprintf("page at %d is zero", at), zero, at)
		}
	}
	t.Logf("pages by kind %v, outcomes %v", pages, counts)
	if counts["told"] == 0 || counts["the same"] == 0 {
		t.Fatal("the table does not reach")
	}
}

// A meta page that is not whole stands for a commit that was not finished: the
// one before counts. Without any there is no state.
func TestOpen_damagedMeta(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	m := openMachine(t, path)
	for i := range uint64(3) {
		feed(t, m, "k", 5*i+1, 5*i+5)
		commit(t, m)
	}
	closeMachine(t, m)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	newest, err := newestMeta(f)
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range []uint64{10, 0} {
		page := int64((newest.txn + uint64(n)) % 2)
		if _, err := f.WriteAt([]byte("damage"), page*newest.pageSize+pageHeader+20); err != nil {
			t.Fatal(err)
		}
		m, err := Open(Options{Path: path, Quota: 1 << 20, Log: zerolog.Nop()})
		if want == 0 {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("without a meta page: %v", err)
			}
			t.Log(err)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if index, _ := m.Synced().Position(); index != want {
			t.Fatalf("opened at index %d, want %d", index, want)
		}
		m.file.Load().db.Load().Close()
	}
}
