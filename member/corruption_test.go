package member

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/kv"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// Whom a majority of all voters disagrees with is guilty, and nobody else.
func TestJudge_majorityOnly(t *testing.T) {
	ok := func(member uint64, sum uint32) hashed {
		return hashed{member: member, voter: true, Hash: kv.Hash{Sum: sum, CompactRev: 5}}
	}
	learner := func(member uint64, sum uint32) hashed {
		h := ok(member, sum)
		h.voter = false
		return h
	}
	silent := func(member uint64) hashed { return hashed{member: member, voter: true, err: ErrTimeout} }
	behind := func(member uint64) hashed {
		return hashed{member: member, voter: true, Hash: kv.Hash{Sum: 99, CompactRev: 4}}
	}
	for name, c := range map[string]struct {
		all      []hashed
		guilty   []uint64
		split    bool
		complete bool
	}{
		"equal":                      {[]hashed{ok(1, 7), ok(2, 7), ok(3, 7)}, nil, false, true},
		"one of three":               {[]hashed{ok(1, 7), ok(2, 8), ok(3, 7)}, []uint64{2}, false, true},
		"the first of three":         {[]hashed{ok(1, 8), ok(2, 7), ok(3, 7)}, []uint64{1}, false, true},
		"one against one":            {[]hashed{ok(1, 7), ok(2, 8)}, nil, true, true},
		"one against one, one off":   {[]hashed{ok(1, 7), ok(2, 8), silent(3)}, nil, true, false},
		"two of three, one off":      {[]hashed{ok(1, 7), ok(2, 7), silent(3)}, nil, false, false},
		"two of five, three off":     {[]hashed{ok(1, 7), ok(2, 7), silent(3), silent(4), ok(5, 8)}, nil, true, false},
		"three of five":              {[]hashed{ok(1, 8), ok(2, 7), ok(3, 9), ok(4, 7), ok(5, 7)}, []uint64{1, 3}, false, true},
		"three ways":                 {[]hashed{ok(1, 7), ok(2, 8), ok(3, 9)}, nil, true, true},
		"compacted less":             {[]hashed{ok(1, 7), ok(2, 7), behind(3)}, nil, false, false},
		"a learner":                  {[]hashed{ok(1, 7), learner(2, 8)}, []uint64{2}, false, true},
		"learners have no say":       {[]hashed{ok(1, 7), ok(2, 9), learner(3, 7), learner(4, 7)}, nil, true, true},
		"alone":                      {[]hashed{ok(1, 7)}, nil, false, true},
		"two voters, both disagreed": {[]hashed{ok(1, 7), ok(2, 7), learner(3, 8), learner(4, 9)}, []uint64{3, 4}, false, true},
	} {
		v := judge(c.all, 5)
		if !slices.Equal(v.guilty, c.guilty) || v.split != c.split || v.complete != c.complete {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// damageFile changes one byte of the value of a key in a state file that is
// not open, all that a rotten disk need do.
func damageFile(t testing.TB, path, key string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	found := false
	err = db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("key"))
		c := b.Cursor()
		for k, v := c.Last(); k != nil; k, v = c.Prev() {
			var rec mvccpb.KeyValue
			if err := proto.Unmarshal(v, &rec); err != nil || string(rec.Key) != key || len(rec.Value) == 0 {
				continue
			}
			rec.Value[0] ^= 1
			changed, err := proto.Marshal(&rec)
			found = true
			return errors.Join(err, b.Put(slices.Clone(k), changed))
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil || !found {
		t.Fatalf("key %s found: %v, %v", key, found, err)
	}
}

// damagedCluster is three members of which one began with another byte in a
// value than the others.
func damagedCluster(t *testing.T, change func(*fixture)) (all []*fixture, bad *fixture) {
	t.Helper()
	all = newFixtures(t, 3)
	bad = all[1]
	for _, f := range all {
		if err := f.machine.Close(); err != nil {
			t.Fatal(err)
		}
		prefill(t, f)
	}
	damageFile(t, filepath.Join(bad.dir, "db"), "k3")
	for _, f := range all {
		machine, err := fsm.Open(fsm.Options{Path: filepath.Join(f.dir, "db"), Quota: 64 << 20, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { machine.Close() })
		f.machine = machine
		machine.SetSink(sink{f.Member})
		f.committer.write = machine.Commit
		change(f)
		f.begin(t)
	}
	return all, bad
}

// prefill writes records into a state file that no member has opened.
func prefill(t *testing.T, f *fixture) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(f.dir, "db"), 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("key"))
		for i := range 10 {
			rev := binary.BigEndian.AppendUint64(nil, uint64(i+2))
			rev = append(append(rev, '_'), make([]byte, 8)...)
			v, err := proto.Marshal(&mvccpb.KeyValue{
				Key: fmt.Appendf(nil, "k%d", i), Value: []byte("value"), CreateRevision: int64(i + 2), ModRevision: int64(i + 2), Version: 1,
			})
			if err := errors.Join(err, b.Put(rev, v)); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// onlyAlarm waits until each member knows one alarm, CORRUPT of one member.
func onlyAlarm(t *testing.T, all []*fixture, bad *fixture) {
	t.Helper()
	for _, f := range all {
		eventuallyTrue(t, "the alarm is known", func() bool { return len(f.View().Alarms.All()) > 0 })
		resp, err := f.Alarm(limited(t), &pb.AlarmRequest{})
		if err != nil || len(resp.Alarms) != 1 || resp.Alarms[0].MemberID != bad.ID() || resp.Alarms[0].Alarm != pb.AlarmType_CORRUPT {
			t.Fatalf("member %d knows the alarms %v, %v", f.ID(), resp, err)
		}
	}
}

// A wrong byte in a value is found after the next compaction. The member that
// has it answers no more and does not lead; the others go on, and the alarm
// ends when it is removed.
func TestCorruption_foundAfterCompaction(t *testing.T) {
	all, bad := damagedCluster(t, func(f *fixture) {
		f.cfg.CompactHashCheck, f.cfg.CompactHashCheckTime = true, 50*time.Millisecond
	})
	good := all[0]
	if _, err := good.Compact(limited(t), &pb.CompactionRequest{Revision: 6}); err != nil {
		t.Fatal(err)
	}
	onlyAlarm(t, all, bad)
	if !bad.Damaged() || !bad.Corrupt() || good.Damaged() || good.Corrupt() {
		t.Error("another member is damaged")
	}
	eventuallyTrue(t, "another member leads", func() bool { l := good.Leader(); return l != 0 && l != bad.ID() })
	if _, err := bad.Put(limited(t), &pb.PutRequest{Key: []byte("k")}); !errors.Is(err, ErrCorruptCluster) {
		t.Errorf("put to the damaged member: %v", err)
	}
	if _, err := good.Put(limited(t), &pb.PutRequest{Key: []byte("k")}); err != nil {
		t.Errorf("put to another one: %v", err)
	}
	eventuallyTrue(t, "the damaged member is removed", func() bool {
		_, err := good.MemberRemove(limited(t), &pb.MemberRemoveRequest{ID: bad.ID()})
		return err == nil
	})
	eventuallyTrue(t, "its alarm is gone", func() bool { return len(good.View().Alarms.All()) == 0 })
}

// The same with --corrupt-check-time, which needs no compaction.
func TestCorruption_foundPeriodically(t *testing.T) {
	all, bad := damagedCluster(t, func(f *fixture) { f.cfg.CorruptCheckTime = 100 * time.Millisecond })
	onlyAlarm(t, all, bad)
}

// A damaged member does not get as far as serving; the others do.
func TestCheckAtStart_refusesTheOneThatDiffers(t *testing.T) {
	all, bad := damagedCluster(t, func(f *fixture) { f.cfg.InitialCorruptCheck = true })
	if _, err := all[0].Put(limited(t), &pb.PutRequest{Key: []byte("started")}); err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		eventuallyTrue(t, "all are level", func() bool { return f.linearizeWithin(limited(t)) == nil })
	}
	err := bad.CheckAtStart(limited(t))
	want := fmt.Sprintf("%016x found data inconsistency with peers", bad.ID())
	if !errors.Is(err, errInconsistent) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "member remove") {
		t.Fatalf("the damaged member: %v", err)
	}
	t.Log(err)
	for _, f := range all {
		if f != bad {
			if err := f.CheckAtStart(limited(t)); err != nil {
				t.Errorf("member %d: %v", f.ID(), err)
			}
		}
	}
	onlyAlarm(t, all, bad) // they told what they found
}

// Members that agree raise no alarm, however they compact and write.
func TestCorruption_nothingWhereThereIsNone(t *testing.T) {
	all := newFixtures(t, 3)
	for _, f := range all {
		f.cfg.CompactHashCheck, f.cfg.CompactHashCheckTime = true, 10*time.Millisecond
		f.cfg.CorruptCheckTime, f.cfg.InitialCorruptCheck = 10*time.Millisecond, true
		f.begin(t)
	}
	for i := range 400 {
		f := all[i%3]
		resp, err := f.Put(limited(t), &pb.PutRequest{Key: fmt.Appendf(nil, "k%d", i%5), Value: fmt.Appendf(nil, "%d", i)})
		if err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			if _, err := f.DeleteRange(limited(t), &pb.DeleteRangeRequest{Key: []byte("k3")}); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Compact(limited(t), &pb.CompactionRequest{Revision: resp.Header.Revision}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, f := range all {
		if err := f.CheckAtStart(limited(t)); err != nil {
			t.Error(err)
		}
		if a := f.View().Alarms.All(); len(a) > 0 {
			t.Errorf("member %d has the alarms %v", f.ID(), a)
		}
	}
}

// Hashing for others leaves transactions and the core to them, and ends with
// who asked.
func TestHasher_rests(t *testing.T) {
	f := startCluster(t, 1)[0]
	for i := range 3 {
		if _, err := f.Put(limited(t), &pb.PutRequest{Key: fmt.Appendf(nil, "k%d", i), Value: make([]byte, 900<<10)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.machine.Commit(); err != nil {
		t.Fatal(err)
	}
	rests := 0
	h, err := f.machine.HashKVBeside(0, func() error { rests++; return nil })
	want, err2 := f.machine.HashKV(0)
	if err != nil || err2 != nil || h != want || rests == 0 {
		t.Fatalf("%v %v, %v %v, %d rests", h, err, want, err2, rests)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.hasher.at(ended, 0, true); !errors.Is(err, context.Canceled) {
		t.Errorf("for one who is gone: %v", err)
	}
}
