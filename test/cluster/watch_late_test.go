//go:build interop

package cluster_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	lateReaders = 10              // clients that read 5 MB each, again and again
	lateRounds  = 20              // events, and progress after each
	lateBound   = 2 * time.Second // for the slowest answer, on a busy machine
)

// secureBesideEtcd starts a member of conclave and one of etcd behind the same
// certificates.
func secureBesideEtcd(t *testing.T) (ours, theirs *solo) {
	t.Helper()
	ours = newSolo(t)
	ours.proc = launch(t, "one", ours.home, ours.static().argv()...)
	ours.serves()
	theirs = &solo{member: ours.other, dns: ours.dns}
	theirs.addr, theirs.host = ours.addr, ours.addr // which is in the certificate
	home := t.TempDir()
	theirs.data = filepath.Join(home, "data")
	line := theirs.plain().set("listen-client-urls", theirs.clientURL(), "advertise-client-urls", theirs.clientURL(),
		"cert-file", ours.pki("server.pem"), "key-file", ours.pki("server.pem"), // which holds both
		"trusted-ca-file", ours.pki("client-ca.pem"), "client-cert-auth", "true")
	argv := append([]string{realTool(t, "etcd")}, line.argv()[1:]...)
	launch(t, "etcd", home, argv...).says(serveTimeout, "ready to serve client requests")
	return ours, theirs
}

// lateness is how long progress and events took, each sorted.
type lateness struct {
	progress, events []time.Duration
	read             int64 // MB by the readers meanwhile
}

// measureLate reads much from a server and measures what else it says meanwhile.
func measureLate(t *testing.T, s *solo) (l lateness) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	writer := s.dial()
	for i := range 5 {
		if _, err := writer.Put(ctx, "big"+string(rune('0'+i)), strings.Repeat("v", 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	var readers sync.WaitGroup
	var read, begun atomic.Int64
	ctx, stop := context.WithCancel(ctx)
	for range lateReaders {
		client := s.dial()
		readers.Go(func() {
			for ctx.Err() == nil {
				resp, err := client.Get(ctx, "big", clientv3.WithPrefix())
				switch {
				case ctx.Err() != nil:
					return
				case err != nil || len(resp.Kvs) != 5:
					t.Errorf("a reader: %v", err)
					return
				}
				read.Add(5)
				begun.Add(1)
			}
		})
	}
	defer readers.Wait()
	defer stop()
	var err error
	eventually(t, time.Minute, "all readers to read", func() error {
		if begun.Load() < lateReaders {
			return context.DeadlineExceeded
		}
		return nil
	})
	read.Store(0)
	w := &lateWatch{t: t, answers: make(chan *pb.WatchResponse)}
	if w.stream, err = pb.NewWatchClient(s.dial().ActiveConnection()).Watch(ctx); err != nil {
		t.Fatal(err)
	}
	w.create("k")
	readers.Go(w.receive)
	<-w.answers // created
	for range lateRounds {
		put, err := writer.Put(ctx, "k", "v")
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		w.until(ctx, func(r *pb.WatchResponse) bool { return len(r.Events) > 0 })
		l.events = append(l.events, time.Since(begin))
		begin = time.Now()
		w.until(ctx, func(r *pb.WatchResponse) bool { return len(r.Events) == 0 && r.Header.Revision >= put.Header.Revision })
		l.progress = append(l.progress, time.Since(begin))
	}
	l.read = read.Load()
	slices.Sort(l.progress)
	slices.Sort(l.events)
	return l
}

// lateWatch is a stream that asks for progress as kube-apiserver does.
type lateWatch struct {
	t       *testing.T
	stream  pb.Watch_WatchClient
	answers chan *pb.WatchResponse
}

func (w *lateWatch) create(key string) {
	w.t.Helper()
	r := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte(key)}}}
	if err := w.stream.Send(r); err != nil {
		w.t.Fatal(err)
	}
}

// receive hands answers on until the stream ends.
func (w *lateWatch) receive() {
	defer close(w.answers)
	for {
		r, err := w.stream.Recv()
		if err != nil {
			return
		}
		select {
		case w.answers <- r:
		case <-w.stream.Context().Done():
			return
		}
	}
}

// until asks for progress every tenth of a second, since etcd does not answer
// while a watch is behind, and waits for an answer of a kind.
func (w *lateWatch) until(ctx context.Context, wanted func(*pb.WatchResponse) bool) {
	w.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := w.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{}}); err != nil {
			w.t.Fatal(err)
		}
		for again := false; !again; {
			select {
			case r, ok := <-w.answers:
				if !ok || ctx.Err() != nil {
					w.t.Fatal("the stream has ended")
				}
				if wanted(r) {
					return
				}
			case <-tick.C:
				again = true
			}
		}
	}
}

// Progress and events are not late while many large answers are on their way
// over TLS: no later than etcd's, or than a bound.
func TestWatch_notLateUnderReads(t *testing.T) {
	ours, theirs := secureBesideEtcd(t)
	got, want := measureLate(t, ours), measureLate(t, theirs)
	for _, x := range []struct {
		what         string
		ours, theirs []time.Duration
	}{{"progress", got.progress, want.progress}, {"events", got.events, want.events}} {
		last := len(x.ours) - 1
		t.Logf("%s: median %v, at most %v; etcd: %v, %v (readers got %d MB, %d MB)", x.what,
			x.ours[last/2], x.ours[last], x.theirs[last/2], x.theirs[last], got.read, want.read)
		if limit := max(lateBound, 2*x.theirs[last]); x.ours[last] > limit {
			t.Errorf("%s came %v late, and %v are allowed", x.what, x.ours[last], limit)
		}
	}
}
