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

// A thousand watches of one key, on thirty streams, that have fallen behind a
// writer without pause by so many revisions at a time.
func BenchmarkHub_oneKeyBehind(b *testing.B) {
	const streams, each, revisions = 30, 33, 50
	f := newFixture(b, Options{})
	h := NewHub(f.s.View())
	var all []*Stream
	for range streams {
		s := h.NewStream()
		defer s.Close()
		all = append(all, s)
		for range each {
			if _, err := s.Create(0, Watch{Key: []byte("k")}); err != nil {
				b.Fatal(err)
			}
		}
	}
	take := func(s *Stream) (events int) {
		for {
			u, ok, err := s.Next()
			if err != nil {
				b.Fatal(err)
			}
			if !ok {
				return events
			}
			for _, e := range u.Events {
				if len(e.Proto().Kv.Value) == 300 {
					events++
				}
			}
		}
	}
	for _, s := range all {
		take(s)
	}
	put := &pb.PutRequest{Key: []byte("k"), Value: make([]byte, 300)}
	b.ReportAllocs()
	for b.Loop() {
		for range revisions {
			v := f.batch(func(batch *Batch) {
				if _, err := batch.Put(put, None); err != nil {
					b.Fatal(err)
				}
			})
			h.Publish(v, f.queue[len(f.queue)-1])
			h.Route()
		}
		f.flushAll()
		for _, s := range all {
			if n := take(s); n != each*revisions {
				b.Fatalf("%d events, want %d", n, each*revisions)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(streams*each*revisions), "ns/event")
}
