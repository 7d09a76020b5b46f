package member

import "sync"

const (
	// takenWindow is how many batch ids behind the newest one of an origin the
	// leader still tells apart. An origin has at most inFlight under way, but
	// one of them may be retried while others come and go.
	takenWindow = 4096
	// takenRuns is how many runs of one origin are told apart, since it may
	// have been restarted while messages of its were under way.
	takenRuns = 4
	// runSpan is how far ids of one run are apart at most. Each run counts from
	// an id of its own (Config.FirstBatch).
	runSpan = 1 << 32
)

// taking is what the leader knows of a batch that arrives.
type taking int

const (
	takenNow    taking = iota // it is the first time
	takenBefore               // it was proposed, or is about to be
	takenMaybe                // it is too old to know
)

// forwarded is the leader's side: it remembers which batches of its term it
// took, and takes each at most once.
type forwarded struct {
	mu      sync.Mutex
	term    uint64
	origins map[uint64][]*run // by origin, the newest run last
}

// run is what one process of an origin forwarded.
type run struct {
	newest uint64
	taken  [takenWindow]bool // by id modulo takenWindow
}

// take reports whether batch was taken already in term, and remembers it.
func (f *forwarded) take(origin, term, batch uint64) taking {
	f.mu.Lock()
	defer f.mu.Unlock()
	if term < f.term {
		return takenMaybe
	}
	if f.term != term || f.origins == nil {
		f.term, f.origins = term, make(map[uint64][]*run)
	}
	r := f.find(origin, batch)
	if r == nil {
		r = &run{newest: batch}
		runs := append(f.origins[origin], r)
		f.origins[origin] = runs[max(0, len(runs)-takenRuns):]
	}
	if int64(r.newest-batch) >= takenWindow {
		return takenMaybe
	}
	r.reach(batch)
	if r.taken[batch%takenWindow] {
		return takenBefore
	}
	r.taken[batch%takenWindow] = true
	return takenNow
}

// reach moves the window up to batch.
func (r *run) reach(batch uint64) {
	if int64(batch-r.newest) >= takenWindow {
		clear(r.taken[:])
		r.newest = batch
	}
	for int64(batch-r.newest) > 0 {
		r.newest++
		r.taken[r.newest%takenWindow] = false
	}
}

// find returns the run that batch belongs to, nil for a new one.
func (f *forwarded) find(origin, batch uint64) *run {
	for _, r := range f.origins[origin] {
		if d := int64(batch - r.newest); -runSpan < d && d < runSpan {
			return r
		}
	}
	return nil
}

// release forgets a batch that was definitely not proposed.
func (f *forwarded) release(origin, term, batch uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.term != term {
		return
	}
	if r := f.find(origin, batch); r != nil && int64(r.newest-batch) < takenWindow {
		r.taken[batch%takenWindow] = false
	}
}
