package member

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// A snapshot of any member holds every write that was acknowledged anywhere
// before it was asked for.
func TestSnapshot_holdsWhatWasAcknowledged(t *testing.T) {
	all := startCluster(t, 3)
	ctx := limited(t)
	for i := range 20 {
		from, to := all[i%3], all[(i+1)%3]
		resp, err := from.Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: fmt.Appendf(nil, "%d", i)})
		if err != nil {
			t.Fatal(err)
		}
		s, err := to.Snapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "db")
		data, err := io.ReadAll(s)
		if err := errors.Join(err, s.Close(), os.WriteFile(path, data, 0o600)); err != nil {
			t.Fatal(err)
		}
		m, err := fsm.Open(fsm.Options{Path: path, Quota: 1 << 20, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		if rev := m.View().KV.Rev(); rev < resp.Header.Revision {
			t.Errorf("the snapshot is of revision %d, %d was acknowledged", rev, resp.Header.Revision)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Only so many are read at once, and one that is closed twice counts once.
func TestSnapshot_bounded(t *testing.T) {
	m := startCluster(t, 1)[0]
	ctx := limited(t)
	var open []Snapshot
	for range maxSnapshots {
		s, err := m.Snapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, s)
	}
	if _, err := m.Snapshot(ctx); !errors.Is(err, ErrTooManySnapshots) {
		t.Errorf("one more: %v", err)
	}
	for range 2 {
		if err := open[0].Close(); err != nil {
			t.Fatal(err)
		}
	}
	s, err := m.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Snapshot(ctx); !errors.Is(err, ErrTooManySnapshots) {
		t.Errorf("two more after one ended: %v", err)
	}
	for _, o := range append(open, s) {
		_ = o.Close()
	}
}

// Members with the same history have the same hashes.
func TestHash_equalOnAllMembers(t *testing.T) {
	all := startCluster(t, 3)
	ctx := limited(t)
	var last int64
	for i := range 30 {
		resp, err := all[i%3].Put(ctx, &pb.PutRequest{Key: fmt.Appendf(nil, "k%d", i%7)})
		if err != nil {
			t.Fatal(err)
		}
		last = resp.Header.Revision
	}
	var hashes, histories []uint32
	for _, m := range all {
		if err := m.linearize(ctx); err != nil {
			t.Fatal(err)
		}
		h, err := m.Hash(ctx)
		if err != nil {
			t.Fatal(err)
		}
		k, err := m.HashKV(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		if k.HashRevision != last || k.Header.Revision != last || h.Header.Revision != last || k.CompactRevision != -1 {
			t.Errorf("HashKV %v, Hash %v", k, h)
		}
		hashes, histories = append(hashes, h.Hash), append(histories, k.Hash)
	}
	for i := range all {
		if hashes[i] != hashes[0] || histories[i] != histories[0] {
			t.Errorf("hashes %x and %x", hashes, histories)
		}
	}
}
