package raftstore

import "sort"

// spanBytes is the grain in which logSpans knows where bytes are.
const spanBytes = 256 << 10

// logSpans knows how many bytes of entries a log holds from any index on, in
// steps of spanBytes.
type logSpans struct {
	marks []spanMark
	next  int64 // bytes before the next entry, counted from some beginning
}

// spanMark says how many bytes were stored before the entry at index.
type spanMark struct {
	index  uint64
	before int64
}

// add counts an entry at the end.
func (s *logSpans) add(index uint64, size int) {
	if n := len(s.marks); n == 0 || s.next-s.marks[n-1].before >= spanBytes {
		s.marks = append(s.marks, spanMark{index, s.next})
	}
	s.next += int64(size)
}

// dropHead forgets what is below index.
func (s *logSpans) dropHead(index uint64) {
	n := sort.Search(len(s.marks), func(i int) bool { return s.marks[i].index > index })
	if n > 1 {
		s.marks = append(s.marks[:0], s.marks[n-1:]...)
	}
	if len(s.marks) > 0 && s.marks[0].index < index {
		s.marks[0].index = index
	}
}

// dropTail forgets what is at index and behind it, in whole steps.
func (s *logSpans) dropTail(index uint64) {
	n := sort.Search(len(s.marks), func(i int) bool { return s.marks[i].index >= index })
	if n < len(s.marks) {
		s.next = s.marks[n].before
		s.marks = s.marks[:n]
	}
}

// total is the bytes of all entries.
func (s *logSpans) total() int64 {
	if len(s.marks) == 0 {
		return 0
	}
	return s.next - s.marks[0].before
}

// within is the lowest known index from which at most so many bytes follow; the
// end if there is none.
func (s *logSpans) within(bytes int64) uint64 {
	n := sort.Search(len(s.marks), func(i int) bool { return s.next-s.marks[i].before <= bytes })
	if n == len(s.marks) {
		return ^uint64(0)
	}
	return s.marks[n].index
}
