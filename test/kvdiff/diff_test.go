package kvdiff

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/kv"
)

// How much is compared: this many requests for each seed. Hashes are compared
// at every readable revision, so their number grows with the square.
const (
	seeds    = 20
	requestN = 150
)

// A pair is both stores, which get the same requests.
type pair struct {
	t        *testing.T
	etcd     *etcdStore
	conclave *conclaveStore
	lines    []goldenLine
}

func TestStores_same(t *testing.T) {
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { compareStores(t, seed) })
	}
}

func compareStores(t *testing.T, seed uint64) {
	dir := t.TempDir()
	etcdPath, conclavePath := filepath.Join(dir, "etcd"), filepath.Join(dir, "conclave")
	conclave, err := openConclave(conclavePath)
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{t: t, etcd: openEtcd(etcdPath), conclave: conclave}
	chance := &requests{rnd: rand.New(rand.NewPCG(seed, 7)), keys: 5 + int(seed)*3, rev: conclave.rev}
	for i := range requestN {
		p.write(chance.write())
		if chance.rnd.IntN(3) == 0 {
			p.same(chance.rangeRequest())
		}
		if i%25 == 10 {
			p.hashes()
		}
		if i%40 == 20 { // a restart, which may come in the middle of a compaction
			p.must(conclave.flush())
			p.must(conclave.load())
			p.hashes()
		}
	}
	p.must(conclave.settle())
	p.hashes()
	rev, hash := conclave.rev(), p.hash(0)
	p.must(conclave.db.Close())
	p.must(p.etcd.close())
	sameFiles(t, etcdPath, conclavePath)
	opensBoth(t, etcdPath, conclavePath, rev, hash)
	if *goldenFile != "" && seed == goldenSeed {
		p.must(writeGolden(*goldenFile, p.lines))
	}
}

func (p *pair) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// write performs a request on both stores and remembers it for -golden.
func (p *pair) write(req proto.Message) {
	p.t.Helper()
	p.same(req)
	rev := p.etcd.kv.Rev()
	if got := p.conclave.rev(); got != rev {
		p.t.Fatalf("revision %d after %v, etcd's %d", got, req, rev)
	}
	line, err := newGoldenLine(req, rev)
	p.must(err)
	p.lines = append(p.lines, line)
}

// same fails the test unless both stores give the same answer.
func (p *pair) same(req proto.Message) {
	p.t.Helper()
	want, wantErr := p.etcd.do(req)
	got, gotErr := p.conclave.do(req)
	if !errors.Is(gotErr, wantErr) || gotErr != nil && wantErr == nil {
		p.t.Fatalf("%v\nerror %v, etcd's %v", req, gotErr, wantErr)
	}
	if gotErr == nil && !proto.Equal(got, want) {
		p.t.Fatalf("%v\ngot    %v\netcd's %v", req, got, want)
	}
}

// hash compares the hashes at rev; 0 is the newest revision.
func (p *pair) hash(rev int64) kv.Hash {
	p.t.Helper()
	want, err := p.etcd.hash(rev)
	p.must(err)
	got, err := p.conclave.kv.HashKV(rev)
	if err != nil || got != want {
		p.t.Fatalf("hash at %d: %+v, %v; etcd's %+v", rev, got, err, want)
	}
	return got
}

// hashes compares the hash of every revision that can be read.
func (p *pair) hashes() {
	p.t.Helper()
	view := p.conclave.kv.View()
	line := &p.lines[len(p.lines)-1]
	for rev := max(1, view.CompactRev()+1); rev <= view.Rev(); rev++ {
		line.add(p.hash(rev))
	}
}

// opensBoth opens each store's file with the other one.
func opensBoth(t *testing.T, etcdPath, conclavePath string, rev int64, hash kv.Hash) {
	t.Helper()
	etcd := openEtcd(conclavePath)
	if got, err := etcd.hash(0); err != nil || got != hash || etcd.kv.Rev() != rev {
		t.Errorf("etcd reads revision %d and %+v, %v from conclave's file, want %d and %+v", etcd.kv.Rev(), got, err, rev, hash)
	}
	if err := etcd.close(); err != nil {
		t.Error(err)
	}
	conclave, err := openConclave(etcdPath)
	if err != nil {
		t.Fatal(err)
	}
	defer conclave.db.Close()
	if got, err := conclave.kv.HashKV(0); err != nil || got != hash || conclave.rev() != rev {
		t.Errorf("conclave reads revision %d and %+v, %v from etcd's file, want %d and %+v", conclave.rev(), got, err, rev, hash)
	}
	if err := conclave.db.View(conclave.kv.Check); err != nil {
		t.Error(err)
	}
}
