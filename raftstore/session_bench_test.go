package raftstore

import (
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// benchTransports are the transports of members 1 and 2, of which 2 answers
// every append at once.
func benchTransports(b *testing.B) (one, two *Transport) {
	b.Helper()
	m1, m2 := tcpPair(b)
	one, two = servingTransport(m1, allDurable{}), servingTransport(m2, allDurable{})
	b.Cleanup(func() { one.Close() })
	b.Cleanup(func() { two.Close() })
	go func() {
		for {
			select {
			case rpc := <-two.Consumer():
				args := rpc.Command.(*raft.AppendEntriesRequest)
				last, _ := lastOf(args)
				rpc.Respond(&raft.AppendEntriesResponse{RPCHeader: testHeader, Term: args.Term, LastLog: last, Success: true}, nil)
			case <-two.done:
				return
			}
		}
	}()
	return one, two
}

// BenchmarkTransport_heartbeat is one after the other, without a pause.
func BenchmarkTransport_heartbeat(b *testing.B) {
	one, _ := benchTransports(b)
	args := &raft.AppendEntriesRequest{RPCHeader: testHeader, Term: 1}
	b.ReportAllocs()
	for b.Loop() {
		if err := one.AppendEntries(peer2, "", args, &raft.AppendEntriesResponse{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTransport_heartbeatAtRest has a millisecond between heartbeats, so
// that everything sleeps at each: look at the processor time, not at ns/op.
func BenchmarkTransport_heartbeatAtRest(b *testing.B) {
	one, _ := benchTransports(b)
	args := &raft.AppendEntriesRequest{RPCHeader: testHeader, Term: 1}
	b.ReportAllocs()
	for b.Loop() {
		if err := one.AppendEntries(peer2, "", args, &raft.AppendEntriesResponse{}); err != nil {
			b.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

// BenchmarkTransport_pipeline sends appends of one entry of 1 KiB.
func BenchmarkTransport_pipeline(b *testing.B) {
	one, _ := benchTransports(b)
	p, err := one.AppendEntriesPipeline(peer2, "")
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	var answered sync.WaitGroup
	data := make([]byte, 1<<10)
	b.ReportAllocs()
	b.SetBytes(1 << 10)
	answered.Go(func() {
		for range b.N {
			<-p.Consumer()
		}
	})
	for i := range b.N {
		args := &raft.AppendEntriesRequest{
			RPCHeader: testHeader, Term: 1, PrevLogEntry: uint64(i), PrevLogTerm: 1,
			Entries: []*raft.Log{{Index: uint64(i) + 1, Term: 1, Data: data}},
		}
		if _, err := p.AppendEntries(args, &raft.AppendEntriesResponse{}); err != nil {
			b.Fatal(err)
		}
	}
	answered.Wait()
}

// BenchmarkMesh_calls asks from eight goroutines.
func BenchmarkMesh_calls(b *testing.B) {
	one, _ := tcpPair(b)
	payload := make([]byte, 256)
	b.ReportAllocs()
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := one.Call(b.Context(), 2, kindEcho, payload); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
