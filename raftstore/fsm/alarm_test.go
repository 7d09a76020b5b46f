package fsm

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// answers applies requests as one entry and returns their results.
type answers struct {
	noSink
	got []Result
}

func (a *answers) Wants(uint64) bool                { return true }
func (a *answers) Deliver(_, _ uint64, rs []Result) { a.got = append(a.got[:0], rs...) }
func (a *answers) ask(t *testing.T, m *Machine, parts ...any) []Result {
	t.Helper()
	m.SetSink(a)
	m.Command(m.Applied()+1, 2, entryOf(t, 2, 9, parts...))
	m.Publish()
	return slices.Clone(a.got)
}

func alarmRequest(action pb.AlarmRequest_AlarmAction, alarm pb.AlarmType, member uint64) *pb.AlarmRequest {
	return &pb.AlarmRequest{Action: action, Alarm: alarm, MemberID: member}
}

const (
	raise  = pb.AlarmRequest_ACTIVATE
	disarm = pb.AlarmRequest_DEACTIVATE
	full   = pb.AlarmType_NOSPACE
	wrong  = pb.AlarmType_CORRUPT
)

// Alarms answer as etcd's do, and a member takes back only what is its own.
func TestAlarms_raisedAndTakenBack(t *testing.T) {
	m := openMachine(t, filepath.Join(t.TempDir(), "db"))
	defer m.Close()
	m.Configure(1, 1, members(1))
	var a answers
	for i, c := range []struct {
		kind     Kind
		r        *pb.AlarmRequest
		answered bool
		want     []Alarm
	}{
		{KindAlarm, alarmRequest(raise, pb.AlarmType_NONE, 1), false, nil},
		{KindAlarm, alarmRequest(disarm, full, 1), false, nil},
		{KindOwnAlarm, alarmRequest(raise, full, 2), true, []Alarm{{2, full, true}}},
		{KindAlarm, alarmRequest(raise, full, 0), true, []Alarm{{0, full, false}, {2, full, true}}},
		{KindOwnAlarm, alarmRequest(raise, full, 0), true, []Alarm{{0, full, false}, {2, full, true}}},
		{KindOwnAlarm, alarmRequest(disarm, full, 0), false, []Alarm{{0, full, false}, {2, full, true}}},
		{KindAlarm, alarmRequest(raise, full, 2), true, []Alarm{{0, full, false}, {2, full, false}}},
		{KindOwnAlarm, alarmRequest(disarm, full, 2), false, []Alarm{{0, full, false}, {2, full, false}}},
		{KindAlarm, alarmRequest(disarm, full, 2), true, []Alarm{{0, full, false}}},
		{KindOwnAlarm, alarmRequest(raise, wrong, 3), true, []Alarm{{0, full, false}, {3, wrong, true}}},
		{KindAlarm, alarmRequest(disarm, full, 0), true, []Alarm{{3, wrong, true}}},
		{KindOwnAlarm, alarmRequest(disarm, wrong, 3), true, nil},
	} {
		got := a.ask(t, m, c.kind, c.r)
		resp := got[0].Response.(*pb.AlarmResponse)
		want := []*pb.AlarmMember(nil)
		if c.answered {
			want = []*pb.AlarmMember{{MemberID: c.r.MemberID, Alarm: c.r.Alarm}}
		}
		if !slices.EqualFunc(resp.Alarms, want, func(x, y *pb.AlarmMember) bool { return proto.Equal(x, y) }) {
			t.Errorf("%d: answered %v", i, resp)
		}
		if list := m.View().Alarms.All(); !slices.Equal(list, c.want) {
			t.Errorf("%d: %v, want %v", i, list, c.want)
		}
	}
}

// What an alarm forbids is refused where it is applied, in the same entry too.
func TestAlarms_barRequests(t *testing.T) {
	m := openMachine(t, filepath.Join(t.TempDir(), "db"))
	defer m.Close()
	m.Configure(1, 1, members(1))
	var a answers
	put := &pb.PutRequest{Key: []byte("k")}
	puts := &pb.TxnRequest{Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: put}}}}}}}}
	deletes := &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("k")}}}}}
	for _, c := range []struct {
		name  string
		alarm pb.AlarmType
		want  [5]error // put, txn that may put, txn that deletes, delete, compaction
	}{
		{"none", pb.AlarmType_NONE, [5]error{}},
		{"no space", full, [5]error{ErrNoSpace, ErrNoSpace}},
		{"corrupt", wrong, [5]error{ErrCorruptCluster, ErrCorruptCluster, ErrCorruptCluster, ErrCorruptCluster, ErrCorruptCluster}},
	} {
		rev := m.View().KV.Rev()
		got := a.ask(t, m, KindPut, put, KindAlarm, alarmRequest(raise, c.alarm, 1),
			KindPut, put, KindTxn, puts, KindTxn, deletes, KindDeleteRange, &pb.DeleteRangeRequest{Key: []byte("k")},
			KindCompact, &pb.CompactionRequest{Revision: rev + 1},
			KindAlarm, alarmRequest(disarm, c.alarm, 1), KindPut, put)
		for i, r := range got {
			want := error(nil)
			if i >= 2 && i < 7 {
				want = c.want[i-2]
			}
			if !errors.Is(r.Err, want) {
				t.Errorf("%s: request %d: %v, want %v", c.name, i, r.Err, want)
			}
		}
	}
}

// The file has alarms in etcd's form, and gives them back.
func TestAlarms_onDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	m := openMachine(t, path)
	m.Configure(1, 1, members(1))
	var a answers
	a.ask(t, m, KindOwnAlarm, alarmRequest(raise, full, 7), KindAlarm, alarmRequest(raise, wrong, 300), KindAlarm, alarmRequest(raise, full, 1))
	if err := m.Commit(); err != nil {
		t.Fatal(err)
	}
	a.ask(t, m, KindAlarm, alarmRequest(disarm, full, 1))
	want := []Alarm{{7, full, true}, {300, wrong, false}}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m = openMachine(t, path)
	if got := m.View().Alarms.All(); !slices.Equal(got, want) {
		t.Errorf("%v after opening, want %v", got, want)
	}
	if got := a.ask(t, m, KindPut, &pb.PutRequest{Key: []byte("k")})[0].Err; !errors.Is(got, ErrCorruptCluster) {
		t.Errorf("put after opening: %v", got)
	}
	var keys []*pb.AlarmMember
	err := m.file.Load().db.Load().View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("alarm")).ForEach(func(k, _ []byte) error {
			var e pb.AlarmMember
			keys = append(keys, &e)
			return proto.Unmarshal(k, &e)
		})
	})
	if err != nil || len(keys) != 2 {
		t.Fatalf("%v: %v", keys, err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

// Somebody who makes up member ids does not fill the memory.
func TestAlarms_bounded(t *testing.T) {
	list := newAlarms(nil)
	for i := range uint64(maxAlarms) {
		next, err := list.activate(Alarm{Member: i, Type: full})
		if err != nil {
			t.Fatal(i, err)
		}
		list = next
	}
	if _, err := list.activate(Alarm{Member: maxAlarms, Type: full}); !errors.Is(err, ErrTooManyAlarms) {
		t.Errorf("one more: %v", err)
	}
	if _, err := list.activate(Alarm{Member: 3, Type: full}); err != nil {
		t.Errorf("one that is raised: %v", err)
	}
}
