package kv

import (
	"sort"
	"sync"
)

// Bounds of what an archive keeps: bytes of records, and pieces.
const (
	archiveBytes    = 8 << 20
	archiveChapters = 64
)

// A chapter is the history of all keys, of whole revisions from from to end.
type chapter struct {
	from, end int64
	events    []*Event
	bytes     int
}

// An archive reads history for watches of ranges. They want different keys of
// the same records, and after a restart of what they come from there may be
// thousands: so what one of them has read is kept for the others for a while,
// and only one reads at a time.
type archive struct {
	limits  replayLimits // of one reading
	reading sync.Mutex   // held to read the file; before mu

	mu    sync.Mutex
	kept  []*chapter // the one used last at the end
	bytes int
}

// replay is View.replayKey for the watch of a range, with so many bytes of
// events and perhaps one revision more.
func (a *archive) replay(v *View, w *watch, from int64, bytes int) (events []*Event, end int64, err error) {
	if from < v.compactRev {
		return nil, 0, ErrCompacted
	}
	c, err := a.chapter(v, from)
	if err != nil {
		return nil, 0, err
	}
	first := sort.Search(len(c.events), func(i int) bool { return c.events[i].rev.main >= from })
	size := 0
	for i, e := range c.events[first:] {
		if i > 0 && size >= bytes && e.rev.main != c.events[first+i-1].rev.main {
			return events, c.events[first+i-1].rev.main, nil
		}
		if !w.ignores(e.rev.tomb) && w.holds(e.Key()) {
			events = append(events, e)
			size += len(e.enc)
		}
	}
	return events, c.end, nil
}

// chapter returns one that has a revision, if the view has that, from whatever
// revision on, or one that is empty.
func (a *archive) chapter(v *View, rev int64) (*chapter, error) {
	if c := a.find(rev); c != nil {
		return c, nil
	}
	a.reading.Lock()
	defer a.reading.Unlock()
	if c := a.find(rev); c != nil { // which somebody has read meanwhile
		return c, nil
	}
	events, end, err := v.replayAll(rev, a.limits)
	if err != nil {
		return nil, err
	}
	c := &chapter{from: rev, end: end, events: events}
	for _, e := range events {
		c.bytes += len(e.enc)
	}
	if end >= rev {
		a.keep(c)
	}
	return c, nil
}

func (a *archive) find(rev int64) *chapter {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, c := range a.kept {
		if c.from <= rev && rev <= c.end {
			copy(a.kept[i:], a.kept[i+1:])
			a.kept[len(a.kept)-1] = c
			return c
		}
	}
	return nil
}

func (a *archive) keep(c *chapter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kept = append(a.kept, c)
	a.bytes += c.bytes
	for len(a.kept) > archiveChapters || a.bytes > archiveBytes {
		a.bytes -= a.kept[0].bytes
		a.kept[0] = nil
		a.kept = a.kept[1:]
	}
}

// forget lets go of what is kept.
func (a *archive) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kept, a.bytes = nil, 0
}
