package fsm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// mappedFiles is how many bytes of files are mapped into this process and in
// memory.
func mappedFiles(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "RssFile: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	t.Fatal("/proc/self/status does not tell RssFile")
	return 0
}

// Loading looks at every page of the file; none stays mapped.
func TestOpen_forgetsPages(t *testing.T) {
	const keys, value = 1500, 20 << 10 // 30 MiB
	o := Options{Path: filepath.Join(t.TempDir(), "db"), Quota: 1 << 30, Log: zerolog.Nop()}
	m, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	m.Configure(1, 1, members(1))
	for i := range keys {
		data, err := AppendRequest(AppendHeader(nil, 2, uint64(i)), KindPut, Origin{}, &pb.PutRequest{Key: fmt.Append(nil, i), Value: make([]byte, value)})
		if err != nil {
			t.Fatal(err)
		}
		m.Command(uint64(i+2), 2, data)
	}
	m.Publish()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	before := mappedFiles(t)
	if m, err = Open(o); err != nil {
		t.Fatal(err)
	}
	grown := mappedFiles(t) - before
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if grown > 4<<20 {
		t.Errorf("%d MiB of the file stay mapped", grown>>20)
	}
}
