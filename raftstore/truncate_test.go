package raftstore

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// fakeLog has entries of one size.
type fakeLog struct {
	first, last uint64
	size        int64
}

func (l *fakeLog) Span() (first, last uint64, bytes int64) {
	return l.first, l.last, int64(l.last-l.first+1) * l.size
}

func (l *fakeLog) FirstWithin(bytes int64) uint64 {
	return max(l.first, l.last+1-min(uint64(bytes/l.size), l.last))
}

func (l *fakeLog) DeleteRange(uint64, uint64) error { return nil }

func TestKeepFrom_bounds(t *testing.T) {
	const kib, mib = 1 << 10, 1 << 20
	held := func(index uint64, size int64) logHold { return logHold{index: index, size: size} }
	for name, c := range map[string]struct {
		log             fakeLog
		synced, catchUp uint64
		held            logHold
		want            uint64
	}{
		"entries for those a little behind":        {fakeLog{1, 20000, kib}, 19990, 5000, logHold{}, 15001},
		"but no more than 64 MiB":                  {fakeLog{1, 20000, mib}, 19990, 5000, logHold{}, 19937},
		"an entry larger than that":                {fakeLog{1, 3, 65 * mib}, 3, 5000, logHold{}, 3},
		"a log shorter than that":                  {fakeLog{1, 4000, kib}, 4000, 5000, logHold{}, 1},
		"a single entry":                           {fakeLog{7, 7, kib}, 7, 1, logHold{}, 7},
		"not past the state file":                  {fakeLog{1, 20000, kib}, 300, 5000, logHold{}, 300},
		"nor to its position":                      {fakeLog{1, 20000, kib}, 20000, 1, logHold{}, 20000},
		"nothing in the state file":                {fakeLog{1, 20000, kib}, 0, 5000, logHold{}, 0},
		"the entry of a snapshot that is sent":     {fakeLog{1, 20000, kib}, 19990, 5000, held(9000, mib), 9000},
		"one that needs less":                      {fakeLog{1, 20000, kib}, 19990, 5000, held(19000, mib), 15001},
		"up to 1 GiB":                              {fakeLog{1, 20000, mib}, 19990, 5000, held(9000, mib), 18977},
		"or twice the state":                       {fakeLog{1, 20000, mib}, 19990, 5000, held(9000, 1<<30), 17953},
		"never less than without":                  {fakeLog{1, 20000, 2 << 30}, 19990, 1, held(9000, mib), 19990},
		"a state file behind the snapshot is kept": {fakeLog{1, 20000, kib}, 8000, 1, held(9000, mib), 8000},
	} {
		if got := keepFrom(&c.log, c.synced, c.catchUp, c.held); got != c.want {
			t.Errorf("%s: kept from %d, want %d", name, got, c.want)
		}
	}
}

func TestLogHolds_expire(t *testing.T) {
	h := newLogHolds(holdAfter)
	now := time.Now()
	a, b := h.hold(100), h.hold(50)
	if low := h.lowest(now.Add(time.Hour)); low.index != 50 {
		t.Fatalf("an install under way does not hold: %+v", low)
	}
	h.release(b, true)
	if low := h.lowest(now.Add(holdAfter - time.Second)); low.index != 50 {
		t.Errorf("the member has no time to fetch what follows: %+v", low)
	}
	if low := h.lowest(now.Add(holdAfter + time.Minute)); low.index != 100 {
		t.Errorf("an install that ended holds for ever: %+v", low)
	}
	h.release(a, false)
	if low := h.lowest(now.Add(holdAfter + time.Minute)); low.index != 0 || len(h.holds) != 1 {
		t.Errorf("an install that never began holds: %+v", low)
	}
}

// A node truncates its log behind what the state file has, by count, and a
// restart needs nothing of what is gone.
func TestTruncate_behindTheState(t *testing.T) {
	dir := t.TempDir()
	b := openBed(t, dir, func(cfg *Config) { cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = 100, 20 })
	var data []string
	for i := 2; i <= 200; i++ {
		data = append(data, fmt.Sprint(i))
	}
	prev := uint64(1)
	for len(data) > 0 {
		n := min(len(data), 16)
		b.follow(t, 1, prev, 1, prev+uint64(n), data[:n]...)
		prev, data = prev+uint64(n), data[n:]
	}
	eventually(t, "all is applied", func() bool { return b.machine.Applied() == 200 })
	first := func() uint64 { first, _, _ := b.node.logs.Span(); return first }
	look := &truncation{node: b.node, holds: b.node.holds}
	if err := look.step(); err != nil || first() != 1 {
		t.Fatalf("the log begins at %d, and the state file has nothing", first())
	}
	b.machine.sync()
	eventually(t, "a truncation", func() bool { return first() == 181 })
	b.follow(t, 1, 200, 1, 200, "201")
	b.close()
	b = openBed(t, dir, nil)
	b.holds(t, numbers(200))
	b.follow(t, 1, 201, 1, 202, "202")
	eventually(t, "the log goes on", func() bool { return b.machine.Applied() == 202 })
	b.holds(t, numbers(202))
}

// A crash at any step of a truncation leaves a log that goes on from the state.
func TestTruncate_crashAnywhere(t *testing.T) {
	b, c := crashBed(t, func(cfg *Config) {
		cfg.SnapshotCount, cfg.SnapshotCatchUpEntries, cfg.truncateEvery = 1, 30, time.Hour // by hand, below
	})
	// Several segments, of 64 KiB: entries are padded.
	pad := strings.Repeat("x", 4<<10)
	var data []string
	for i := 2; i <= 100; i++ {
		data = append(data, fmt.Sprint(i)+pad)
	}
	prev := uint64(1)
	for len(data) > 0 {
		n := min(len(data), 9)
		b.follow(t, 1, prev, 1, min(prev+uint64(n), 95), data[:n]...)
		prev, data = prev+uint64(n), data[n:]
	}
	eventually(t, "95 entries are applied", func() bool { return b.machine.Applied() == 95 })
	b.machine.sync()
	c.record(true)
	c.at("the beginning")
	tr := &truncation{node: b.node, holds: b.node.holds}
	if err := tr.step(); err != nil {
		t.Fatal(err)
	}
	c.at("the truncation")
	eventually(t, "the files of segments are gone", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return strings.Contains(fmt.Sprint(c.points), "segment deleted")
	})
	c.record(false)
	if first, last, _ := b.node.logs.Span(); first != 71 || last != 100 {
		t.Fatalf("the log has %d to %d", first, last)
	}
	for _, p := range c.everything(t) {
		t.Run(p.name, func(t *testing.T) {
			b := openBed(t, p.dir, nil)
			defer b.close()
			if got := b.machine.Applied(); got < 95 {
				t.Fatalf("applied %d", got)
			}
			for index := uint64(95); index <= 100; index++ {
				if term, err := b.termAt(index); err != nil || term != 1 {
					t.Fatalf("entry %d was acknowledged and is of term %d, %v", index, term, err)
				}
			}
			b.follow(t, 1, 100, 1, 101, "101"+pad)
			eventually(t, "the member goes on", func() bool { return b.machine.Applied() == 101 })
			for i, got := range b.machine.all() {
				if want := fmt.Sprint(i+2) + pad; got != want {
					t.Fatalf("command %d is %.10s", i+2, got)
				}
			}
		})
	}
}
