package member

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// entry is a log entry of one put.
func entry(t *testing.T, term, batch uint64, key string) []byte {
	t.Helper()
	data, err := fsm.AppendRequest(fsm.AppendHeader(nil, term, batch), fsm.KindPut, fsm.Origin{}, &pb.PutRequest{Key: []byte(key)})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// sendState has another machine apply the entries, from index 2 on in term 5,
// and writes its state file to path.
func sendState(t *testing.T, path string, conf *conclavepb.Configuration, entries ...[]byte) {
	t.Helper()
	other, err := fsm.Open(fsm.Options{Path: filepath.Join(t.TempDir(), "db"), Quota: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.Configure(1, 1, conf)
	for i, e := range entries {
		other.Command(uint64(i+2), 5, e)
	}
	other.Publish()
	if err := other.Commit(); err != nil {
		t.Fatal(err)
	}
	s, err := other.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := s.WriteTo(f); err != nil {
		t.Fatal(err)
	}
}

// fly makes a batch of one request that has left the queue.
func fly(p *proposer, id uint64) *batch {
	b := waiting(1)
	b.id = id
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flying[id] = b
	return b
}

// closed reports whether a channel is.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A follower's batch is on its way when an install jumps over it: its entry is
// inside the state that came in. The opening of a later term must not have it
// proposed again, it would be applied twice.
func TestInstall_batchInFlightIsNotProposedAgain(t *testing.T) {
	f := newFixtures(t, 1)[0]
	inside := fly(f.proposer, 100)
	lost := f.proposer.begin(inside, 5)
	unsent := fly(f.proposer, 101) // has found no leader yet
	refused := fly(f.proposer, 102)
	f.proposer.begin(refused, 5)
	refused.refused()
	changed := f.Changed()
	f.committer.mu.Lock()
	committed := f.committer.committed
	f.committer.mu.Unlock()

	part := filepath.Join(f.dir, "part")
	sendState(t, part, f.conf, entry(t, 5, 99, "a"), entry(t, 5, 100, "b"))
	p, err := f.machine.Prepare(part)
	if err != nil {
		t.Fatal(err)
	}
	drain := p.Install()
	if err := drain(); err != nil {
		t.Fatal(err)
	}
	f.machine.Command(4, 6, OpenTerm(1, 6))
	f.machine.Publish()

	if closed(lost) {
		t.Fatal("the batch is proposed again")
	}
	if !closed(inside.done) {
		t.Fatal("the batch still waits")
	}
	if r := <-inside.waiters[0].result; !errors.Is(r.Err, ErrTimeout) {
		t.Fatalf("the request got %+v", r)
	}
	for _, b := range []*batch{unsent, refused} {
		if closed(b.done) {
			t.Error("a batch that was not proposed was given up")
		}
	}
	if !closed(changed) || !closed(committed) {
		t.Error("who waits for members, ledger or the state file was not woken")
	}
	if f.proposer.begin(unsent, 4) != nil {
		t.Error("an attempt began in a term before the installed state's")
	}
}

// Reads go on while the file of the view that they took is closed.
func TestInstall_readsGoOn(t *testing.T) {
	f := newFixtures(t, 1)[0]
	large := make([]byte, 8<<10) // is read from the file
	value, err := fsm.AppendRequest(fsm.AppendHeader(nil, 5, 1), fsm.KindPut, fsm.Origin{}, &pb.PutRequest{Key: []byte("k"), Value: large})
	if err != nil {
		t.Fatal(err)
	}
	install := func() {
		part := filepath.Join(t.TempDir(), "part")
		sendState(t, part, f.conf, value)
		p, err := f.machine.Prepare(part)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Install()(); err != nil {
			t.Fatal(err)
		}
	}
	install()
	stop, read := make(chan struct{}), make(chan error)
	go func() {
		for {
			resp, err := read1(f, "k")
			if err == nil && (len(resp.Kvs) != 1 || len(resp.Kvs[0].Value) != len(large)) {
				err = errors.New("another value was read")
			}
			if err != nil || closed(stop) {
				read <- err
				return
			}
		}
	}()
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
		install()
	}
	close(stop)
	if err := <-read; err != nil {
		t.Fatal(err)
	}
}

func read1(f *fixture, key string) (*pb.RangeResponse, error) {
	return read(f.Member, func(v *fsm.View) (*pb.RangeResponse, error) {
		return v.KV.Range(&pb.RangeRequest{Key: []byte(key)})
	})
}
