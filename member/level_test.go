package member

import (
	"errors"
	"path/filepath"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/raftstore/fsm"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// newerFixtures are members of a version that understands the level after this
// one's, except for the first.
func newerFixtures(t *testing.T, n int) []*fixture {
	t.Helper()
	all := newFixtures(t, n)
	for _, f := range all[1:] {
		if err := f.machine.Close(); err != nil {
			t.Fatal(err)
		}
		machine, err := fsm.Open(fsm.Options{Path: filepath.Join(f.dir, "db"), Quota: 64 << 20, Level: fsm.NewestLevel + 1, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { machine.Close() })
		cfg := f.cfg
		cfg.Level, cfg.Registry = fsm.NewestLevel+1, prometheus.NewRegistry()
		f.Member = New(cfg, f.peer, machine)
	}
	return all
}

// A cluster of two versions stays at the level of the older one, and goes on to the
// newer one's when that is gone.
func TestMember_levelOfTheOldest(t *testing.T) {
	all := newerFixtures(t, 3)
	for _, f := range all {
		f.begin(t)
	}
	old, newer := all[0], all[1:]
	eventuallyTrue(t, "all have told their level", func() bool {
		return newer[0].View().Members.Capable() == fsm.NewestLevel
	})
	if _, err := newer[0].Put(limited(t), &pb.PutRequest{Key: []byte("k")}); err != nil {
		t.Fatal(err)
	}
	eventuallyTrue(t, "the level of all", func() bool { return newer[0].View().Level == fsm.NewestLevel })
	if _, err := newer[0].proposer.do(limited(t), fsm.ByMember, fsm.KindReserved, &pb.PutRequest{}); !errors.Is(err, ErrNotCapable) {
		t.Errorf("a kind of a higher level: %v", err)
	}
	if level := newer[0].View().Level; level != fsm.NewestLevel {
		t.Fatalf("level %d is in force, and member %x does not understand it", level, old.ID())
	}
	if _, err := newer[0].MemberRemove(limited(t), &pb.MemberRemoveRequest{ID: old.ID()}); err != nil {
		t.Fatal(err)
	}
	for _, f := range newer {
		eventuallyTrue(t, "the higher level", func() bool { return f.View().Level == fsm.NewestLevel+1 })
	}
}
