package kv

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// Separators tell the children of an inner node apart: all of child i's keys are
// < keys[i], and all of child i+1's are >= keys[i]. They never change, so that
// the versions of a node share them: most changes are beneath it. A search
// touches little memory but what is in the struct itself.
type separators struct {
	keys []string
	// What all keys begin with is skip bytes long; prefix has as much of it as it
	// has room for. heads are the 8 bytes after it of each key.
	skip   int
	prefix [32]byte
	heads  [innerMax - 1]uint64
}

// noSeparators are those of a node with one child.
var noSeparators = &separators{}

// newSeparators takes over keys, which are in order.
func newSeparators(keys []string) *separators {
	if len(keys) == 0 {
		return noSeparators
	}
	s := &separators{keys: keys}
	first, last := keys[0], keys[len(keys)-1]
	for s.skip < min(len(first), len(last)) && first[s.skip] == last[s.skip] {
		s.skip++
	}
	copy(s.prefix[:], first[:s.skip])
	for i, k := range keys {
		s.heads[i] = headOf(k[s.skip:])
	}
	return s
}

// headOf is the beginning of s as a number. Where two heads differ the strings
// have the same order as they; equal heads say nothing.
func headOf[S string | []byte](s S) uint64 {
	var b [8]byte
	copy(b[:], s)
	return binary.BigEndian.Uint64(b[:])
}

// beside compares key with the keys that have the common prefix: it is before,
// amid or behind them.
func (s *separators) beside(key []byte) int {
	n := min(s.skip, len(s.prefix))
	c := bytes.Compare(key[:min(n, len(key))], s.prefix[:n])
	if c == 0 && s.skip > n {
		rest := s.keys[0][n:s.skip]
		switch got := key[n:min(s.skip, len(key))]; {
		case string(got) < rest:
			return -1
		case string(got) > rest:
			return 1
		}
	}
	return c
}

// below returns how many separators are <= key, the index of its child.
func (s *separators) below(key []byte) int {
	lo, hi := 0, len(s.keys)
	if c := s.beside(key); c < 0 || hi == 0 {
		return 0
	} else if c > 0 {
		return hi
	}
	head := headOf(key[s.skip:])
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if h := s.heads[mid]; head < h || head == h && string(key) < s.keys[mid] {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// with returns s with key at index i.
func (s *separators) with(i int, key string) *separators {
	return newSeparators(slices.Concat(s.keys[:i], []string{key}, s.keys[i:]))
}

// without returns s without the key at index i.
func (s *separators) without(i int) *separators {
	return newSeparators(slices.Concat(s.keys[:i], s.keys[i+1:]))
}

// divide returns what is before index i and what is behind it.
func (s *separators) divide(i int) (left, right *separators) {
	return newSeparators(slices.Clone(s.keys[:i])), newSeparators(slices.Clone(s.keys[i+1:]))
}

// join returns s, key and then others.
func (s *separators) join(key string, others *separators) *separators {
	return newSeparators(slices.Concat(s.keys, []string{key}, others.keys))
}
