package kv

import (
	"math/rand/v2"
	"slices"
	"sort"
	"testing"
)

// Keys of a small alphabet, zero included, with prefixes of all lengths: where
// heads are equal, cut off or padded, the order must still be that of strings.
func TestSeparators_below(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	word := func(most int) string {
		b := make([]byte, rnd.IntN(most+1))
		for i := range b {
			b[i] = "\x00\x01a\xff"[rnd.IntN(4)]
		}
		return string(b)
	}
	for range 3000 {
		prefix := word(12 + 40*rnd.IntN(2))
		var keys []string
		for range rnd.IntN(innerMax) {
			keys = append(keys, prefix+word(12))
		}
		slices.Sort(keys)
		keys = slices.Compact(keys)
		s := newSeparators(nil)
		for _, i := range rnd.Perm(len(keys)) {
			s = s.with(s.below([]byte(keys[i])), keys[i])
		}
		if !slices.Equal(s.keys, keys) {
			t.Fatalf("inserted %q, has %q", keys, s.keys)
		}
		if len(keys) > 0 {
			i := rnd.IntN(len(keys))
			left, right := s.divide(i)
			if !slices.Equal(left.keys, keys[:i]) || !slices.Equal(right.keys, keys[i+1:]) {
				t.Fatalf("%q divided at %d: %q and %q", keys, i, left.keys, right.keys)
			}
			if got := left.join(keys[i], right); !slices.Equal(got.keys, keys) {
				t.Fatalf("%q joined: %q", keys, got.keys)
			}
			s = s.without(i)
			keys = slices.Delete(keys, i, i+1)
		}
		look := append([]string{"", prefix, "\xff\xff\xff", word(24), prefix[:len(prefix)/2], prefix[:len(prefix)/2] + word(30)}, keys...)
		for range 20 {
			look = append(look, prefix+word(12))
		}
		for _, k := range look {
			want := sort.Search(len(keys), func(i int) bool { return k < keys[i] })
			if got := s.below([]byte(k)); got != want {
				t.Fatalf("%q is below %d of %q, want %d", k, got, keys, want)
			}
		}
	}
}
