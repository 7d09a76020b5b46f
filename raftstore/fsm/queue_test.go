package fsm

import (
	"path/filepath"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// publishPut applies and publishes one put.
func publishPut(t *testing.T, m *Machine, index uint64, size int) {
	t.Helper()
	m.Command(index, 2, entryOf(t, 2, index, KindPut, &pb.PutRequest{Key: []byte("k"), Value: make([]byte, size)}))
	m.Publish()
}

// applyInBackground publishes n puts, and says when it is done.
func applyInBackground(t *testing.T, m *Machine, n, size int) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range n {
			publishPut(t, m, uint64(i+2), size)
		}
	}()
	return done
}

// await waits for a condition that other goroutines bring about.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// expectWaiting fails if applying goes on.
func expectWaiting(t *testing.T, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
		t.Fatal("applying did not wait for the disk")
	case <-time.After(50 * time.Millisecond):
	}
}

// Applying waits when the state file is too far behind, and goes on as it comes
// up. What is being committed counts, it is in memory too.
func TestMachine_applyWaitsForTheDisk(t *testing.T) {
	m := openMachine(t, filepath.Join(t.TempDir(), "db"))
	defer closeMachine(t, m)
	const limit, size = 1 << 20, 100 << 10
	m.maxBacklog = limit
	m.Configure(1, 1, members(1))
	m.Publish()
	done := applyInBackground(t, m, 30, size)
	await(t, "the backlog is full", func() bool { return m.Backlog() >= limit })
	expectWaiting(t, done)
	f := m.file.Load()
	tx, err := f.db.Load().Begin(true) // a disk that takes its time
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }() // when the test ends early
	committed := make(chan error, 1)
	go func() { committed <- m.Commit() }()
	await(t, "the commit took its sets", func() bool { n, _ := f.queue.size(); return n == 0 })
	if b := m.Backlog(); b < limit {
		t.Fatalf("%d bytes wait while they are committed", b)
	}
	expectWaiting(t, done)
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-committed; err != nil {
		t.Fatal(err)
	}
	for finished := false; !finished; {
		if b := m.Backlog(); b > limit+2*size {
			t.Fatalf("%d bytes wait, the limit is %d", b, limit)
		}
		commit(t, m)
		select {
		case <-done:
			finished = true
		default:
		}
	}
	if got := m.Applied(); got != 31 {
		t.Fatalf("applied %d", got)
	}
}

// Once commits failed, nobody makes room any more: who waits has to go on, or
// the process could not end.
func TestMachine_applyDoesNotWaitForAFailedDisk(t *testing.T) {
	m := openMachine(t, filepath.Join(t.TempDir(), "db"))
	m.maxBacklog = 1 << 20
	m.Configure(1, 1, members(1))
	m.Publish()
	commit(t, m)
	m.file.Load().db.Load().MaxSize = 1 // full
	done := applyInBackground(t, m, 100, 100<<10)
	await(t, "the backlog is full", func() bool { return m.Backlog() >= m.maxBacklog })
	if err := m.Commit(); err == nil {
		t.Fatal("the disk was not full")
	}
	<-done
	if err := m.Close(); err == nil {
		t.Fatal("Close does not tell")
	}
}

// CommitDue writes when much waits, and only then.
func TestMachine_commitDue(t *testing.T) {
	m := openMachine(t, filepath.Join(t.TempDir(), "db"))
	defer closeMachine(t, m)
	m.Configure(1, 1, members(1))
	m.Publish()
	synced := func() uint64 { index, _ := m.Synced().Position(); return index }
	for i := uint64(2); i < 30; i++ {
		publishPut(t, m, i, 1<<20)
		_, due := m.Pending()
		before := synced()
		if err := m.CommitDue(); err != nil {
			t.Fatal(err)
		}
		if committed := synced() != before; committed != due {
			t.Fatalf("at %d: due %v, committed %v", i, due, committed)
		}
		if m.Backlog() > dueBytes+2<<20 {
			t.Fatalf("%d bytes wait", m.Backlog())
		}
	}
	if synced() == 0 {
		t.Fatal("never due")
	}
}
