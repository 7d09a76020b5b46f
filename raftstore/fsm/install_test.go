package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/kv"
)

// large is more than a view keeps of a value in memory.
const large = 8 << 10

// feed applies puts of large values, an entry each, and publishes them.
func feed(t *testing.T, m *Machine, name string, from, to uint64) {
	t.Helper()
	for i := from; i <= to; i++ {
		if i == 1 {
			m.Configure(1, 1, members(1, 2, 3))
			continue
		}
		m.Command(i, 2, entryOf(t, 2, i, KindPut, &pb.PutRequest{
			Key: fmt.Appendf(nil, "%s%d", name, i%7), Value: bytes.Repeat([]byte{byte(i)}, large),
		}))
	}
	m.Publish()
}

func commit(t *testing.T, m *Machine) {
	t.Helper()
	if err := m.Commit(); err != nil {
		t.Fatal(err)
	}
}

// send writes a snapshot of a machine to a file.
func send(t *testing.T, m *Machine, path string) {
	t.Helper()
	s, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	n, err := s.WriteTo(f)
	if err != nil || n != s.Size() {
		t.Fatalf("wrote %d bytes of %d: %v", n, s.Size(), err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != n {
		t.Fatalf("the file has %v, %v", info, err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func closeMachine(t *testing.T, m *Machine) {
	t.Helper()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// get reads a key from a view, at a revision if that is not 0.
func get(v *View, key string, revision int64) ([]byte, error) {
	resp, err := v.KV.Range(&pb.RangeRequest{Key: []byte(key), Revision: revision})
	if err != nil || len(resp.Kvs) == 0 {
		return nil, err
	}
	return resp.Kvs[0].Value, nil
}

// A state file of another member comes in under the name of the one in use,
// and all work goes on in it. Nothing of the old one, written or only queued,
// reaches it.
func TestInstall_replacesEverything(t *testing.T) {
	dir := t.TempDir()
	sender := openMachine(t, filepath.Join(dir, "sender"))
	defer closeMachine(t, sender)
	feed(t, sender, "k", 1, 50)
	commit(t, sender)
	want := hashOf(t, sender)
	path := filepath.Join(dir, "db")
	send(t, sender, path+".part")

	m := openMachine(t, path)
	sink := &recorder{}
	m.SetSink(sink)
	feed(t, m, "old", 1, 20)
	commit(t, m)
	p, err := m.Prepare(path + ".part")
	if err != nil {
		t.Fatal(err)
	}
	if index, term := p.Position(); index != 50 || term != 2 {
		t.Fatalf("prepared index %d of term %d", index, term)
	}
	if index, conf := p.Membership(); index != 1 || len(conf.Servers) != 3 {
		t.Fatalf("prepared membership %v at %d", conf, index)
	}
	feed(t, m, "old", 21, 30) // queued when the other state comes
	before := m.View()
	if err := os.Rename(path+".part", path); err != nil {
		t.Fatal(err)
	}
	drain := p.Install()
	if got := hashOf(t, m); got != want {
		t.Fatalf("installed\n%s, want\n%s", got, want)
	}
	if index, _ := m.Synced().Position(); index != 50 || m.Backlog() != 0 {
		t.Fatalf("synced to %d, %d bytes queued", index, m.Backlog())
	}
	if len(sink.installed) != 1 || sink.installed[0] != m.View() {
		t.Fatalf("the sink was told of %d installs", len(sink.installed))
	}
	if v, err := get(before, "old4", 11); err != nil || len(v) != large || v[0] != 11 {
		t.Fatalf("the old view before drain: %d bytes, %v", len(v), err)
	}
	if err := drain(); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"old6", "old1"} {
		if _, err := get(before, key, 18); !errors.Is(err, kv.ErrClosed) {
			t.Fatalf("the old view after drain: %v", err)
		}
	}
	commit(t, m)
	feed(t, m, "k", 51, 60)
	feed(t, sender, "k", 51, 60)
	commit(t, m)
	want = hashOf(t, sender)
	send(t, m, filepath.Join(dir, "again"))
	closeMachine(t, m)
	for _, path := range []string{path, filepath.Join(dir, "again")} {
		m := openMachine(t, path)
		if got := hashOf(t, m); got != want {
			t.Errorf("%s holds\n%s, want\n%s", path, got, want)
		}
		if err := m.file.Load().db.Load().View(m.file.Load().keys.Check); err != nil {
			t.Error(err)
		}
		closeMachine(t, m)
	}
}

// A commit that began before an install belongs to the file that was replaced:
// it moves neither the content nor the position of the new one.
func TestInstall_commitUnderWay(t *testing.T) {
	dir := t.TempDir()
	sender := openMachine(t, filepath.Join(dir, "sender"))
	defer closeMachine(t, sender)
	feed(t, sender, "k", 1, 50)
	commit(t, sender)
	m := openMachine(t, filepath.Join(dir, "db"))
	defer closeMachine(t, m)
	feed(t, m, "old", 1, 99)
	old := m.file.Load()
	tx, err := old.db.Load().Begin(true) // holds the commit up
	if err != nil {
		t.Fatal(err)
	}
	send(t, sender, filepath.Join(dir, "part"))
	p, err := m.Prepare(filepath.Join(dir, "part"))
	if err != nil {
		t.Fatal(err)
	}
	committed := make(chan error)
	go func() { committed <- m.Commit() }()
	for n, _ := old.queue.size(); n != 0; n, _ = old.queue.size() { // until the commit took its change sets
		if err := m.file.Load().db.Load().View(m.file.Load().keys.Check); err == nil {
			t.Fatal("nothing was pending")
		}
	}
	drain := p.Install()
	drained := make(chan error)
	go func() { drained <- drain() }()
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(<-committed, <-drained); err != nil {
		t.Fatal(err)
	}
	if index, _ := m.Synced().Position(); index != 50 || hashOf(t, m) != hashOf(t, sender) {
		t.Fatalf("synced to %d, holds %s", index, hashOf(t, m))
	}
}

// installFrom puts what another member holds in place of the state at path.
func installFrom(t *testing.T, m, sender *Machine, path string) {
	t.Helper()
	send(t, sender, path+".part")
	p, err := m.Prepare(path + ".part")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".part", path); err != nil {
		t.Fatal(err)
	}
	if err := p.Install()(); err != nil {
		t.Fatal(err)
	}
}

// beside does what a member does with its state, and more, without pause until
// it is stopped. No error may come of it but one.
func beside(t *testing.T, m *Machine, but error, more map[string]func() error) (stop func()) {
	t.Helper()
	all := map[string]func() error{
		"commit":   m.Commit,
		"prune":    func() error { m.Prune(); m.Pending(); m.Backlog(); return nil },
		"hash":     func() error { _, err := m.HashKV(0); return err },
		"size":     func() error { _, _, err := m.Size(); return err },
		"position": func() error { m.Synced().Position(); m.CompactedOnDisk(); return nil },
		"snapshot": func() error {
			s, err := m.Snapshot()
			if err != nil {
				return err
			}
			_, err = s.WriteTo(bytes.NewBuffer(nil))
			return errors.Join(err, s.Close())
		},
	}
	maps.Copy(all, more)
	quit := make(chan struct{})
	var work sync.WaitGroup
	for name, do := range all {
		work.Go(func() {
			for {
				if err := do(); err != nil && !errors.Is(err, but) {
					t.Errorf("%s: %v", name, err)
					return
				}
				select {
				case <-quit:
					return
				default:
				}
			}
		})
	}
	return func() {
		close(quit)
		work.Wait()
	}
}

// Whatever else a member does may run beside installs.
func TestInstall_besideEverything(t *testing.T) {
	dir := t.TempDir()
	sender := openMachine(t, filepath.Join(dir, "sender"))
	defer closeMachine(t, sender)
	path := filepath.Join(dir, "db")
	m := openMachine(t, path)
	feed(t, m, "k", 1, 2)
	commit(t, m)
	stop := beside(t, m, nil, map[string]func() error{
		"view": func() error {
			_, err := get(m.View(), "k3", 0)
			if errors.Is(err, kv.ErrClosed) {
				err = nil // member takes the next view
			}
			return err
		},
	})
	next := uint64(1)
	for range 15 {
		feed(t, sender, "k", next, next+20)
		next += 21
		feed(t, m, "k", m.Applied()+1, next-5) // falls behind a little
		commit(t, sender)
		installFrom(t, m, sender, path)
	}
	stop()
	if got, want := hashOf(t, m), hashOf(t, sender); got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	closeMachine(t, m)
}

// What is no state file of a member is refused, and leaves no trace.
func TestPrepare_refuses(t *testing.T) {
	dir := t.TempDir()
	m := openMachine(t, filepath.Join(dir, "db"))
	defer closeMachine(t, m)
	feed(t, m, "k", 1, 9)
	commit(t, m)
	want := hashOf(t, m)
	fresh := openMachine(t, filepath.Join(dir, "fresh"))
	closeMachine(t, fresh)
	for name, content := range map[string][]byte{"empty": {}, "garbage": bytes.Repeat([]byte("garbage"), 10000)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"missing", "empty", "garbage", "fresh"} {
		if p, err := m.Prepare(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s was prepared: %v", name, p)
		} else {
			t.Log(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Error("a file was made")
	}
	if got := hashOf(t, m); got != want {
		t.Error("the state changed")
	}
}

// A prepared file that is given up changes nothing.
func TestPrepare_close(t *testing.T) {
	dir := t.TempDir()
	m := openMachine(t, filepath.Join(dir, "db"))
	defer closeMachine(t, m)
	feed(t, m, "k", 1, 9)
	commit(t, m)
	send(t, m, filepath.Join(dir, "part"))
	feed(t, m, "k", 10, 20)
	want := hashOf(t, m)
	p, err := m.Prepare(filepath.Join(dir, "part"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	commit(t, m)
	if got := hashOf(t, m); got != want {
		t.Error("the state changed")
	}
}
