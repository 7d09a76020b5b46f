package member

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/kv"
)

// BenchmarkPut puts through one member that has only itself, from the request to
// its answer: with TMPDIR on a memory file system, what the program itself costs.
func BenchmarkPut(b *testing.B) {
	for _, clients := range []int{1, 100} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			f := startCluster(b, 1)[0]
			b.ReportAllocs()
			b.SetParallelism(max(1, clients/2))
			var n atomic.Uint64
			put := func() {
				req := &pb.PutRequest{Key: fmt.Appendf(nil, "key-%d", n.Add(1)%10_000), Value: make([]byte, 256)}
				if _, err := f.Put(context.Background(), req); err != nil {
					b.Error(err)
				}
			}
			b.ResetTimer()
			if clients == 1 {
				for range b.N {
					put()
				}
				return
			}
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					put()
				}
			})
		})
	}
}

// What the leader keeps of a lease beside the state.
func BenchmarkLessor_memory(b *testing.B) {
	const leases = 200_000
	for b.Loop() {
		l := newTestLessor(0)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for id := range int64(leases) {
			l.changed([]kv.LeaseChange{{Lease: kv.Lease{ID: id << 20, TTL: 60, Deadline: 60_000}, Granted: true}})
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/leases, "heap-B/lease")
		runtime.KeepAlive(l)
	}
}
