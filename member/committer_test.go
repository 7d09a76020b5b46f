package member

import (
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// What is applied is in the state file soon, also after a time in which nothing
// was; a member that applies nothing rests.
func TestCommitter_restsAndWakes(t *testing.T) {
	f := startCluster(t, 1)[0]
	synced := func() uint64 {
		index, _ := f.machine.Synced().Position()
		return index
	}
	for range 3 {
		if _, err := f.Put(limited(t), &pb.PutRequest{Key: []byte("k")}); err != nil {
			t.Fatal(err)
		}
		written := time.Now()
		for synced() < f.View().Applied {
			if time.Since(written) > 5*time.Second {
				t.Fatalf("synced to %d of %d", synced(), f.View().Applied)
			}
			time.Sleep(time.Millisecond)
		}
		rests(t, f)
	}
}

// rests waits until the committer has done nothing for three of its intervals.
func rests(t *testing.T, f *fixture) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for time.Now().Before(deadline) {
		f.committer.mu.Lock()
		next := f.committer.committed
		f.committer.mu.Unlock()
		select {
		case <-next:
		case <-time.After(3 * commitInterval):
			return
		}
	}
	t.Fatal("the committer of an idle member never rests")
}
