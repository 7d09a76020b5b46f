package member

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// allowed refuses a request that is not to be proposed now: applying would
// refuse it too, but what is proposed takes space in the log. An alarm that this
// member knows may have been taken back, and the client may know: so this member
// looks again when it is level.
func (m *Member) allowed(ctx context.Context, msg proto.Message) error {
	if m.barred(msg) != nil {
		if err := m.linearize(ctx); err != nil {
			return err
		}
		if err := m.barred(msg); err != nil {
			return err
		}
	}
	return m.roomFor(msg)
}

// barred is why a request is refused while the alarms are what this member
// knows.
func (m *Member) barred(msg proto.Message) error {
	alarms := m.View().Alarms
	switch {
	case len(alarms.All()) == 0:
		return nil
	case alarms.Active(pb.AlarmType_CORRUPT):
		return ErrCorruptCluster
	case alarms.Active(pb.AlarmType_NOSPACE) && grows(msg):
		return ErrNoSpace
	}
	return nil
}

// roomFor refuses a write that makes the store grow while a member's disk is
// nearly full. What makes room, or is needed to run the cluster, always passes.
func (m *Member) roomFor(msg proto.Message) error {
	if !grows(msg) || !m.node.Full() {
		return nil
	}
	return ErrNoSpace
}

// grows reports whether a request may put a key or grant a lease.
func grows(msg proto.Message) bool {
	switch r := msg.(type) {
	case *pb.PutRequest, *pb.LeaseGrantRequest:
		return true
	case *pb.TxnRequest:
		return fsm.Puts(r)
	}
	return false
}
