package kv

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// Parts of keys sort as the keys do, also where keys end or hold zeros, and equal
// parts that end are of equal keys.
func TestKeyPart_order(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 0))
	random := func() []byte {
		key := []byte("same prefix"[:rng.IntN(12)])
		for range rng.IntN(10) {
			key = append(key, []byte{0, 0, 1, 0xff}[rng.IntN(4)])
		}
		return key
	}
	for range 100_000 {
		a, b := random(), random()
		for depth := 0; ; depth += partLen {
			pa, pb := sortKey{part: keyPart(a, depth)}, sortKey{part: keyPart(b, depth)}
			if c := cmp.Compare(pa.part, pb.part); c != 0 {
				if c != bytes.Compare(a, b) {
					t.Fatalf("%q and %q at depth %d", a, b, depth)
				}
				break
			}
			if pa.ends() {
				if !bytes.Equal(a, b) {
					t.Fatalf("%q and %q are taken for equal", a, b)
				}
				break
			}
		}
	}
}

// Records are sorted to within a leaf, and those of one key stay newest first.
func TestSortByKey_order(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 0))
	var recs []unsorted
	var keys []sortKey
	for i := range 20_000 {
		key := fmt.Appendf(nil, "/registry/%s/namespace-%d/name-%d", []string{"pods", "leases"}[rng.IntN(2)], rng.IntN(3), rng.IntN(2000))
		recs = append(recs, unsorted{enc: (&record{key: key}).encode()})
		keys = append(keys, sortKey{i: int32(i)})
	}
	sortByKey(keys, recs, 0)
	newest := map[string]int32{}
	want := slices.Clone(keys)
	slices.SortStableFunc(want, func(a, b sortKey) int { return bytes.Compare(recs[a.i].key(), recs[b.i].key()) })
	for at, k := range keys {
		key := recs[k.i].key()
		if last, seen := newest[string(key)]; seen && last > k.i {
			t.Fatalf("records %d and %d of %s changed places", k.i, last, key)
		}
		newest[string(key)] = k.i
		near := want[max(0, at-leafMax):min(len(want), at+leafMax)]
		if bytes.Compare(key, recs[near[0].i].key()) < 0 || bytes.Compare(key, recs[near[len(near)-1].i].key()) > 0 {
			t.Fatalf("%s is far from its place", key)
		}
	}
}
