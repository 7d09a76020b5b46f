package member

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// What a request takes beside its keys and values, in bytes, as etcd reckons.
const (
	putOverhead   = 256
	leaseOverhead = 64
)

// space keeps this member from being filled. It is full when what is in use of
// its state file, and what waits to get there, reaches the quota, or when one of
// its disks is nearly full. Then it raises the alarm NOSPACE, and everybody
// refuses what grows; what makes room, or is needed to run the cluster, always
// passes. The alarm goes when there has been space for a while.
type space struct {
	m       *Member
	quota   int64         // in bytes; below 0: none
	raising chan struct{} // held by who raises the alarm
	times   spaceTimes

	// Of watch.
	roomy time.Time            // since when there has been space; zero: there is none
	away  map[uint64]time.Time // since when members with an alarm are away
}

func newSpace(m *Member) *space {
	return &space{m: m, quota: m.quota(), raising: make(chan struct{}, 1), times: defaultSpaceTimes, away: map[uint64]time.Time{}}
}

// admit refuses a request that is not to be proposed now: what an alarm forbids
// applying would refuse too, but what is proposed takes space in the log.
func (s *space) admit(ctx context.Context, msg proto.Message) error {
	if err := s.barred(ctx, msg); err != nil {
		return err
	}
	n := cost(msg)
	switch {
	case n == 0:
		return nil
	case s.quota >= 0 && s.used()+n >= s.quota:
		s.raise(ctx)
		return ErrNoSpace
	case s.m.node.Full(): // of other members too, before they have raised the alarm
		return ErrNoSpace
	}
	return nil
}

// barred is why a request is refused because of an alarm. One that this member
// knows may have been taken back, and the client may know: so it looks again
// when it is level.
func (s *space) barred(ctx context.Context, msg proto.Message) error {
	if s.m.barred(msg) == nil {
		return nil
	}
	if err := s.m.linearize(ctx); err != nil {
		return err
	}
	return s.m.barred(msg)
}

func (m *Member) barred(msg proto.Message) error {
	alarms := m.View().Alarms
	switch {
	case len(alarms.All()) == 0:
		return nil
	case alarms.StopWrites(), m.Damaged():
		return ErrCorruptCluster
	case alarms.Active(pb.AlarmType_NOSPACE) && cost(msg) > 0:
		return ErrNoSpace
	}
	return nil
}

// used is what counts against the quota, in bytes.
func (s *space) used() int64 { return s.m.machine.Used() + s.m.proposer.unapplied.Load() }

// raise raises the alarm of this member and waits until it is known here, so
// that who is refused finds it. Whether it worked, watch sees to.
func (s *space) raise(ctx context.Context) {
	select {
	case s.raising <- struct{}{}:
		defer func() { <-s.raising }()
	case <-ctx.Done():
		return
	}
	used := s.used()
	if err := s.m.RaiseAlarm(ctx, pb.AlarmType_NOSPACE, s.m.cfg.ID); err != nil {
		s.m.cfg.Log.Warn().Err(err).Int64("used-bytes", used).Int64("quota-bytes", s.quota).Msg("could not raise the alarm NOSPACE yet")
	}
}

// cost is what a request may add to the state, in bytes; 0 if it adds no key
// and no lease.
func cost(msg proto.Message) int64 {
	switch r := msg.(type) {
	case *pb.PutRequest:
		return putOverhead + int64(len(r.Key)+len(r.Value))
	case *pb.LeaseGrantRequest:
		return leaseOverhead
	case *pb.TxnRequest:
		return max(costOf(r.Success), costOf(r.Failure))
	}
	return 0
}

func costOf(ops []*pb.RequestOp) int64 {
	sum := int64(0)
	for _, op := range ops {
		switch r := op.Request.(type) {
		case *pb.RequestOp_RequestPut:
			sum += cost(r.RequestPut)
		case *pb.RequestOp_RequestTxn:
			sum += cost(r.RequestTxn)
		}
	}
	return sum
}
