package kv

import (
	"math/rand/v2"
	"runtime"
	"testing"

	"go.etcd.io/bbolt"
)

// What a lease takes in memory and in the state file, with an id as members
// choose them.
func BenchmarkLease_grant(b *testing.B) {
	const leases = 200_000
	for b.Loop() {
		b.StopTimer()
		f := newFixture(b, Options{})
		rnd := rand.New(rand.NewPCG(1, 2))
		before := heapAlloc()
		b.StartTimer()
		for range leases / 1000 {
			f.batch(func(batch *Batch) {
				for range 1000 {
					if err := batch.Grant(rnd.Int64(), 60); err != nil {
						b.Fatal(err)
					}
				}
			})
			f.flushAll()
		}
		b.StopTimer()
		b.ReportMetric(float64(heapAlloc()-before)/leases, "heap-B/lease")
		err := f.db.View(func(tx *bbolt.Tx) error {
			s := tx.Bucket(bucketLease).Stats()
			b.ReportMetric(float64(s.BranchAlloc+s.LeafAlloc)/leases, "file-B/lease")
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		runtime.KeepAlive(f)
		b.StartTimer()
	}
}

func heapAlloc() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
