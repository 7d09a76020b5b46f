package raftstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

const kindEcho Kind = 77

// echo answers with what it was asked.
func echo(_ context.Context, _ uint64, payload []byte) ([]byte, error) { return payload, nil }

// tcpMesh starts a mesh on loopback, closed at the test's end; change may
// alter its settings.
func tcpMesh(t testing.TB, id uint64, change func(*MeshConfig)) (*Mesh, string) {
	t.Helper()
	cfg := MeshConfig{
		Self: id, ClusterID: 0xc1, Instance: fmt.Sprintf("instance-%x", id), Plan: "plan of c1",
		ElectionTimeout: time.Second, Log: zerolog.Nop(),
	}
	if change != nil {
		change(&cfg)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := NewMesh(cfg)
	t.Cleanup(m.Close)
	m.Handle(kindEcho, echo)
	m.Serve(ln)
	return m, "http://" + ln.Addr().String()
}

// tcpPair is members 1 and 2, connected both ways.
func tcpPair(t testing.TB) (a, b *Mesh) {
	t.Helper()
	a, urlA := tcpMesh(t, 1, nil)
	b, urlB := tcpMesh(t, 2, nil)
	a.SetPeers(map[uint64][]string{2: {urlB}})
	b.SetPeers(map[uint64][]string{1: {urlA}})
	awaitBoth(t, a, 2)
	awaitBoth(t, b, 1)
	return a, b
}

func statusOf(m *Mesh, peer uint64) PeerStatus {
	for _, p := range m.Peers() {
		if p.ID == peer {
			return p
		}
	}
	return PeerStatus{}
}

func awaitBoth(t testing.TB, m *Mesh, peer uint64) {
	t.Helper()
	eventually(t, "both connections are up", func() bool {
		p := statusOf(m, peer)
		return p.Inbound && p.Outbound
	})
}

func call(t testing.TB, m *Mesh, peer uint64, text string, within time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	answer, err := m.Call(ctx, peer, kindEcho, []byte(text))
	if err == nil && string(answer) != text {
		t.Fatalf("%q was answered with %q", text, answer)
	}
	return err
}

func TestMesh_callBothWays(t *testing.T) {
	a, b := tcpPair(t)
	large := strings.Repeat("x", 3<<20)
	for _, text := range []string{"", "small", large} {
		if err := call(t, a, 2, text, patience); err != nil {
			t.Fatal(err)
		}
		if err := call(t, b, 1, text, patience); err != nil {
			t.Fatal(err)
		}
	}
	if p := statusOf(a, 2); p.LastError != nil || p.Instance != "instance-2" || p.Since.IsZero() {
		t.Fatalf("status %+v", p)
	}
	eventually(t, "a round trip is measured", func() bool { return statusOf(a, 2).RTT > 0 })
	if p := statusOf(a, 2); p.Skew.Abs() > time.Second+p.RTT {
		t.Fatalf("skew %v on one machine, with a round trip of %v", p.Skew, p.RTT)
	}
}

func TestMesh_callErrors(t *testing.T) {
	a, b := tcpPair(t)
	b.Handle(1, func(context.Context, uint64, []byte) ([]byte, error) {
		return nil, &CallError{Code: 42, Text: "not today"}
	})
	b.Handle(2, func(context.Context, uint64, []byte) ([]byte, error) { return nil, errors.New("plain") })
	var deadline time.Duration
	b.Handle(3, func(ctx context.Context, from uint64, _ []byte) ([]byte, error) {
		by, _ := ctx.Deadline()
		deadline = time.Until(by)
		return nil, nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for kind, want := range map[Kind]CallError{
		1: {42, "not today"},
		2: {CodeFailed, "plain"},
		9: {CodeNoHandler, "nobody answers calls of kind 9 here"},
	} {
		_, err := a.Call(ctx, 2, kind, nil)
		var got *CallError
		if !errors.As(err, &got) || *got != want {
			t.Errorf("kind %d: %v, want %v", kind, err, want)
		}
	}
	if _, err := a.Call(ctx, 2, 3, nil); err != nil || deadline <= 0 || deadline > 5*time.Second {
		t.Errorf("handler was given %v of the caller's 5 s (%v)", deadline, err)
	}
	if _, err := a.Call(ctx, 3, kindEcho, nil); !errors.Is(err, ErrUnreachable) {
		t.Errorf("unknown member: %v", err)
	}
	if _, err := a.Call(ctx, 2, kindEcho, make([]byte, maxPayload+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
}

func TestMesh_callsAreBounded(t *testing.T) {
	a, b := tcpPair(t)
	release := make(chan struct{})
	var handled atomic.Int32
	b.Handle(1, func(ctx context.Context, _ uint64, _ []byte) ([]byte, error) {
		handled.Add(1)
		<-release
		return nil, nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var calls sync.WaitGroup
	for range maxCalls {
		calls.Go(func() {
			if _, err := a.Call(ctx, 2, 1, nil); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "all are handled", func() bool { return handled.Load() == maxCalls })
	if _, err := a.Call(ctx, 2, 1, nil); !errors.Is(err, ErrBusy) {
		t.Errorf("one more: %v", err)
	}
	close(release)
	calls.Wait()
	if err := call(t, a, 2, "again", patience); err != nil {
		t.Error(err)
	}
}

func TestMesh_unreachable(t *testing.T) {
	a, _ := tcpMesh(t, 1, nil)
	a.SetPeers(map[uint64][]string{2: {"http://127.0.0.1:1"}})
	eventually(t, "the dial failed", func() bool { return statusOf(a, 2).LastError != nil })
	err := call(t, a, 2, "x", 5*time.Second)
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Fatal(err)
	}
}

func TestMesh_http(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "at ", r.URL.Path) })
	_, url := tcpMesh(t, 1, func(c *MeshConfig) { c.HTTP = handler })
	for range 2 {
		resp, err := http.Get(url + "/version")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != "at /version" {
			t.Fatalf("%q, %v", body, err)
		}
	}
}

func TestMesh_closeLeavesNothing(t *testing.T) {
	a, urlA := tcpMesh(t, 1, func(c *MeshConfig) { c.HTTP = http.NotFoundHandler() })
	b, urlB := tcpMesh(t, 2, nil)
	a.SetPeers(map[uint64][]string{2: {urlB}, 3: {"http://127.0.0.1:1"}})
	b.SetPeers(map[uint64][]string{1: {urlA}})
	awaitBoth(t, a, 2)
	client := &http.Client{Transport: &http.Transport{}}
	resp, err := client.Get(urlA + "/x")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	trans := servingTransport(a, allDurable{})
	trans.inboxOf(2)
	b.Handle(1, func(ctx context.Context, _ uint64, _ []byte) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	failed := make(chan error, 1)
	go func() {
		_, err := a.Call(context.Background(), 2, 1, nil)
		failed <- err
	}()
	eventually(t, "the call is handled", func() bool { return b.known(1).handling.Load() == 1 })
	a.Close()
	b.Close()
	trans.Close()
	client.CloseIdleConnections()
	if err := <-failed; err == nil {
		t.Error("a call survived the mesh")
	}
	var left string
	eventually(t, "all goroutines ended", func() bool {
		buf := make([]byte, 1<<20)
		left = string(buf[:runtime.Stack(buf, true)])
		return !strings.Contains(left, "raftstore.(*session)") && !strings.Contains(left, "raftstore.(*Mesh)") &&
			!strings.Contains(left, "raftstore.(*remote)") && !strings.Contains(left, "raftstore.(*inbox)")
	})
}

func TestMesh_logsOncePerChange(t *testing.T) {
	var out lockedBuffer
	a, _ := tcpMesh(t, 1, func(c *MeshConfig) {
		c.Log = zerolog.New(&out)
		c.limits = meshLimits{backoff: time.Millisecond}
	})
	var dials atomic.Int32
	a.cfg.Dial = func(context.Context, string, string) (net.Conn, error) {
		n := dials.Add(1)
		return nil, &net.OpError{Op: "dial", Source: &net.TCPAddr{Port: int(n)}, Err: errors.New("connection refused")}
	}
	a.SetPeers(map[uint64][]string{2: {"http://127.0.0.1:1"}})
	eventually(t, "several dials", func() bool { return dials.Load() > 5 })
	a.Close()
	if n := strings.Count(out.String(), "connection refused"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, out.String())
	}
}

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
