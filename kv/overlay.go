package kv

import "sort"

// The overlay is the list of changes frozen but not yet Done, oldest first.
// Readers load it without a lock. Its two editors, the batch that is frozen and
// the committer, take mu. A reader loads the overlay before it begins a bbolt
// transaction: what is gone from the overlay is then in the file.

// enqueue appends c. A list once published does not change: appending writes
// behind the end of older lists, and dropping copies.
func (s *Store) enqueue(c *Changes) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := append(s.pending(), c)
	s.overlay.Store(&list)
}

// written drops c and all older changes.
func (s *Store) written(c *Changes) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.pending()
	for i, p := range list {
		if p.finished != none {
			s.compacted.Store(p.finished)
		}
		if p == c {
			rest := append([]*Changes(nil), list[i+1:]...)
			s.overlay.Store(&rest)
			return
		}
	}
	panic("kv: changes reported done that are not pending")
}

func (s *Store) pending() []*Changes {
	if p := s.overlay.Load(); p != nil {
		return *p
	}
	return nil
}

// findPending returns the encoding of r if it is in list.
func findPending(list []*Changes, r revision) ([]byte, bool) {
	i := sort.Search(len(list), func(i int) bool { return list[i].last >= r.main })
	if i == len(list) {
		return nil, false
	}
	return list[i].find(r)
}
