package kv

import (
	"fmt"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A thousand watches of ranges resume at an old revision, each on a stream of
// its own, as after a restart of what they come from.
func BenchmarkHub_rangesBehind(b *testing.B) {
	const records, streams, groups = 20_000, 1000, 50
	f := newFixture(b, Options{})
	for done := 0; done < records; done += 100 {
		f.batch(func(batch *Batch) {
			for i := range 100 {
				n := done + i
				key := fmt.Appendf(nil, "/group%02d/%05d", n%groups, n/groups%100)
				if _, err := batch.Put(&pb.PutRequest{Key: key, Value: make([]byte, 300)}, None); err != nil {
					b.Fatal(err)
				}
			}
		})
		f.flushAll()
	}
	b.ReportAllocs()
	for b.Loop() {
		h := NewHub(f.s.View())
		var work sync.WaitGroup
		for i := range streams {
			work.Go(func() {
				s := h.NewStream()
				defer s.Close()
				key := fmt.Appendf(nil, "/group%02d/", i%groups)
				if _, err := s.Create(0, Watch{Key: key, End: append(key[:len(key)-1:len(key)-1], '0'), Start: 2}); err != nil {
					b.Error(err)
				}
				for seen := 0; seen < records/groups; {
					u, ok, err := s.Next()
					if !ok || err != nil {
						b.Errorf("%t, %v after %d events", ok, err, seen)
						return
					}
					seen += len(u.Events)
				}
			})
		}
		work.Wait()
	}
	b.ReportMetric(float64(b.Elapsed().Seconds())/float64(b.N), "s/op")
}
