package fsm

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/rs/zerolog"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A state file of 1 GiB: -bench-keys=4000000 -bench-dir=DIR, which keeps it.
var (
	benchKeys = flag.Int("bench-keys", 50_000, "keys of 256 bytes in the state file that is benchmarked")
	benchDir  = flag.String("bench-dir", "", "directory of that file, kept; otherwise a temporary one")
)

// benchFile makes a state file of that many keys, the values 200 bytes.
func benchFile(b *testing.B) string {
	b.Helper()
	dir := *benchDir
	if dir == "" {
		dir = b.TempDir()
	}
	path := filepath.Join(dir, fmt.Sprintf("db-%d", *benchKeys))
	if _, err := os.Stat(path); err == nil {
		return path
	}
	m, err := Open(Options{Path: path, Quota: 8 << 30, Log: zerolog.Nop()})
	if err != nil {
		b.Fatal(err)
	}
	m.Configure(1, 1, members(1))
	const each = 100
	for i := 0; i < *benchKeys; i += each {
		data := AppendHeader(nil, 2, uint64(i))
		for j := range each {
			key := fmt.Appendf(nil, "/registry/pods/default/pod-%024d", (i+j)*7919%*benchKeys)
			if data, err = AppendRequest(data, KindPut, Origin{}, &pb.PutRequest{Key: key, Value: make([]byte, 200)}); err != nil {
				b.Fatal(err)
			}
		}
		m.Command(uint64(i+2), 2, data)
		if i%10_000 == 0 {
			m.Publish()
			if err := m.Commit(); err != nil {
				b.Fatal(err)
			}
		}
	}
	m.Publish()
	if err := m.Close(); err != nil {
		b.Fatal(err)
	}
	return path
}

func BenchmarkOpen(b *testing.B) {
	path := benchFile(b)
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(info.Size())
	var heap uint64
	for b.Loop() {
		m, err := Open(Options{Path: path, Quota: 8 << 30, Log: zerolog.Nop()})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		heap = s.HeapAlloc
		if err := m.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(heap)/(1<<20), "heap-MiB")
}

func BenchmarkSnapshot(b *testing.B) {
	m, err := Open(Options{Path: benchFile(b), Quota: 8 << 30, Log: zerolog.Nop()})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	for b.Loop() {
		s, err := m.Snapshot()
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(s.Size())
		if _, err := s.WriteTo(io.Discard); err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
