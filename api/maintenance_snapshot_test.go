package api

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"

	"github.com/conclave-kv/conclave/internal/version"
)

// fakeSnapshot is a snapshot of zeros.
type fakeSnapshot struct {
	size   int64
	failAt int64 // 0: never
	mu     sync.Mutex
	next   int64
	closed chan struct{}
	once   sync.Once
}

func newFakeSnapshot(size int64) *fakeSnapshot {
	return &fakeSnapshot{size: size, closed: make(chan struct{})}
}

func (s *fakeSnapshot) Size() int64     { return s.size }
func (s *fakeSnapshot) Version() string { return version.Storage }
func (s *fakeSnapshot) Close() error    { s.once.Do(func() { close(s.closed) }); return nil }

func (s *fakeSnapshot) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failAt > 0 && s.next >= s.failAt {
		return 0, errors.New("it was given up")
	}
	n := int(min(int64(len(p)), s.size-s.next))
	if n == 0 {
		return 0, io.EOF
	}
	clear(p[:n])
	s.next += int64(n)
	return n, nil
}

// Blobs of 32 KiB with what remains, then the checksum, and no header.
func TestSnapshot_streamsWithTrailer(t *testing.T) {
	f := start(t, "http", nil)
	snap := newFakeSnapshot(3*snapshotBlob + 4096)
	f.backend.snapshot = snap
	f.backend.learner = true // learners serve it too
	stream, err := pb.NewMaintenanceClient(f.dialPlain(t)).Snapshot(call(t), &pb.SnapshotRequest{})
	must(t, err)
	var sizes []int
	var data bytes.Buffer
	for rest := snap.size; ; {
		m, err := stream.Recv()
		must(t, err)
		if m.Header != nil || m.Version != version.Storage {
			t.Errorf("message with header %v and version %q", m.Header, m.Version)
		}
		if rest == 0 {
			if sum := sha256.Sum256(data.Bytes()); !bytes.Equal(m.Blob, sum[:]) || m.RemainingBytes != 0 {
				t.Errorf("trailer %x, want %x", m.Blob, sum)
			}
			break
		}
		rest -= int64(len(m.Blob))
		if m.RemainingBytes != uint64(rest) {
			t.Errorf("remaining %d, want %d", m.RemainingBytes, rest)
		}
		sizes = append(sizes, len(m.Blob))
		data.Write(m.Blob)
	}
	if len(sizes) != 4 || sizes[0] != 32<<10 || sizes[3] != 4096 {
		t.Errorf("blobs of %v bytes", sizes)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the trailer: %v", err)
	}
	<-snap.closed
}

// A client that takes nothing, or too little, is let go, and with it the
// snapshot; also where it could go on for ever at that pace.
func TestSnapshot_endsSlowReaders(t *testing.T) {
	for _, tt := range []struct {
		name string
		pace snapshotPace
		text string
	}{
		{"stalled", snapshotPace{least: 1, within: 100 * time.Millisecond, base: time.Hour, rate: 1 << 40}, "the client took less than 1 bytes"},
		{"endless", snapshotPace{least: 0, within: time.Hour, base: 200 * time.Millisecond, rate: 1 << 40}, "was not read within"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := start(t, "http", func(o *Options) { o.snapshotPace = tt.pace })
			snap := newFakeSnapshot(1 << 30)
			f.backend.snapshot = snap
			stream, err := pb.NewMaintenanceClient(f.dialPlain(t)).Snapshot(call(t), &pb.SnapshotRequest{})
			must(t, err)
			select {
			case <-snap.closed: // while nobody reads
			case <-time.After(time.Minute):
				t.Fatal("the snapshot is still open")
			}
			for err == nil {
				_, err = stream.Recv()
			}
			want(t, "stream", err, codes.DeadlineExceeded, tt.text)
		})
	}
}

// What the member says when it gives a snapshot up reaches the client, and a
// stream that was cut so has no trailer.
func TestSnapshot_tellsWhyItEnds(t *testing.T) {
	f := start(t, "http", nil)
	c := pb.NewMaintenanceClient(f.dialPlain(t))
	stream, err := c.Snapshot(call(t), &pb.SnapshotRequest{})
	must(t, err)
	_, err = stream.Recv()
	want(t, "refused", err, codes.ResourceExhausted, "too many snapshots")

	snap := newFakeSnapshot(10 * snapshotBlob)
	snap.failAt = 2 * snapshotBlob
	f.backend.snapshot = snap
	stream, err = c.Snapshot(call(t), &pb.SnapshotRequest{})
	must(t, err)
	var got int
	for {
		m, err := stream.Recv()
		if err != nil {
			want(t, "given up", err, codes.Aborted, "etcdserver: it was given up")
			break
		}
		got += len(m.Blob)
	}
	if got != 2*snapshotBlob {
		t.Errorf("%d bytes before the end", got)
	}
}

func TestHash_learnersRefuse(t *testing.T) {
	f := start(t, "http", nil)
	c := pb.NewMaintenanceClient(f.dialPlain(t))
	h, err := c.HashKV(call(t), &pb.HashKVRequest{})
	must(t, err)
	if h.Hash != 6 || h.CompactRevision != -1 || h.HashRevision != 1 || h.Header.GetMemberId() != 7 {
		t.Errorf("HashKV: %v", h)
	}
	_, err = c.HashKV(call(t), &pb.HashKVRequest{Revision: 9})
	want(t, "future", err, codes.OutOfRange, "etcdserver: mvcc: required revision is a future revision")
	if h, err := c.Hash(call(t), &pb.HashRequest{}); err != nil || h.Hash != 5 {
		t.Errorf("Hash: %v, %v", h, err)
	}
	f.backend.mu.Lock()
	f.backend.learner = true
	f.backend.mu.Unlock()
	_, err = c.HashKV(call(t), &pb.HashKVRequest{})
	want(t, "HashKV", err, codes.FailedPrecondition, "etcdserver: rpc not supported for learner")
	_, err = c.Hash(call(t), &pb.HashRequest{})
	want(t, "Hash", err, codes.FailedPrecondition, "etcdserver: rpc not supported for learner")
}
