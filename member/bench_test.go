package member

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
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
