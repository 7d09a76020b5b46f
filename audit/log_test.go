package audit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

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
func on(t *testing.T, h *held, failClosed bool, bound func(*queue)) *Log {
	t.Helper()
	l := &Log{level: All, failClosed: failClosed, queue: newQueue(), sink: h, chain: chain{member: "abc"}, stop: make(chan struct{})}
	bound(l.queue)
	l.head.Store(&Head{})
	l.anchors.begin(l, Options{AnchorEvery: time.Hour})
	l.writer.Go(l.write)
	return l
}

// What finds no room is counted, in the log too, and nobody waits.
func TestLog_dropsAndSaysSo(t *testing.T) {
	gate := make(chan struct{})
	h := &held{gate: gate}
	l := on(t, h, false, func(q *queue) { q.records = 4 })
	l.Add(put("a"))
	eventually(t, "the writer has taken the first", func() bool { return l.Stats().Waiting == 0 })
	for range 10 {
		if err := ask(l, "b"); err != nil {
			t.Fatal(err)
		}
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

// ask is a request that is recorded if it is let in.
func ask(l *Log, key string) error {
	r := put(key)
	err := l.Admit(context.Background(), r)
	if err == nil {
		l.Add(r)
	}
	return err
}

// With fail-closed no request is let in whose record would have no place, and each
// that was let in has its record.
func TestLog_failsClosed(t *testing.T) {
	for name, bound := range map[string]func(q *queue){
		"places": func(q *queue) { q.records = 4 },
		"bytes":  func(q *queue) { q.most = 4*put("b").weight() + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gate := make(chan struct{})
			h := &held{gate: gate}
			l := on(t, h, true, bound)
			if err := ask(l, "a"); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the writer has taken the first", func() bool { return l.Stats().Waiting == 0 })
			var under []*Record // way, without a record yet
			for range 4 {
				r := put("b")
				if err := errors.Join(l.Admit(t.Context(), r), l.Admit(t.Context(), r)); err != nil {
					t.Fatal(err)
				}
				under = append(under, r)
			}
			if err := ask(l, "c"); !errors.Is(err, ErrUnavailable) {
				t.Errorf("let in one more than there is room: %v", err)
			}
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			if err := l.Admit(ended, put("c")); !errors.Is(err, context.Canceled) {
				t.Errorf("a request that has ended: %v", err)
			}
			for _, r := range under {
				r.User = "somebody with a longer name"
				l.Add(r)
			}
			h.set(nil, false)
			close(gate)
			eventually(t, "room", func() bool { return ask(l, "d") == nil })
			closeLog(t, l)
			if n := strings.Count(h.string(), `"rpc"`); n != 6 || l.Stats().Dropped != 0 {
				t.Errorf("%d records, %+v", n, l.Stats())
			}
			if err := ask(l, "e"); !errors.Is(err, ErrUnavailable) {
				t.Errorf("let in after the end: %v", err)
			}
		})
	}
}

// While nothing can be written requests are refused at once; what was written in
// part is completed, and nothing is lost.
func TestLog_brokenOutput(t *testing.T) {
	h := &held{half: true}
	l := on(t, h, true, func(*queue) {}) // it is not for want of room
	if err := ask(l, "a"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a refusal", func() bool { return errors.Is(ask(l, "b"), ErrUnavailable) })
	h.set(nil, false)
	eventually(t, "a yes", func() bool { return ask(l, "c") == nil })
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
	l.Add(put("a"))
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
	l.Add(put("a"))
	closeLog(t, l)
	if got := fmt.Sprint(out.did); got != "[sync anchor]" {
		t.Errorf("did %s", got)
	}
}

func BenchmarkLog_add(b *testing.B) {
	l := open(b, options(filepath.Join(b.TempDir(), "audit.log"), &memory{}))
	r := put("/registry/pods/default/some-pod-with-a-name")
	for b.Loop() {
		l.Add(r)
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
