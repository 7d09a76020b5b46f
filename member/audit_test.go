package member

import (
	"errors"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// What one member anchors, every member knows, and a restart finds.
func TestMember_anchorsAudit(t *testing.T) {
	all := startCluster(t, 3)
	for _, f := range all {
		eventuallyTrue(t, "the level", func() bool { return f.View().Level >= fsm.LevelOf(fsm.KindAuditAnchor) })
	}
	revision := func() int64 {
		r, err := all[0].Range(limited(t), &pb.RangeRequest{Key: []byte("k")})
		if err != nil {
			t.Fatal(err)
		}
		return r.Header.Revision
	}
	before := revision()
	hash := [32]byte{1, 2, 3}
	if err := all[1].AnchorAudit(limited(t), 10, hash); err != nil {
		t.Fatal(err)
	}
	if err := all[1].AnchorAudit(limited(t), 9, hash); !errors.Is(err, fsm.ErrAnchorBack) {
		t.Errorf("an earlier record: %v", err)
	}
	for _, f := range all {
		resp, err := f.Anchors(limited(t), &conclavepb.AnchorsRequest{Member: all[1].ID()})
		if err != nil {
			t.Fatal(err)
		}
		if a := resp.GetAnchors(); len(a) != 1 || a[0].GetSeq() != 10 || [32]byte(a[0].GetHash()) != hash || a[0].GetTime() == 0 {
			t.Errorf("member %x knows %v", f.ID(), a)
		}
	}
	if seq, got := all[1].AuditHead(); seq != 10 || got != hash {
		t.Errorf("its head is %d, %x", seq, got)
	}
	if seq, _ := all[0].AuditHead(); seq != 0 {
		t.Errorf("the head of another member is %d", seq)
	}
	if now := revision(); now != before {
		t.Errorf("the revision went from %d to %d", before, now)
	}
}

// While a member may not understand it, nothing is anchored.
func TestMember_anchorsWhenAllUnderstand(t *testing.T) {
	all := newFixtures(t, 2)
	all[0].cfg.Level = 1
	for _, f := range all {
		f.begin(t)
	}
	eventuallyTrue(t, "both have told their level", func() bool { return all[1].View().Members.Capable() == 1 })
	if err := all[1].AnchorAudit(limited(t), 1, [32]byte{}); !errors.Is(err, ErrNotCapable) {
		t.Errorf("anchored: %v", err)
	}
}
