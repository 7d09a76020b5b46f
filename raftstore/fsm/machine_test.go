package fsm

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rs/zerolog"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/kv"
)

func openMachine(t *testing.T, path string) *Machine {
	t.Helper()
	m, err := Open(Options{Path: path, Quota: 64 << 20, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// entryOf makes a log entry of requests, kind and message in turn.
func entryOf(t *testing.T, term, batch uint64, parts ...any) []byte {
	t.Helper()
	data := AppendHeader(nil, term, batch)
	for i := 0; i < len(parts); i += 2 {
		var err error
		data, err = AppendRequest(data, parts[i].(Kind), Origin{User: "u", AuthRevision: 3}, parts[i+1].(proto.Message))
		if err != nil {
			t.Fatal(err)
		}
	}
	return data
}

func members(ids ...uint64) *conclavepb.Configuration {
	conf := &conclavepb.Configuration{}
	for _, id := range ids {
		conf.Servers = append(conf.Servers, &conclavepb.Server{Id: id, PeerUrls: []string{fmt.Sprintf("http://h%d:1", id)}})
	}
	return conf
}

// history is a random sequence of entries over a few keys.
func history(t *testing.T, rng *rand.Rand, n int) [][]byte {
	t.Helper()
	var out [][]byte
	for i := range n {
		key := []byte(fmt.Sprintf("k%d", rng.IntN(20)))
		var parts []any
		for range 1 + rng.IntN(4) {
			switch rng.IntN(9) {
			case 0:
				parts = append(parts, KindDeleteRange, &pb.DeleteRangeRequest{Key: key})
			case 1:
				parts = append(parts, KindTxn, &pb.TxnRequest{
					Compare: []*pb.Compare{{Key: key, Target: pb.Compare_VERSION, Result: pb.Compare_GREATER, TargetUnion: &pb.Compare_Version{Version: 1}}},
					Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: key}}}},
					Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: []byte("txn")}}}},
				})
			case 2:
				parts = append(parts, KindCompact, &pb.CompactionRequest{Revision: int64(1 + rng.IntN(10+i))})
			case 3:
				parts = append(parts, leaseRequest(rng, i)...)
			case 4:
				parts = append(parts, KindTxn, &pb.TxnRequest{Success: []*pb.RequestOp{
					{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: key, RangeEnd: []byte{0}, PrevKv: true}}},
					{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}}},
				}})
			case 5:
				parts = append(parts, KindAuditAnchor, anchorOf(1+rng.Uint64N(3), rng.Uint64N(uint64(n))))
			default:
				parts = append(parts, KindPut, &pb.PutRequest{Key: key, Value: []byte(fmt.Sprint(i)), Lease: rng.Int64N(4)})
			}
		}
		out = append(out, entryOf(t, 2, uint64(i), parts...))
	}
	return out
}

// leaseRequest is a random request about one of a few leases; the history is of
// term 2.
func leaseRequest(rng *rand.Rand, i int) []any {
	id := 1 + rng.Int64N(3)
	switch rng.IntN(5) {
	case 0, 1:
		return []any{KindLeaseGrant, &pb.LeaseGrantRequest{ID: id, TTL: 1 + rng.Int64N(50)}}
	case 2:
		return []any{KindLeaseRevoke, &pb.LeaseRevokeRequest{ID: id}}
	case 3:
		return []any{KindLeaseExpire, &conclavepb.LeaseExpire{Term: 1 + rng.Uint64N(2), Ids: []int64{id, id%3 + 1}}}
	}
	return []any{KindLeaseClock, &conclavepb.LeaseClock{Term: 1 + rng.Uint64N(2), Clock: int64(100 * i), Renewed: []int64{id}}}
}

// hashOf is everything that members have to agree on.
func hashOf(t *testing.T, m *Machine) string {
	t.Helper()
	h, err := m.HashKV(0)
	if err != nil {
		t.Fatal(err)
	}
	v := m.View()
	leases := fmt.Sprintf("lease clock %d", v.KV.LeaseClock())
	v.KV.Leases(func(l kv.Lease) bool {
		leases += fmt.Sprintf(", %+v of %q", l, v.KV.LeaseKeys(l.ID))
		return true
	})
	return fmt.Sprintf("%08x at %d, compacted %d, members %v, applied %d, %s",
		h.Sum, v.KV.Rev(), v.KV.CompactRev(), v.Members.All(), v.Applied, leases)
}

// How entries are grouped into publications, when they are committed, where the
// process is killed in between, and which answers are built, changes nothing.
func TestMachine_batchesAndCrashesDoNotMatter(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		entries := history(t, rng, 60)
		apply := func(m *Machine, i int) {
			if i == 0 {
				m.Configure(1, 1, members(3, 1, 2))
				return
			}
			m.Command(uint64(i+1), 2, entries[i-1])
		}
		one := openMachine(t, filepath.Join(t.TempDir(), "db"))
		for i := range len(entries) + 1 {
			apply(one, i)
			one.Publish()
		}
		want := hashOf(t, one)
		if err := one.Close(); err != nil {
			t.Fatal(err)
		}

		path := filepath.Join(t.TempDir(), "db")
		m := openMachine(t, path)
		m.SetSink(payer{rng: rng})
		for i := 0; i <= len(entries); i++ {
			apply(m, i)
			if rng.IntN(3) == 0 || i == len(entries) {
				m.Publish()
			}
			if rng.IntN(6) == 0 && m.held == false {
				if err := m.Commit(); err != nil {
					t.Fatal(err)
				}
			}
			if rng.IntN(15) == 0 && i < len(entries) {
				m.file.Load().db.Load().Close() // what is not committed is gone
				m = openMachine(t, path)
				m.SetSink(payer{rng: rng})
				index, _ := m.Synced().Position()
				if m.Applied() != index {
					t.Fatalf("opened at %d, synced %d", m.Applied(), index)
				}
				i = int(index) - 1
			}
		}
		if got := hashOf(t, m); got != want {
			t.Fatalf("seed %d:\n got %s\nwant %s", seed, got, want)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// payer is a Sink that waits for some batches, and pays or drops what is owed.
type payer struct {
	noSink
	rng *rand.Rand
}

func (p payer) Wants(uint64) bool { return p.rng.IntN(2) == 0 }
func (p payer) Deliver(_, _ uint64, results []Result) {
	for _, r := range results {
		if p.rng.IntN(2) == 0 {
			if err := r.Owed.Pay(nil); err != nil {
				panic(err)
			}
		}
		r.Owed.Drop()
	}
}

// recorder is a Sink that waits for some batches.
type recorder struct {
	wants     map[uint64]bool
	delivered map[uint64][]Result
	skipped   []uint64
	opened    []uint64
	views     []*View
	installed []*View
	leases    []kv.LeaseChange
}

func (r *recorder) Wants(batch uint64) bool { return r.wants[batch] }
func (r *recorder) Deliver(batch, _ uint64, results []Result) {
	if results == nil {
		r.skipped = append(r.skipped, batch)
		return
	}
	r.delivered[batch] = slices.Clone(results)
}
func (r *recorder) Opened(term uint64)               { r.opened = append(r.opened, term) }
func (r *recorder) LeasesChanged(c []kv.LeaseChange) { r.leases = append(r.leases, c...) }
func (r *recorder) Published(v *View)                { r.views = append(r.views, v) }
func (r *recorder) Installed(v *View)                { r.installed = append(r.installed, v) }

// A batch is answered where it is waited for; one that ended up in another term
// than it was meant for is applied nowhere.
func TestMachine_delivery(t *testing.T) {
	m := openMachine(t, filepath.Join(t.TempDir(), "db"))
	defer m.Close()
	sink := &recorder{wants: map[uint64]bool{10: true, 12: true}, delivered: map[uint64][]Result{}}
	m.SetSink(sink)
	put := func(key string) *pb.PutRequest { return &pb.PutRequest{Key: []byte(key), Value: []byte("v")} }
	m.Configure(1, 1, members(1))
	m.Command(2, 5, entryOf(t, 5, 0, KindTermOpen, &conclavepb.TermOpen{Member: 1}))
	m.Command(3, 5, entryOf(t, 5, 10, KindPut, put("a"), KindPut, put("b")))
	m.Command(4, 5, entryOf(t, 5, 11, KindPut, put("c")))
	m.Command(5, 5, entryOf(t, 4, 12, KindPut, put("late")))
	if len(sink.views) != 0 {
		t.Fatal("published before Publish")
	}
	m.Publish()
	if len(sink.views) != 1 || sink.views[0].Applied != 5 || sink.views[0].KV.Rev() != 4 {
		t.Fatalf("views %+v", sink.views)
	}
	if got := sink.delivered[10]; len(got) != 2 || got[1].Err != nil || got[1].Response.(*pb.PutResponse).Header.Revision != 3 {
		t.Errorf("delivered %+v", got)
	}
	if len(sink.delivered) != 1 || fmt.Sprint(sink.skipped) != "[12]" || fmt.Sprint(sink.opened) != "[5]" {
		t.Errorf("delivered %v, skipped %v, opened %v", sink.delivered, sink.skipped, sink.opened)
	}
	resp, err := m.View().KV.Range(&pb.RangeRequest{Key: []byte("late")})
	if err != nil || len(resp.Kvs) != 0 {
		t.Errorf("an entry of another term was applied: %v %v", resp, err)
	}
}

// Bytes that no member writes stop the process.
func TestMachine_malformedEntryStops(t *testing.T) {
	good := AppendHeader(nil, 1, 1)
	for name, data := range map[string][]byte{
		"empty":        {},
		"format":       {99, 1, 2, 3},
		"header":       {format, 1, 2},
		"request head": append(good[:len(good):len(good)], byte(KindPut)),
		"request body": append(good[:len(good):len(good)], byte(KindPut), 0, 0, 50, 1),
		"kind":         AppendRaw(good[:len(good):len(good)], Kind(200), Origin{}, nil),
		"message":      AppendRaw(good[:len(good):len(good)], KindPut, Origin{}, []byte{0xff}),
	} {
		t.Run(name, func(t *testing.T) {
			m := openMachine(t, filepath.Join(t.TempDir(), "db"))
			defer func() {
				if recover() == nil {
					t.Error("applied")
				}
				m.file.Load().db.Load().Close()
			}()
			m.Command(1, 1, data)
		})
	}
}

// Members keep what they published through changes of the membership, and a
// removed id is remembered.
func TestMembers_persist(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	m := openMachine(t, path)
	m.Configure(1, 1, members(1, 2, 0xabc))
	m.Command(2, 1, entryOf(t, 1, 1, KindAttributes, &conclavepb.Attributes{Member: 0xabc, Name: "c", ClientUrls: []string{"http://c:2"}},
		KindClusterVersion, &conclavepb.ClusterVersion{Version: "3.7.0"}))
	m.Configure(3, 1, members(1, 0xabc))
	m.Publish()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m = openMachine(t, path)
	defer m.Close()
	v := m.View()
	got, ok := v.Members.Get(0xabc)
	if !ok || got.Name != "c" || fmt.Sprint(got.ClientURLs) != "[http://c:2]" {
		t.Errorf("member %+v", got)
	}
	if _, ok := v.Members.Get(2); ok || !v.Members.Removed(2) || v.Members.Removed(1) {
		t.Error("the removed member is not remembered")
	}
	if v.ClusterVersion != "3.7.0" {
		t.Errorf("cluster version %q", v.ClusterVersion)
	}
	index, conf := m.Synced().Membership()
	if index != 3 || len(conf.Servers) != 2 {
		t.Errorf("membership %v at %d", conf, index)
	}
}

func TestOpen_inUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	m := openMachine(t, path)
	defer m.Close()
	if _, err := Open(Options{Path: path, Quota: 1 << 20, Log: zerolog.Nop()}); err == nil {
		t.Fatal("a state file was opened twice")
	}
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add(AppendRaw(AppendHeader(nil, 3, 4), KindPut, Origin{User: "x", AuthRevision: 1}, []byte("body")))
	f.Add([]byte{format})
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := decodeEntry(data)
		for n := 0; err == nil; n++ {
			var ok bool
			if _, ok, err = e.next(); !ok {
				return
			}
			if n > len(data) {
				t.Fatal("more requests than bytes")
			}
		}
	})
}

// The decoder of puts and the general one agree on everything.
func FuzzDecodePut(f *testing.F) {
	for _, r := range []*pb.PutRequest{
		{}, {Key: []byte("k")}, {Key: []byte("k"), Value: []byte("v"), Lease: -1},
		{Key: []byte("k"), PrevKv: true, IgnoreValue: true, IgnoreLease: true},
	} {
		data, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(append(data, 7<<3, 1))        // a field of a newer version
		f.Add(append(data, 1<<3, 1))        // another wire type
		f.Add(append(data, 2<<3|2, 1, 'x')) // a field again
		f.Add(append(data, 2<<3|2, 9, 'x')) // cut short
		f.Add(append(data, 3<<3, 0xff))     // cut short
		f.Add(append(data, 4<<3, 2, 0xff))  // true in another way
	}
	var reused pb.PutRequest
	f.Fuzz(func(t *testing.T, data []byte) {
		var want pb.PutRequest
		errWant, err := proto.Unmarshal(data, &want), decodePut(data, &reused)
		if (errWant == nil) != (err == nil) {
			t.Fatalf("%v, want %v", err, errWant)
		}
		if err != nil {
			return
		}
		want.ProtoReflect().SetUnknown(nil)
		reused.ProtoReflect().SetUnknown(nil)
		if !proto.Equal(&reused, &want) {
			t.Fatalf("%v, want %v", &reused, &want)
		}
	})
}
