package fsm

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

var (
	// ErrNoSpace: while a NOSPACE alarm is raised nothing is added; what makes
	// room, or runs the cluster, goes on.
	ErrNoSpace = errors.New("database space exceeded")
	// ErrCorruptCluster: while a CORRUPT alarm is raised keys do not change.
	ErrCorruptCluster = errors.New("corrupt cluster")
	// ErrTooManyAlarms: maxAlarms is reached. Only somebody who makes up member
	// ids gets there.
	ErrTooManyAlarms = errors.New("too many alarms: disarm some first")
)

// maxAlarms bounds the alarms kept: two kinds for a few hundred members.
const maxAlarms = 1000

// Alarm says that something is wrong with a member.
type Alarm struct {
	Member uint64 // whatever the one who raised it said
	Type   pb.AlarmType
	// Own: raised by a member that watches itself, and taken back by it. The
	// others stay until a user disarms them.
	Own bool
}

// Alarms is the immutable set of raised alarms, sorted by type and member.
type Alarms struct {
	list             []Alarm
	noSpace, corrupt bool // there is one of that type; the second not of our own
}

var bucketAlarm = []byte("alarm")

// ownAlarm is the value of an alarm of ours in etcd's bucket, where the key says
// everything and the value is empty.
var ownAlarm = []byte("own")

// All returns the alarms; the caller must not change them.
func (a *Alarms) All() []Alarm { return a.list }

// Active reports whether an alarm of a type is raised for any member.
func (a *Alarms) Active(t pb.AlarmType) bool {
	return slices.ContainsFunc(a.list, func(e Alarm) bool { return e.Type == t })
}

// StopWrites reports whether a user raised a CORRUPT alarm. One that the members
// raised themselves is about a member that a majority disagrees with: that one
// answers nobody, and the others go on.
func (a *Alarms) StopWrites() bool { return a.corrupt }

// Get returns the alarm of a type for a member.
func (a *Alarms) Get(t pb.AlarmType, member uint64) (Alarm, bool) {
	i, found := a.find(t, member)
	if !found {
		return Alarm{}, false
	}
	return a.list[i], true
}

func (a *Alarms) find(t pb.AlarmType, member uint64) (int, bool) {
	return slices.BinarySearchFunc(a.list, Alarm{Type: t, Member: member}, func(x, y Alarm) int {
		return cmp.Or(cmp.Compare(x.Type, y.Type), cmp.Compare(x.Member, y.Member))
	})
}

func newAlarms(list []Alarm) *Alarms {
	a := &Alarms{list: list}
	a.noSpace = a.Active(pb.AlarmType_NOSPACE)
	a.corrupt = slices.ContainsFunc(list, func(e Alarm) bool { return e.Type == pb.AlarmType_CORRUPT && !e.Own })
	return a
}

// activate raises an alarm. One that a user raised does not become a member's
// own, and one that was a member's own becomes the user's.
func (a *Alarms) activate(e Alarm) (*Alarms, error) {
	i, found := a.find(e.Type, e.Member)
	switch {
	case found && (e.Own || !a.list[i].Own):
		return a, nil
	case !found && len(a.list) >= maxAlarms:
		return a, ErrTooManyAlarms
	}
	list := slices.Clone(a.list)
	if found {
		list[i] = e
	} else {
		list = slices.Insert(list, i, e)
	}
	return newAlarms(list), nil
}

// deactivate takes an alarm back; a member takes back only what is its own.
func (a *Alarms) deactivate(e Alarm) (next *Alarms, done bool) {
	i, found := a.find(e.Type, e.Member)
	if !found || e.Own && !a.list[i].Own {
		return a, false
	}
	return newAlarms(slices.Delete(slices.Clone(a.list), i, i+1)), true
}

// applyAlarm applies a request of a user, or of a member about itself or another. It answers as etcd does: with the alarm that is now raised, or that
// was taken back.
func (m *Machine) applyAlarm(index uint64, req *request) Result {
	var r pb.AlarmRequest
	m.decode(index, req.body, &r)
	own := req.kind == KindOwnAlarm
	if !own {
		if err := m.authorize(pb.Maintenance_Alarm_FullMethodName, req, &r); err != nil {
			return Result{Err: err}
		}
	}
	resp := &pb.AlarmResponse{Header: &pb.ResponseHeader{}}
	e := Alarm{Member: r.MemberID, Type: r.Alarm, Own: own}
	before, touched := m.alarms, false
	switch {
	case e.Type == pb.AlarmType_NONE:
	case r.Action == pb.AlarmRequest_ACTIVATE:
		next, err := m.alarms.activate(e)
		if err != nil {
			return Result{Err: err}
		}
		m.alarms, touched = next, true
	case r.Action == pb.AlarmRequest_DEACTIVATE:
		m.alarms, touched = m.alarms.deactivate(e)
	}
	if touched {
		resp.Alarms = []*pb.AlarmMember{{MemberID: r.MemberID, Alarm: r.Alarm}}
	}
	if m.alarms != before {
		m.changed.alarms = m.alarms
	}
	return Result{Response: resp}
}

// barred is why a request to the key-value store is not performed while the
// alarms that are raised are.
func (a *Alarms) barred(kind Kind, txn *pb.TxnRequest) error {
	switch {
	case a.corrupt && kind != KindLeaseClock:
		return ErrCorruptCluster
	case a.noSpace && (kind == KindPut || kind == KindLeaseGrant || kind == KindTxn && Puts(txn)):
		return ErrNoSpace
	}
	return nil
}

// Puts reports whether a transaction may put a key.
func Puts(r *pb.TxnRequest) bool {
	for _, ops := range [2][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range ops {
			if op.GetRequestPut() != nil || op.GetRequestTxn() != nil && Puts(op.GetRequestTxn()) {
				return true
			}
		}
	}
	return false
}

// write makes etcd's bucket hold exactly these alarms.
func (a *Alarms) write(tx *bbolt.Tx) error {
	bucket := tx.Bucket(bucketAlarm)
	var gone [][]byte
	err := bucket.ForEach(func(k, v []byte) error {
		if e, err := readAlarm(k, v); err != nil || !slices.Contains(a.list, e) {
			gone = append(gone, bytes.Clone(k))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, k := range gone {
		if err := bucket.Delete(k); err != nil {
			return err
		}
	}
	for _, e := range a.list {
		key, err := proto.MarshalOptions{Deterministic: true}.Marshal(&pb.AlarmMember{MemberID: e.Member, Alarm: e.Type})
		if err != nil {
			return err
		}
		var value []byte
		if e.Own {
			value = ownAlarm
		}
		if err := bucket.Put(key, value); err != nil {
			return err
		}
	}
	return nil
}

// loadAlarms reads what write, or etcd, wrote.
func loadAlarms(tx *bbolt.Tx) (*Alarms, error) {
	var list []Alarm
	err := tx.Bucket(bucketAlarm).ForEach(func(k, v []byte) error {
		e, err := readAlarm(k, v)
		if err != nil {
			return fmt.Errorf("read alarm %x: %w", k, err)
		}
		list = append(list, e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(x, y Alarm) int {
		return cmp.Or(cmp.Compare(x.Type, y.Type), cmp.Compare(x.Member, y.Member))
	})
	return newAlarms(list), nil
}

func readAlarm(k, v []byte) (Alarm, error) {
	var e pb.AlarmMember
	if err := proto.Unmarshal(k, &e); err != nil {
		return Alarm{}, err
	}
	return Alarm{Member: e.MemberID, Type: e.Alarm, Own: bytes.Equal(v, ownAlarm)}, nil
}
