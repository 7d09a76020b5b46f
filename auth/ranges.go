package auth

import (
	"cmp"
	"slices"

	"go.etcd.io/etcd/api/v3/authpb"
)

// A span is the keys from lo up to, and without, hi; all from lo on if hi is
// empty, which no key is.
type span struct{ lo, hi string }

// openEnd is etcd's range_end for everything from a key on.
const openEnd = "\x00"

// spanOf reads a key and a range_end as etcd's requests and permissions have them.
func spanOf(key, end []byte) span {
	switch {
	case len(end) == 0:
		return span{string(key), string(key) + "\x00"}
	case string(end) == openEnd:
		return span{lo: string(key)}
	}
	return span{string(key), string(end)}
}

func (s span) empty() bool { return s.hi != "" && s.hi <= s.lo }

// ranges are spans in order that neither overlap nor touch.
type ranges []span

// merge makes ranges of spans, which it may reorder.
func merge(spans []span) ranges {
	spans = slices.DeleteFunc(spans, span.empty)
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.lo, b.lo) })
	out := spans[:0]
	for _, s := range spans {
		last := len(out) - 1
		switch {
		case last < 0 || out[last].hi != "" && out[last].hi < s.lo:
			out = append(out, s)
		case out[last].hi != "" && (s.hi == "" || s.hi > out[last].hi):
			out[last].hi = s.hi
		}
	}
	return slices.Clip(out)
}

// contain reports whether all keys of a range are in one of the spans, or, for a
// range without keys, whether its first key is.
func (r ranges) contain(key, end []byte) bool {
	n, m := 0, len(r) // the first span beyond key
	for n < m {
		if half := int(uint(n+m) >> 1); r[half].lo <= string(key) {
			n = half + 1
		} else {
			m = half
		}
	}
	if n == 0 {
		return false
	}
	hi := r[n-1].hi
	switch {
	case hi == "":
		return true
	case hi <= string(key):
		return false
	case len(end) == 0:
		return true
	}
	return string(end) != openEnd && string(end) <= hi
}

// grant are the ranges that somebody may read and write.
type grant struct{ read, write ranges }

// grantOf merges permissions. One of an unknown type gives nothing.
func grantOf(perms []*authpb.Permission) grant {
	var read, write []span
	for _, p := range perms {
		s := spanOf(p.GetKey(), p.GetRangeEnd())
		switch p.GetPermType() {
		case authpb.Permission_READ:
			read = append(read, s)
		case authpb.Permission_WRITE:
			write = append(write, s)
		case authpb.Permission_READWRITE:
			read, write = append(read, s), append(write, s)
		}
	}
	return grant{merge(read), merge(write)}
}

// join merges what several roles give. That of one is shared, not copied.
func join(grants []grant) grant {
	switch len(grants) {
	case 0:
		return grant{}
	case 1:
		return grants[0]
	}
	var read, write []span
	for _, g := range grants {
		read, write = append(read, g.read...), append(write, g.write...)
	}
	return grant{merge(read), merge(write)}
}

// validRange reports whether a permission can be granted on a range.
func validRange(key, end []byte) bool {
	return len(key) > 0 && !spanOf(key, end).empty()
}
