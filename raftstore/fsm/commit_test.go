package fsm

import (
	"fmt"
	"path/filepath"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// After a commit that failed nothing more is written, not even at Close: later
// changes without the earlier ones would be a gap that nobody sees.
func TestMachine_failedCommitLeavesNoGap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	m := openMachine(t, path)
	put := func(m *Machine, index uint64, size int) {
		m.Command(index, 2, entryOf(t, 2, index, KindPut, &pb.PutRequest{Key: fmt.Appendf(nil, "k%d", index), Value: make([]byte, size)}))
		m.Publish()
	}
	m.Configure(1, 1, members(1))
	m.Publish()
	put(m, 2, 1)
	if err := m.Commit(); err != nil {
		t.Fatal(err)
	}
	size, _, err := m.Size()
	if err != nil {
		t.Fatal(err)
	}
	m.file.Load().db.Load().MaxSize = int(size) // a disk that is full for a while
	put(m, 3, 1<<20)
	if err := m.Commit(); err == nil {
		t.Fatal("the disk was not full")
	}
	m.file.Load().db.Load().MaxSize = 0
	put(m, 4, 1)
	if err := m.Close(); err == nil {
		t.Error("Close does not tell that something was not written")
	}
	again := openMachine(t, path)
	defer again.Close()
	if index, _ := again.Synced().Position(); index != 2 || again.View().KV.Rev() != 2 {
		t.Fatalf("the state file is at index %d, revision %d", index, again.View().KV.Rev())
	}
	put(again, 3, 1)
	put(again, 4, 1)
	if got := again.View().KV.Rev(); got != 4 {
		t.Fatalf("revision %d after the replay", got)
	}
}
