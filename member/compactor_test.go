package member

import (
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A compactor that is told of one new revision a minute.
func TestCompactor_keepsAPeriod(t *testing.T) {
	for _, period := range []time.Duration{30 * time.Minute, time.Hour, 5 * time.Hour} {
		c := &compactor{keep: Compaction{Period: period}}
		start := time.Now()
		compacted, times := int64(-1), 0
		for at := time.Duration(0); at < 48*time.Hour; at += c.every() {
			now, rev := start.Add(at), int64(at/time.Minute)+1
			c.note(now, rev)
			if got := c.due(now, compacted); got > 0 {
				age := time.Duration(rev-got) * time.Minute
				if age < period || age > period+c.every()+time.Minute {
					t.Fatalf("%v: at %v a revision was compacted that was %v old", period, at, age)
				}
				compacted, c.last = got, now
				times++
			}
		}
		every := min(period, time.Hour)
		if want := int((48*time.Hour - period) / every); times < want-2 || times > want {
			t.Errorf("%v: %d compactions, want about %d", period, times, want)
		}
		if n := len(c.samples); n > int(period/c.every())+2 {
			t.Errorf("%v: %d samples are kept", period, n)
		}
	}
}

// What others compacted needs no compaction, what failed is tried at the next
// look, and a leader that comes late goes on with what it noted before.
func TestCompactor_othersAndFailures(t *testing.T) {
	c := &compactor{keep: Compaction{Period: time.Hour}}
	now, rev := time.Now(), int64(100)
	step := func() {
		now, rev = now.Add(c.every()), rev+10
		c.note(now, rev)
	}
	for range 11 {
		step()
	}
	first := c.due(now, -1)
	if first != 110 {
		t.Fatalf("due is %d", first)
	}
	if got := c.due(now, 110); got != 0 {
		t.Errorf("%d is due, which was compacted", got)
	}
	c.last, c.failed = now, true
	step()
	if got := c.due(now, -1); got != 120 {
		t.Errorf("after a failure %d is due", got)
	}
	c.last, c.failed = now, false
	for range 9 {
		step()
		if got := c.due(now, 120); got != 0 {
			t.Errorf("%d is due too early", got)
		}
	}
	step()
	if got := c.due(now, 120); got != 220 {
		t.Errorf("an hour later %d is due", got)
	}
}

func TestCompactor_keepsRevisions(t *testing.T) {
	c := &compactor{keep: Compaction{Revisions: 100}}
	now := time.Now()
	for _, e := range []struct{ rev, compacted, want int64 }{
		{50, -1, 0}, {100, -1, 0}, {101, -1, 1}, {250, 1, 150}, {250, 150, 0}, {260, 200, 0}, {400, 200, 300},
	} {
		now = now.Add(c.every())
		c.note(now, e.rev)
		if got := c.due(now, e.compacted); got != e.want {
			t.Errorf("at %d, compacted %d: due is %d, want %d", e.rev, e.compacted, got, e.want)
		}
	}
	if n := len(c.samples); n > 2 {
		t.Errorf("%d samples are kept", n)
	}
}

func TestCompactor_off(t *testing.T) {
	if got := (&compactor{}).every(); got != 0 {
		t.Errorf("it looks every %v", got)
	}
}

// The leader compacts by itself, and after it the next one.
func TestMember_compactsByItself(t *testing.T) {
	all := newFixtures(t, 3)
	for _, f := range all {
		f.cfg.Compaction = Compaction{Period: 300 * time.Millisecond}
		f.begin(t)
	}
	compacted := func(at *fixture, beyond int64) int64 {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; {
			if _, err := at.Put(limited(t), &pb.PutRequest{Key: []byte("k")}); err != nil {
				t.Fatal(err)
			}
			if rev := at.View().KV.CompactRev(); rev > beyond {
				return rev
			}
			if time.Now().After(deadline) {
				t.Fatalf("nothing beyond %d was compacted at %d", beyond, at.View().KV.Rev())
			}
		}
	}
	lead, other := leaderAndOther(t, all)
	rev := compacted(other, 1)
	moveLeader(t, lead, other)
	compacted(lead, rev)
}
