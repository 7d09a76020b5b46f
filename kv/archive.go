package kv

import (
	"slices"
	"sort"
	"sync"
)

// Bounds of what an archive keeps: bytes of records, and pieces.
const (
	archiveBytes    = 8 << 20
	archiveChapters = 64
)

// A story is all keys or, with one, key.
type story struct {
	key string
	one bool
}

// A chapter is the history of a story, of whole revisions from from to end.
type chapter struct {
	of        story
	from, end int64
	events    []*Event
	bytes     int
}

// An archive reads history for watches that want the same records: those of
// ranges, or those of keys that many watch. After a restart of what they
// come from there may be thousands, and with clients that are slower than the
// writers most are behind. So what one of them has read is kept for the others for
// a while, and only one reads at a time.
type archive struct {
	limits  replayLimits // of one reading
	reading sync.Mutex   // held to read the file; before mu

	mu    sync.Mutex
	kept  []*chapter // the one used last at the end
	bytes int
}

// replay is View.replayKey for any watch, of a story that its events are part of:
// all of it where that is of one key. It gives so many bytes of events and perhaps
// one revision more.
func (a *archive) replay(v *View, w *watch, of story, from int64, bytes int) (events []*Event, end int64, err error) {
	if from < v.compactRev {
		return nil, 0, ErrCompacted
	}
	end = from - 1
	// Where a chapter ends soon, the next ones are read too: few large updates cost
	// less than many small ones.
	looked, read, size := 0, 0, 0
	for end < v.rev && looked < a.limits.revisions && read < a.limits.bytes && size < bytes {
		c, err := a.chapter(v, of, end+1)
		if err != nil {
			return nil, 0, err
		}
		rest := c.events[sort.Search(len(c.events), func(i int) bool { return c.events[i].rev.main > end }):]
		if of.one {
			events = slices.Grow(events, len(rest))
		}
		n := 0
		for ; n < len(rest) && (size < bytes || rest[n].rev.main == rest[n-1].rev.main); n++ {
			e := rest[n]
			read += len(e.enc)
			if of.one || !w.ignores(e.rev.tomb) && w.holds(e.Key()) {
				events = append(events, e)
				size += len(e.enc)
			}
		}
		if end = c.end; n < len(rest) {
			end = rest[n-1].rev.main
		}
		looked += n
	}
	return events, end, nil
}

// chapter returns one that has a revision, if the view has that, from whatever
// revision on.
func (a *archive) chapter(v *View, of story, rev int64) (*chapter, error) {
	if c := a.find(of, rev); c != nil {
		return c, nil
	}
	a.reading.Lock()
	defer a.reading.Unlock()
	if c := a.find(of, rev); c != nil { // which somebody has read meanwhile
		return c, nil
	}
	c := &chapter{of: of, from: rev}
	var err error
	if of.one {
		c.events, c.end, err = v.replayKey(&watch{key: of.key, single: true}, rev, a.limits)
	} else {
		c.events, c.end, err = v.replayAll(rev, a.limits)
	}
	if err != nil {
		return nil, err
	}
	c.bytes = sizeOf(c.events)
	a.keep(c)
	return c, nil
}

func (a *archive) find(of story, rev int64) *chapter {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, c := range a.kept {
		if c.from <= rev && rev <= c.end && c.of == of {
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
