package api

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/member"
)

// snapshotBlob is how much of a snapshot one message carries, in bytes, as in
// etcd.
const snapshotBlob = 32 << 10

// snapshotPace is how slowly a client may read a snapshot. Every stream keeps
// disk space of the member.
type snapshotPace struct {
	// At least `least` bytes have to be taken in every period `within`.
	least  int64
	within time.Duration
	// A stream may last for `base` and another second for every `rate` bytes.
	base time.Duration
	rate int64
}

// defaultPace lets a download of 8 GiB take more than three hours.
var defaultPace = snapshotPace{least: 1 << 20, within: 30 * time.Second, base: time.Hour, rate: 1 << 20}

// longest is how long a stream of so many bytes may last.
func (p snapshotPace) longest(size int64) time.Duration {
	return p.base + time.Duration(size/p.rate)*time.Second
}

// Snapshot streams the state file and, as the last message, its SHA-256. As in
// etcd there is no header. What is sent to a client that does not read waits in
// Send; so that is done by a goroutine of its own, which ends soon after this
// call does: Send then fails.
func (s *maintenanceService) Snapshot(_ *pb.SnapshotRequest, srv pb.Maintenance_SnapshotServer) error {
	ctx := srv.Context()
	snap, err := s.backend.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer snap.Close() //nolint:errcheck // it was only read
	var taken atomic.Int64
	done := make(chan error, 1)
	s.sending.Go(func() { done <- sendSnapshot(snap, srv, &taken) })
	pace := s.pace
	tick := time.NewTicker(pace.within)
	defer tick.Stop()
	end := time.NewTimer(pace.longest(snap.Size()))
	defer end.Stop()
	for before := int64(0); ; {
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			return status.Errorf(codes.DeadlineExceeded, "etcdserver: snapshot of %d bytes was not read within %v", snap.Size(), pace.longest(snap.Size()))
		case <-tick.C:
		}
		now := taken.Load()
		if now-before < pace.least {
			return status.Errorf(codes.DeadlineExceeded, "etcdserver: snapshot was ended at byte %d of %d: the client took less than %d bytes in %v", now, snap.Size(), pace.least, pace.within)
		}
		before = now
	}
}

// sendSnapshot sends all of a snapshot, counting what has been taken by the
// transport.
func sendSnapshot(snap member.Snapshot, srv pb.Maintenance_SnapshotServer, taken *atomic.Int64) error {
	sum := sha256.New()
	for rest := snap.Size(); rest > 0; {
		blob := make([]byte, min(rest, snapshotBlob)) // Send keeps it
		if _, err := io.ReadFull(snap, blob); err != nil {
			return snapshotError(err)
		}
		rest -= int64(len(blob))
		sum.Write(blob)
		if err := srv.Send(&pb.SnapshotResponse{RemainingBytes: uint64(rest), Blob: blob, Version: snap.Version()}); err != nil {
			return err
		}
		taken.Add(int64(len(blob)))
	}
	return srv.Send(&pb.SnapshotResponse{Blob: sum.Sum(nil), Version: snap.Version()})
}

// snapshotError tells the client why the member gave the snapshot up.
func snapshotError(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = fmt.Errorf("the state file is shorter than it was: %w", err)
	}
	return status.Error(codes.Aborted, "etcdserver: "+err.Error())
}
