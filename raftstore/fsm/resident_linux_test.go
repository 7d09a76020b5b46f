package fsm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// bigSnapshot writes a file of 64 KiB values.
func bigSnapshot(t *testing.T, records int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	value := make([]byte, 64<<10)
	err = db.Update(func(tx *bbolt.Tx) error {
		if _, err := tx.CreateBucket([]byte("meta")); err != nil {
			return err
		}
		keys, err := tx.CreateBucket([]byte("key"))
		if err != nil {
			return err
		}
		for i := range records {
			rec, err := proto.Marshal(&mvccpb.KeyValue{Key: fmt.Append(nil, i), Value: value, CreateRevision: int64(i + 2), ModRevision: int64(i + 2), Version: 1})
			if err == nil {
				err = keys.Put(recordKeyOf(uint64(i+2), 0, false), rec)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// peak is how many bytes of memory this process had at most since the last call.
func peak(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Skipf("the kernel does not begin anew to look for the highest use of memory: %v", err)
	}
	for line := range strings.Lines(string(status)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	t.Fatal("/proc/self/status does not tell VmHWM")
	return 0
}

// A look at a snapshot reads all of it, and has no more of it in memory than a
// step, beside the keys.
func TestInspectSnapshot_takesLittleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("short: measures memory, which means nothing under the race detector")
	}
	const records = 3000 // 200 MiB
	path := bigSnapshot(t, records)
	debug.FreeOSMemory() // what making it has left
	peak(t)
	before := peak(t)
	s, err := InspectSnapshot(path)
	if err != nil || s.Keys != records {
		t.Fatalf("%+v, %v", s, err)
	}
	grown := peak(t) - before
	t.Logf("%d MiB for a file of %d MiB", grown>>20, s.Size>>20)
	if grown > residentStep+64<<20 {
		t.Errorf("it took %d MiB for a file of %d MiB", grown>>20, s.Size>>20)
	}
}
