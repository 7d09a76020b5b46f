package kv

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	benchKeys  = 1_000_000
	benchBatch = 100
)

func benchKey(i int) []byte { return fmt.Appendf(nil, "/registry/pods/%012d", i) }

// filled returns a fixture with n keys of 256-byte values, put in random order.
func filled(b *testing.B, n int) *fixture {
	b.Helper()
	f := newFixture(b, Options{})
	order := rand.New(rand.NewPCG(1, 2)).Perm(n)
	value := make([]byte, 256)
	for len(order) > 0 {
		part := order[:min(1000, len(order))]
		order = order[len(part):]
		f.batch(func(bt *Batch) {
			for _, i := range part {
				if _, err := bt.Put(&pb.PutRequest{Key: benchKey(i), Value: value}, None); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	f.flushAll()
	return f
}

// BenchmarkBatch_put measures a batch of 100 puts, of keys that were looked up
// together before and of such that were not.
func BenchmarkBatch_put(b *testing.B) {
	for _, n := range []int{10_000, benchKeys} {
		f := filled(b, n)
		for _, ahead := range []int{0, PrefetchGroup} {
			b.Run(fmt.Sprintf("keys=%d/prefetch=%d", n, ahead), func(b *testing.B) { benchmarkPuts(b, f, n, ahead) })
		}
	}
}

func benchmarkPuts(b *testing.B, f *fixture, n, ahead int) {
	rnd := rand.New(rand.NewPCG(3, 4))
	reqs := make([]*pb.PutRequest, benchBatch)
	keys := make([][]byte, benchBatch)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		for i := range reqs {
			keys[i] = benchKey(rnd.IntN(n))
			reqs[i] = &pb.PutRequest{Key: keys[i], Value: make([]byte, 256)}
		}
		b.StartTimer()
		bt := f.s.NewBatch()
		for i, r := range reqs {
			if ahead > 0 && i%ahead == 0 {
				bt.Prefetch(keys[i:min(i+ahead, len(keys))])
			}
			if _, err := bt.Put(r, Full); err != nil {
				b.Fatal(err)
			}
		}
		_, c := bt.Freeze()
		f.queue = append(f.queue, c)
		if len(f.queue) == 100 {
			b.StopTimer()
			f.flushAll()
			b.StartTimer()
		}
	}
}

func BenchmarkView_get(b *testing.B) {
	f := filled(b, benchKeys)
	v := f.s.View()
	keys := make([][]byte, 10_000)
	for i := range keys {
		keys[i] = benchKey(rand.IntN(benchKeys))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		resp, err := v.Range(&pb.RangeRequest{Key: keys[i%len(keys)]})
		if err != nil || len(resp.Kvs) != 1 {
			b.Fatal(err)
		}
	}
}

func BenchmarkView_rangeOf10000(b *testing.B) {
	f := filled(b, benchKeys)
	v := f.s.View()
	b.ReportAllocs()
	for b.Loop() {
		resp, err := v.Range(&pb.RangeRequest{Key: benchKey(rand.IntN(benchKeys - 10_000)), RangeEnd: []byte{0}, Limit: 10_000})
		if err != nil || len(resp.Kvs) != 10_000 {
			b.Fatal(err)
		}
	}
}

func BenchmarkView_countAll(b *testing.B) {
	f := filled(b, benchKeys)
	v := f.s.View()
	b.ReportAllocs()
	for b.Loop() {
		resp, err := v.Range(&pb.RangeRequest{Key: benchKey(1), RangeEnd: []byte{0}, CountOnly: true})
		if err != nil || resp.Count != benchKeys-1 {
			b.Fatal(err)
		}
	}
}

// BenchmarkStore_memory reports the live heap per key of a million, as written
// and as loaded from the file, and the time that a load takes.
func BenchmarkStore_memory(b *testing.B) {
	empty := heap()
	f := filled(b, benchKeys)
	b.ReportMetric(float64(heap()-empty)/benchKeys, "written-B/key")
	for b.Loop() {
		f.s, f.queue = nil, nil
		b.StopTimer()
		empty = heap()
		b.StartTimer()
		f.open()
		b.StopTimer()
		b.ReportMetric(float64(heap()-empty)/benchKeys, "loaded-B/key")
		b.StartTimer()
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkStore_compaction measures one batch of a compaction that takes an
// older revision of each of a million keys.
func BenchmarkStore_compaction(b *testing.B) {
	f := filled(b, benchKeys)
	for i := range benchKeys / 1000 {
		f.batch(func(bt *Batch) {
			for j := range 1000 {
				if _, err := bt.Put(&pb.PutRequest{Key: benchKey(i*1000 + j), Value: []byte("v")}, None); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	f.flushAll()
	f.compact(f.s.View().Rev())
	for b.Loop() {
		f.batch(func(*Batch) {})
	}
}
