package audit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-kv/conclave/internal/logging"
)

// A restart goes on where the file ends, and over a line that a crash has cut.
func TestLog_goesOn(t *testing.T) {
	var m memory
	name, _ := written(t, &m, "a")
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append(raw, `{"seq":4,"ti`...), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		l := open(t, options(name, &m))
		l.Add(put("b"), false)
		closeLog(t, l)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	v, sum := verify(t, m.of, string(text))
	if len(v.Problems) > 0 || sum != (Summary{Records: 9, First: 1, Last: 9, Anchored: 9}) {
		t.Errorf("%v, %+v", v.Problems, sum)
	}
	if got := fmt.Sprint(v.Notes); !strings.Contains(got, "a:4: the line is cut, as a crash leaves it") {
		t.Errorf("noted %s", got)
	}
}

// A log that lost its end goes on behind what the cluster remembers, so that it
// still shows.
func TestLog_cutBetweenStarts(t *testing.T) {
	var m memory
	name, lines := written(t, &m, "a", "b", "c")
	if err := os.WriteFile(name, []byte(strings.Join(lines[:2], "")), 0o600); err != nil {
		t.Fatal(err)
	}
	closeLog(t, open(t, options(name, &m)))
	text, _ := os.ReadFile(name)
	v, _ := verify(t, m.of, string(text))
	if got := fmt.Sprint(v.Problems); !strings.Contains(got, "records 3 to 5 are missing before record 6") {
		t.Errorf("found %s", got)
	}
}

func TestOpen_refusesOtherFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(options(name, &memory{})); !errors.Is(err, errForeign) || !strings.Contains(err.Error(), name) {
		t.Errorf("opened a file of something else: %v", err)
	}
	other := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, options(other, &memory{}))
	defer closeLog(t, l)
	if _, err := Open(options(other, &memory{})); !errors.Is(err, logging.ErrInUse) {
		t.Errorf("opened a file in use: %v", err)
	}
}

// The chain goes on across files, each is anchored when it is finished, and a start
// finds the end of the chain in the newest file that has one.
func TestLog_rotates(t *testing.T) {
	var m memory
	name := filepath.Join(t.TempDir(), "audit.log")
	o := options(name, &m)
	o.Rotation.Compress = true
	l := open(t, o)
	key := strings.Repeat("k", 200)
	for range 4000 { // some 600 bytes each
		l.Add(put(key), false)
	}
	eventually(t, "two more files, and the first anchored", func() bool {
		old, err := filepath.Glob(filepath.Join(filepath.Dir(name), "audit-*"))
		return err == nil && len(old) >= 2 && m.newest().Seq > 0
	})
	closeLog(t, l)
	if err := os.Truncate(name, 0); err != nil { // a crash right after a rotation
		t.Fatal(err)
	}
	old, err := filepath.Glob(filepath.Join(filepath.Dir(name), "audit-*"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(old)
	if !strings.HasSuffix(old[0], ".gz") {
		t.Errorf("not compressed: %v", old)
	}
	raw, err := readEnd(old[len(old)-1])
	if err != nil {
		t.Fatal(err)
	}
	finished, err := lastRecord(raw)
	if err != nil {
		t.Fatal(err)
	}
	m.heads = slices.DeleteFunc(m.heads, func(h Head) bool { return h.Seq > finished.Seq })
	o.Anchored = m.newest()
	closeLog(t, open(t, o))
	v := &Verifier{Anchors: m.of}
	for _, f := range append(old, name) {
		r, err := OpenRecords(f)
		if err == nil {
			err = errors.Join(v.Read(f, r), r.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if sum := v.End(); len(v.Problems) > 0 || sum.First != 1 || sum.Anchored != sum.Last {
		t.Errorf("%v, %+v of %v", v.Problems, sum, old)
	}
}

// held is an output that takes nothing while it is held, or fails.
type held struct {
	mu     sync.Mutex
	gate   chan struct{} // closed: it goes on
	broken bool
	half   bool // it writes half of what it is given, and fails
	text   []byte
}

var errBroken = errors.New("no space left")

func (h *held) Write(p []byte) (int, error) {
	h.mu.Lock()
	gate := h.gate
	h.mu.Unlock()
	if gate != nil {
		<-gate
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.half:
		h.half, h.broken = false, true
		h.text = append(h.text, p[:len(p)/2]...)
		return len(p) / 2, errBroken
	case h.broken:
		return 0, errBroken
	}
	h.text = append(h.text, p...)
	return len(p), nil
}
func (h *held) set(gate chan struct{}, broken bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gate, h.broken = gate, broken
}
func (h *held) string() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return string(h.text)
}
func (h *held) Rotated() bool { return false }
func (h *held) Sync() error   { return nil }
func (h *held) Close() error  { return nil }

// on makes a log on an output of the test's own, with room for some records.
func on(t *testing.T, h *held, failClosed bool, records int) *Log {
	t.Helper()
	l := &Log{level: All, failClosed: failClosed, queue: newQueue(), sink: h, chain: chain{member: "abc"}, stop: make(chan struct{})}
	l.queue.records = records
	l.head.Store(&Head{})
	l.anchors.begin(l, Options{AnchorEvery: time.Hour})
	l.writer.Go(l.write)
	return l
}

// What finds no room is counted, in the log too, and nobody waits.
func TestLog_dropsAndSaysSo(t *testing.T) {
	gate := make(chan struct{})
	h := &held{gate: gate}
	l := on(t, h, false, 4)
	l.Add(put("a"), false)
	eventually(t, "the writer has taken the first", func() bool { return l.Stats().Waiting == 0 })
	for range 10 {
		if _, err := l.Admit(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.Add(put("b"), false)
	}
	if s := l.Stats(); s.Dropped != 6 || s.Waiting != 4 {
		t.Errorf("%+v", s)
	}
	h.set(nil, false)
	close(gate)
	closeLog(t, l)
	if got := h.string(); !strings.Contains(got, `"event":"dropped","records":6`) || strings.Count(got, `"rpc"`) != 5 {
		t.Errorf("wrote %s", got)
	}
	if v, sum := verify(t, nil, h.string()); len(v.Problems) > 0 || sum.Records != l.Stats().Written {
		t.Errorf("%v, %+v, %+v", v.Problems, sum, l.Stats())
	}
}

// With fail-closed no request is let in whose record would have no place, and each
// that was let in has its record.
func TestLog_failsClosed(t *testing.T) {
	gate := make(chan struct{})
	h := &held{gate: gate}
	l := on(t, h, true, 4)
	first, err := l.Admit(t.Context())
	if !first || err != nil {
		t.Fatal(first, err)
	}
	l.Add(put("a"), first)
	eventually(t, "the writer has taken the first", func() bool { return l.Stats().Waiting == 0 })
	for range 4 { // under way, without a record yet
		if ok, err := l.Admit(t.Context()); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	if ok, err := l.Admit(t.Context()); ok || !errors.Is(err, ErrUnavailable) {
		t.Errorf("let in one more than there is room: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Admit(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("a request that has ended: %v", err)
	}
	for range 4 {
		l.Add(put("b"), true)
	}
	h.set(nil, false)
	close(gate)
	eventually(t, "room", func() bool {
		ok, err := l.Admit(t.Context())
		if ok {
			l.Add(put("c"), true)
		}
		return err == nil
	})
	closeLog(t, l)
	if n := strings.Count(h.string(), `"rpc"`); n != 6 || l.Stats().Dropped != 0 {
		t.Errorf("%d records, %+v", n, l.Stats())
	}
	if _, err := l.Admit(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("let in after the end: %v", err)
	}
}

// While nothing can be written requests are refused at once; what was written in
// part is completed, and nothing is lost.
func TestLog_brokenOutput(t *testing.T) {
	h := &held{half: true}
	l := on(t, h, true, 1<<20) // it is not for want of room
	ok, err := l.Admit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.Add(put("a"), ok)
	eventually(t, "a refusal", func() bool {
		ok, err := l.Admit(t.Context())
		if ok {
			l.Add(put("b"), true)
		}
		return errors.Is(err, ErrUnavailable)
	})
	h.set(nil, false)
	eventually(t, "a yes", func() bool {
		ok, _ := l.Admit(t.Context())
		if ok {
			l.Add(put("c"), true)
		}
		return ok
	})
	closeLog(t, l)
	v, sum := verify(t, nil, h.string())
	if s := l.Stats(); len(v.Problems) > 0 || s.Dropped > 0 || s.Failures == 0 || s.Written != sum.Records {
		t.Errorf("%v, %+v, %+v", v.Problems, sum, s)
	}
}

// An anchor is what is on the disk, at intervals and at the end, and once.
func TestLog_anchors(t *testing.T) {
	var m memory
	o := options(filepath.Join(t.TempDir(), "audit.log"), &m)
	o.AnchorEvery = time.Millisecond
	l := open(t, o)
	l.Add(put("a"), false)
	eventually(t, "an anchor of record 2", func() bool { return l.Stats().Anchored == 2 })
	closeLog(t, l)
	heads, _ := m.of("")
	if n := len(heads); n > 3 || heads[n-1].Seq != 3 {
		t.Errorf("anchored %v", heads)
	}
}

// Without a cluster that takes it, an anchor is tried again, and the end waits no
// longer than it is given.
func TestLog_anchorFails(t *testing.T) {
	o := options(filepath.Join(t.TempDir(), "audit.log"), &memory{})
	var mu sync.Mutex
	tries := 0
	o.AnchorEvery = time.Millisecond
	o.Anchor = func(ctx context.Context, _ Head) error {
		mu.Lock()
		defer mu.Unlock()
		tries++
		return errBroken
	}
	l := open(t, o)
	eventually(t, "another try", func() bool { mu.Lock(); defer mu.Unlock(); return tries > 2 })
	closeLog(t, l)
	if s := l.Stats(); s.Anchored != 0 {
		t.Errorf("anchored %d", s.Anchored)
	}
}

func BenchmarkLog_add(b *testing.B) {
	l := open(b, options(filepath.Join(b.TempDir(), "audit.log"), &memory{}))
	r := put("/registry/pods/default/some-pod-with-a-name")
	for b.Loop() {
		l.Add(r, false)
	}
	b.StopTimer()
	b.ReportMetric(float64(l.Stats().Dropped)/float64(b.N), "dropped/op")
	closeLog(b, l)
}

func BenchmarkChain_record(b *testing.B) {
	c := chain{member: "8e9e05c52164694d"}
	r := put("/registry/pods/default/some-pod-with-a-name")
	r.Remote = &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 41004}
	var line []byte
	b.ReportAllocs()
	for b.Loop() {
		line = c.record(line[:0], r)
	}
	b.SetBytes(int64(len(line)))
}

// The rest of a line that was cut belongs to its file, however full that is.
func TestLog_cutInAFullFile(t *testing.T) {
	var m memory
	name := filepath.Join(t.TempDir(), "audit.log")
	o := options(name, &m)
	o.Rotation.MaxSize = 2
	l := open(t, o)
	for range 2500 {
		l.Add(put(strings.Repeat("k", 200)), false)
	}
	closeLog(t, l)
	raw, err := os.ReadFile(name)
	if err != nil || len(raw) < 1<<20 {
		t.Fatal(len(raw), err)
	}
	if err := os.WriteFile(name, append(raw, `{"seq":`...), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Rotation.MaxSize, o.Anchored = 1, m.newest()
	l = open(t, o)
	l.Add(put("next"), false)
	closeLog(t, l)
	old, err := filepath.Glob(filepath.Join(filepath.Dir(name), "audit-*"))
	if err != nil || len(old) != 1 {
		t.Fatal(old, err)
	}
	var texts []string
	for _, f := range append(old, name) {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(raw))
	}
	if v, sum := verify(t, m.of, texts...); len(v.Problems) > 0 || len(v.Notes) != 1 || sum.Anchored != sum.Last {
		t.Errorf("%v, %v, %+v", v.Problems, v.Notes, sum)
	}
}

// order notes what is done to an output, and to the cluster.
type order struct {
	held
	did []string
}

func (o *order) note(what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.did = append(o.did, what)
}
func (o *order) Sync() error { o.note("sync"); return nil }

// What is anchored was synced before: a crash must not look like a cut.
func TestLog_syncsBeforeAnchors(t *testing.T) {
	out := &order{}
	l := &Log{level: All, queue: newQueue(), sink: out, chain: chain{member: "abc"}, stop: make(chan struct{})}
	l.head.Store(&Head{})
	l.anchors.begin(l, Options{AnchorEvery: time.Hour, Anchor: func(context.Context, Head) error { out.note("anchor"); return nil }})
	l.writer.Go(l.write)
	l.Add(put("a"), false)
	closeLog(t, l)
	if got := fmt.Sprint(out.did); got != "[sync anchor]" {
		t.Errorf("did %s", got)
	}
}
