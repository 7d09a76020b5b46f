package api

import (
	"context"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/audit"
)

// A snapshot is sent by a goroutine that outlives its call for a moment. What it still
// notes must not reach a record that has been made, whose memory is another request's
// by then: one that is denied would be told as allowed. For the race detector.
func TestAudit_snapshotSentLate(t *testing.T) {
	l := auditLog(t, audit.All)
	f := start(t, "http", func(o *Options) { o.Audit = l })
	c := pb.NewMaintenanceClient(f.dialPlain(t))
	for range 50 {
		f.backend.mu.Lock()
		snap := newFakeSnapshot(1 << 30)
		f.backend.snapshot = snap
		f.backend.mu.Unlock()
		ctx, cancel := context.WithCancel(call(t))
		stream, err := c.Snapshot(ctx, &pb.SnapshotRequest{})
		must(t, err)
		for range 20 {
			_, err = stream.Recv()
			must(t, err)
		}
		cancel()
		<-snap.closed
	}
}
