//go:build interop

package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/protobuf/proto"
)

// rot changes a byte of a value in a stopped member's state file.
func rot(t *testing.T, m *member) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(m.data, "member", "snap", "db"), 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("key"))
		k, v := b.Cursor().Last()
		var rec mvccpb.KeyValue
		if err := proto.Unmarshal(v, &rec); err != nil {
			return err
		}
		rec.Value[0] ^= 1
		changed, err := proto.Marshal(&rec)
		return errors.Join(err, b.Put(slices.Clone(k), changed))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// A member with one wrong byte does not come to serve, with etcd's words. With
// the check at the start off it is found after a compaction: one alarm, of that
// member, which answers nothing about keys while the others go on. It is
// rebuilt as its log says, and then all is well.
func TestCorrupt_foundAndRebuilt(t *testing.T) {
	t.Parallel()
	g := start(t, 3, false)
	client := g.dial(g.members[:2]...)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var last int64
	for i := range 20 {
		resp, err := client.Put(ctx, fmt.Sprintf("k%02d", i), "value")
		if err != nil {
			t.Fatal(err)
		}
		last = resp.Header.Revision
	}
	bad := g.members[2]
	status, err := bad.dial().Status(ctx, bad.clientURL())
	if err != nil {
		t.Fatal(err)
	}
	id := status.Header.MemberId
	bad.serves()
	bad.proc.stop()
	rot(t, bad)

	if code := bad.launch().exit(serveTimeout); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if want := fmt.Sprintf("%016x found data inconsistency with peers", id); !strings.Contains(bad.proc.said(), want) {
		t.Errorf("the member did not say %q", want)
	}

	for _, m := range g.members[:2] { // whoever leads looks often
		m.proc.stop()
	}
	for _, m := range g.members {
		m.launch("--feature-gates", "InitialCorruptCheck=false", "--compact-hash-check-time", "200ms")
	}
	g.serve()
	if _, err := client.Compact(ctx, last); err != nil {
		t.Fatal(err)
	}
	eventually(t, serveTimeout, "the alarm", func() error {
		resp, err := client.AlarmList(ctx)
		if err != nil {
			return err
		}
		if len(resp.Alarms) != 1 || resp.Alarms[0].MemberID != id || resp.Alarms[0].Alarm != pb.AlarmType_CORRUPT {
			return fmt.Errorf("alarms %v", resp.Alarms)
		}
		return nil
	})
	own := bad.dial()
	eventually(t, serveTimeout, "the damaged member to refuse", func() error {
		_, err := own.Get(ctx, "k01")
		if _, err2 := own.Put(ctx, "k", "v"); !errors.Is(err, rpctypes.ErrCorrupt) || !errors.Is(err2, rpctypes.ErrCorrupt) {
			return fmt.Errorf("get: %w, put: %w", err, err2)
		}
		return nil
	})
	bad.proc.says(serveTimeout, "rebuild it: conclave member remove "+strconv.FormatUint(id, 16))
	if _, err := client.Put(ctx, "goes", "on"); err != nil {
		t.Errorf("put to the others: %v", err)
	}

	eventually(t, serveTimeout, "the removal", func() error { // not before the connections are five seconds old
		_, err := client.MemberRemove(ctx, id)
		return err
	})
	eventually(t, serveTimeout, "the end of the alarm", func() error {
		resp, err := client.AlarmList(ctx)
		if err == nil && len(resp.Alarms) > 0 {
			err = fmt.Errorf("alarms %v", resp.Alarms)
		}
		return err
	})
	bad.proc.exit(serveTimeout)
	bad.data = filepath.Join(bad.home, "another")
	if _, err := client.MemberAdd(ctx, []string{bad.peerURL()}); err != nil {
		t.Fatal(err)
	}
	bad.launch("--initial-cluster-state", "existing")
	bad.serves()
	holdsSame(ctx, t, g)
}

// holdsSame compares the hashes of all members.
func holdsSame(ctx context.Context, t *testing.T, g *group) {
	t.Helper()
	sums := map[uint32]bool{}
	first, err := g.members[0].dial().Get(ctx, "nothing")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range g.members {
		m.serves()
		h, err := m.dial().HashKV(ctx, m.clientURL(), first.Header.Revision)
		if err != nil {
			t.Fatal(err)
		}
		sums[h.Hash] = true
	}
	if len(sums) != 1 {
		t.Errorf("hashes %v", sums)
	}
}
