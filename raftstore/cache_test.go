package raftstore

import (
	"fmt"
	"testing"

	"github.com/hashicorp/raft"
)

func cached(c *logCache) (indexes []uint64) {
	for i := uint64(0); i < 100; i++ {
		if l := c.get(i); l != nil && l.Index == i {
			indexes = append(indexes, i)
		}
	}
	return indexes
}

// What is not on disk yet stays, however much it is; of the rest the newest.
func TestLogCache_bound(t *testing.T) {
	const size = 30
	c := logCache{limit: 3 * (size + loggedOverhead)}
	for i := uint64(1); i <= 10; i++ {
		c.add(&raft.Log{Index: i, Data: make([]byte, size)})
	}
	c.evict(4)
	if got := fmt.Sprint(cached(&c)); got != "[5 6 7 8 9 10]" {
		t.Errorf("4 is on disk: %s", got)
	}
	if got := c.from(6, 2*(size+loggedOverhead)); len(got) != 2 || got[0].Index != 6 {
		t.Errorf("a group of %d", len(got))
	}
	if got := c.from(6, 1); len(got) != 1 {
		t.Errorf("a group of %d", len(got))
	}
	c.evict(10)
	if got := fmt.Sprint(cached(&c)); got != "[8 9 10]" {
		t.Errorf("10 is on disk: %s", got)
	}
}

func TestLogCache_removals(t *testing.T) {
	c := logCache{limit: 1000}
	for i := uint64(1); i <= 10; i++ {
		c.add(&raft.Log{Index: i})
	}
	group := c.from(7, 1000)
	c.dropTail(8)
	c.add(&raft.Log{Index: 8, Term: 2})
	if group[1].Index != 8 || group[1].Term != 0 {
		t.Error("a group that is being written was changed")
	}
	c.dropHead(5)
	if got := fmt.Sprint(cached(&c)); got != "[5 6 7 8]" || c.get(8).Term != 2 {
		t.Errorf("left are %s", got)
	}
	c.dropTail(0)
	if len(c.logs) != 0 || c.bytes != 0 {
		t.Errorf("emptied, %d entries and %d bytes are left", len(c.logs), c.bytes)
	}
}

func TestLogSpans_within(t *testing.T) {
	var s logSpans
	const size = 100 << 10
	for i := uint64(1); i <= 100; i++ {
		s.add(i, size)
	}
	check := func(limit int64, last uint64) {
		t.Helper()
		first := s.within(limit)
		if took := int64(last-first+1) * size; took > limit || took+size+spanBytes < limit {
			t.Errorf("%d bytes are entries %d to %d, which take %d", limit, first, last, took)
		}
	}
	for _, limit := range []int64{1 << 20, 2 << 20, 5 << 20, 9 << 20} {
		check(limit, 100)
	}
	if s.within(1<<30) != 1 || s.total() != 100*size {
		t.Errorf("all from %d, %d bytes", s.within(1<<30), s.total())
	}
	s.dropTail(60)
	check(2<<20, s.marks[len(s.marks)-1].index+2)
	s.dropHead(31)
	if s.within(1<<30) != 31 || s.total() > 32*size || s.total() < 25*size {
		t.Errorf("all from %d, %d bytes", s.within(1<<30), s.total())
	}
}
