package ledger

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "github.com/conclave-kv/conclave/internal/conclavepb"
)

// fixture is a ledger on a real file. Each commit writes, loads the file again
// and compares, so every test ends with the file equal to the state.
type fixture struct {
	t  *testing.T
	db *bbolt.DB
	l  *Ledger
}

func open(t *testing.T) *fixture {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, db: db}
	t.Cleanup(func() { _ = db.Close() })
	if err := db.Update(CreateBuckets); err != nil {
		t.Fatal(err)
	}
	f.l = f.load()
	return f
}

func (f *fixture) load() *Ledger {
	f.t.Helper()
	var l *Ledger
	err := f.db.View(func(tx *bbolt.Tx) (err error) {
		l, err = Open(tx)
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return l
}

// apply runs a command that must be accepted and tells whether it changed
// anything.
func (f *fixture) apply(cmd []byte, err error) bool {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
	changed, err := f.l.Apply(cmd)
	if err != nil {
		f.t.Fatal(err)
	}
	return changed
}

// commit freezes, writes, and checks the file against the view.
func (f *fixture) commit() *View {
	f.t.Helper()
	v, c := f.l.Freeze()
	if err := f.db.Update(c.Write); err != nil {
		f.t.Fatal(err)
	}
	if got := f.load().View(); got.Digest() != v.Digest() || got.earliest > v.earliest {
		f.t.Fatalf("the file holds another state than the view")
	}
	return v
}

func generation(n uint64, mark string) *pb.Generation {
	b := []byte(mark)
	return &pb.Generation{
		Number: n, TrustDomain: "td", PeerCa: b, PeerCaCross: b, ClientCa: b,
		SealedPeerKey: b, SealedClientKey: b, Created: 1000,
	}
}

func issued(n int, notAfter int64) *pb.Issued {
	return &pb.Issued{
		Serial: fmt.Appendf(nil, "serial-%d", n), Profile: "client", Subject: fmt.Sprintf("user-%d", n),
		NotAfter: notAfter, Generation: 1,
	}
}

func member(id uint64, serial string) *pb.CertifiedMember {
	return &pb.CertifiedMember{Id: id, Generation: 1, Serial: []byte(serial), NotAfter: 5000}
}

func TestLedger_firstGenerationWins(t *testing.T) {
	f := open(t)
	if _, ok := f.l.View().Generation(); ok {
		t.Fatal("an empty ledger has a generation")
	}
	if !f.apply(Create(generation(1, "first"))) {
		t.Fatal("the first generation changed nothing")
	}
	if f.apply(Create(generation(1, "second"))) {
		t.Fatal("a second generation 1 changed something in the same batch")
	}
	v := f.commit()
	if f.apply(Create(generation(1, "third"))) {
		t.Fatal("a second generation 1 changed something in a later batch")
	}
	if after, c := f.l.Freeze(); after != v || c != nil {
		t.Fatal("a batch without effect has changes")
	}
	if g, ok := v.Generation(); !ok || string(g.GetPeerCa()) != "first" {
		t.Fatalf("running generation %v", g)
	}
}

func TestLedger_certifyKeepsLatest(t *testing.T) {
	f := open(t)
	f.apply(Create(generation(1, "x")))
	f.apply(Certify(member(7, "a"), []*pb.Issued{issued(1, 9000)}, 1000))
	v1 := f.commit()
	if f.apply(Certify(member(7, "a"), []*pb.Issued{issued(1, 9000)}, 1000)) {
		t.Fatal("the same certificate again changed something")
	}
	f.apply(Certify(member(7, "b"), []*pb.Issued{issued(2, 9000)}, 1000))
	f.apply(Certify(member(3, "c"), nil, 1000))
	v2 := f.commit()
	if m, _ := v1.Certified(7); string(m.GetSerial()) != "a" || len(v1.Issued()) != 1 {
		t.Fatal("a frozen view changed")
	}
	if _, ok := v1.Certified(3); ok {
		t.Fatal("a frozen view has a later member")
	}
	if m, ok := v2.Certified(7); !ok || string(m.GetSerial()) != "b" {
		t.Fatalf("latest certificate %v", m)
	}
	if list := v2.Members(); len(list) != 2 || list[0].GetId() != 3 {
		t.Fatalf("members %v", list)
	}
	if len(v2.Issued()) != 2 {
		t.Fatalf("inventory %v", v2.Issued())
	}
}

func TestLedger_dropsExpired(t *testing.T) {
	f := open(t)
	f.apply(Create(generation(1, "x")))
	f.apply(Record([]*pb.Issued{issued(1, 2000), issued(2, 900000)}, 1000))
	f.commit()
	f.apply(Record([]*pb.Issued{issued(3, 900000)}, 2000+grace))
	if v := f.commit(); len(v.Issued()) != 3 {
		t.Fatalf("dropped within the grace: %v", v.Issued())
	}
	f.apply(Record([]*pb.Issued{issued(1, 2000)}, 2001+grace))
	v := f.commit()
	if len(v.Issued()) != 3 {
		t.Fatalf("a record dropped and added in one batch: %v", v.Issued())
	}
	f.apply(Record(nil, 2001+grace))
	if v := f.commit(); len(v.Issued()) != 2 || v.earliest != 900000 {
		t.Fatalf("kept past its end: %v", v.Issued())
	}
}

func TestLedger_refusals(t *testing.T) {
	f := open(t)
	f.apply(Create(generation(1, "x")))
	f.apply(Certify(member(7, "a"), nil, 1000))
	before := f.commit()
	without := func(change func(*pb.Generation)) *pb.Generation {
		g := generation(1, "x")
		change(g)
		return g
	}
	change := func(f func(*pb.Issued)) []*pb.Issued {
		i := issued(1, 2000)
		f(i)
		return []*pb.Issued{i}
	}
	noID, noSerial, noEnd, future := member(0, "a"), member(1, ""), member(1, "a"), member(1, "a")
	noEnd.NotAfter, future.Generation = 0, 2
	for name, make := range map[string]func() ([]byte, error){
		"generation 0":  func() ([]byte, error) { return Create(generation(0, "x")) },
		"generation 2":  func() ([]byte, error) { return Create(generation(2, "x")) },
		"no generation": func() ([]byte, error) { return Create(nil) },
		"no domain":     func() ([]byte, error) { return Create(without(func(g *pb.Generation) { g.TrustDomain = "" })) },
		"no key":        func() ([]byte, error) { return Create(without(func(g *pb.Generation) { g.SealedClientKey = nil })) },
		"large CA": func() ([]byte, error) {
			return Create(without(func(g *pb.Generation) { g.PeerCa = make([]byte, maxBlob+1) }))
		},
		"member id 0":       func() ([]byte, error) { return Certify(noID, nil, 1) },
		"no member":         func() ([]byte, error) { return Certify(nil, nil, 1) },
		"member serial":     func() ([]byte, error) { return Certify(noSerial, nil, 1) },
		"member end":        func() ([]byte, error) { return Certify(noEnd, nil, 1) },
		"member generation": func() ([]byte, error) { return Certify(future, nil, 1) },
		"long serial":       func() ([]byte, error) { return Certify(member(1, string(make([]byte, 21))), nil, 1) },
		"bad issued": func() ([]byte, error) {
			return Certify(member(1, "a"), change(func(i *pb.Issued) { i.Subject = "" }), 1)
		},
		"unknown profile":    func() ([]byte, error) { return Record(change(func(i *pb.Issued) { i.Profile = "ca" }), 1) },
		"unknown generation": func() ([]byte, error) { return Record(change(func(i *pb.Issued) { i.Generation = 0 }), 1) },
		"too many":           func() ([]byte, error) { return Record(make([]*pb.Issued, maxBatch+1), 1) },
	} {
		cmd, err := make()
		if err != nil {
			t.Fatal(err)
		}
		if changed, err := f.l.Apply(cmd); !errors.Is(err, ErrRejected) || changed {
			t.Errorf("%s: changed %v, error %v; want ErrRejected", name, changed, err)
		}
	}
	if after := f.commit(); after != before {
		t.Fatal("refused commands changed the state")
	}
}

func TestLedger_fullInventory(t *testing.T) {
	f := open(t)
	f.apply(Create(generation(1, "x")))
	for n := 0; n < maxIssued; n += maxBatch {
		list := make([]*pb.Issued, maxBatch)
		for i := range list {
			list[i] = issued(n+i, 2000)
		}
		f.apply(Record(list, 1000))
	}
	cmd, _ := Record([]*pb.Issued{issued(-1, 2000)}, 1000)
	if _, err := f.l.Apply(cmd); !errors.Is(err, ErrRejected) {
		t.Fatalf("beyond the bound: %v", err)
	}
	if !f.apply(Certify(member(7, "a"), []*pb.Issued{issued(-1, 9_000_000)}, 1000)) {
		t.Fatal("a full inventory stopped a member's renewal")
	}
	f.apply(Record([]*pb.Issued{issued(-2, 9_000_000)}, 3000+grace))
	if n := len(f.commit().Issued()); n != 2 {
		t.Fatalf("%d records after all expired, want 2", n)
	}
}

func TestLedger_unknownCommand(t *testing.T) {
	f := open(t)
	valid, err := Create(generation(1, "x"))
	if err != nil {
		t.Fatal(err)
	}
	extra := protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1)
	inner := generation(1, "x")
	inner.ProtoReflect().SetUnknown(extra)
	nested, err := Create(inner)
	if err != nil {
		t.Fatal(err)
	}
	later := protowire.AppendBytes(protowire.AppendTag(nil, 4, protowire.BytesType), []byte("new"))
	for name, cmd := range map[string][]byte{
		"empty": nil, "garbage": []byte("\xff\xff garbage"), "later kind": later,
		"later field": append(valid, extra...), "later field inside": nested, "cut": valid[:len(valid)-1],
	} {
		if changed, err := f.l.Apply(cmd); !errors.Is(err, ErrUnknownCommand) || errors.Is(err, ErrRejected) || changed {
			t.Errorf("%s: changed %v, error %v; want ErrUnknownCommand", name, changed, err)
		}
	}
	if _, c := f.l.Freeze(); c != nil {
		t.Fatal("unknown commands changed the state")
	}
}

func TestLedger_batchSizesAgree(t *testing.T) {
	var cmds [][]byte
	add := func(cmd []byte, err error) {
		if err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, cmd)
	}
	add(Create(generation(1, "x")))
	for n := range 300 {
		now := int64(1000 + n*1000)
		add(Record([]*pb.Issued{issued(n%70, now+int64(n%7)*3000)}, now))
		add(Certify(member(uint64(n%5+1), fmt.Sprint(n)), []*pb.Issued{issued(1000+n, now+50)}, now))
	}
	var first *View
	for _, size := range []int{1, 7, 1000} {
		f := open(t)
		for i, cmd := range cmds {
			f.apply(cmd, nil)
			if (i+1)%size == 0 {
				f.commit()
			}
		}
		v := f.commit()
		if first == nil {
			first = v
		} else if v.Digest() != first.Digest() {
			t.Fatalf("batches of %d give another state than batches of 1", size)
		}
	}
	if len(first.Issued()) >= 370 || len(first.Issued()) == 0 {
		t.Fatalf("the scenario dropped nothing, or all: %d", len(first.Issued()))
	}
}

func TestOpen_damaged(t *testing.T) {
	f := open(t)
	f.apply(Create(generation(1, "x")))
	f.commit()
	good, err := proto.Marshal(member(7, "a"))
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]struct{ bucket, key, value []byte }{
		"garbage":        {bucketGenerations, number(1), []byte("\xff")},
		"wrong key":      {bucketMembers, number(8), good},
		"gap":            {bucketGenerations, number(3), mustMarshal(generation(3, "x"))},
		"serial differs": {bucketIssued, []byte("other"), mustMarshal(issued(1, 1))},
	} {
		err := f.db.Update(func(tx *bbolt.Tx) error {
			if err := tx.Bucket(p.bucket).Put(p.key, p.value); err != nil {
				return err
			}
			_, err := Open(tx)
			if !errors.Is(err, errCorrupt) {
				t.Errorf("%s: %v", name, err)
			}
			return errors.New("roll back")
		})
		if err == nil {
			t.Fatal("not rolled back")
		}
	}
}

func TestView_nil(t *testing.T) {
	var v *View
	if _, ok := v.Generation(); ok {
		t.Error("generation")
	}
	if _, ok := v.Certified(1); ok {
		t.Error("certified")
	}
	if v.Issued() != nil || v.Members() != nil {
		t.Error("lists")
	}
}

func FuzzApply(f *testing.F) {
	create, _ := Create(generation(1, "x"))
	certify, _ := Certify(member(7, "a"), []*pb.Issued{issued(1, 9000)}, 1000)
	for _, seed := range [][]byte{nil, create, certify, []byte("\x08\x96\x01")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, cmd []byte) {
		l := &Ledger{view: &View{}}
		if _, err := l.Apply(create); err != nil {
			t.Fatal(err)
		}
		changed, err := l.Apply(cmd)
		if err != nil && !errors.Is(err, ErrRejected) && (changed || !errors.Is(err, ErrUnknownCommand)) {
			t.Fatalf("changed %v, error %v", changed, err)
		}
	})
}
