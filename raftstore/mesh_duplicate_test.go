package raftstore

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// brief has a process believe after little time that it is a duplicate.
func brief(c *MeshConfig) {
	c.ElectionTimeout = 500 * time.Millisecond
	c.limits = meshLimits{duplicate: 300 * time.Millisecond, backoff: 10 * time.Millisecond}
}

// sessionsWith are the open connections with a peer.
func sessionsWith(m *Mesh, peer uint64) (in, out *session) {
	r := m.known(peer)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.in, r.out
}

// A copy of a member's data directory is started while the member runs: the copy
// is told where the member is, and the member notices nothing.
func TestMesh_copyIsRefused(t *testing.T) {
	var meshes [3]*Mesh
	peers := map[uint64][]string{}
	for i := range meshes {
		id := uint64(i + 1)
		m, url := tcpMesh(t, id, brief)
		meshes[i], peers[id] = m, []string{url}
	}
	for _, m := range meshes {
		m.SetPeers(peers)
	}
	original := meshes[2]
	for id := uint64(1); id <= 2; id++ {
		awaitBoth(t, original, id)
		awaitBoth(t, meshes[id-1], 3)
	}
	in, out := sessionsWith(meshes[0], 3)

	copied, _ := tcpMesh(t, 3, brief) // the same data directory
	copied.SetPeers(peers)
	start := time.Now()
	var err error
	for err == nil {
		select {
		case err = <-copied.Duplicate():
		case <-time.After(10 * time.Second):
			t.Fatal("the copy is not told")
		default:
			for _, peer := range []uint64{1, 2} {
				if err := call(t, original, peer, "as ever", patience); err != nil {
					t.Fatalf("the original was disturbed: %v", err)
				}
			}
		}
	}
	if took := time.Since(start); took < 300*time.Millisecond {
		t.Errorf("believed after %v", took)
	}
	if !errors.Is(err, ErrDuplicate) || !errors.Is(err, ErrRefused) {
		t.Errorf("the copy is told %v", err)
	}
	for _, part := range []string{"member 3", "connected from 127.0.0.1:", "answering at " + peers[3][0], "copy of a data directory"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in: %v", part, err)
		}
	}
	if nowIn, nowOut := sessionsWith(meshes[0], 3); nowIn != in || nowOut != out {
		t.Error("the original lost a connection")
	}
	for _, p := range copied.Peers() {
		if p.Inbound || p.Outbound {
			t.Errorf("the copy is connected with %x", p.ID)
		}
	}
	select {
	case err := <-original.Duplicate():
		t.Errorf("the original is told %v", err)
	default:
	}
}

// Who dials a copy does not take it for the member.
func TestMesh_copyIsNotDialled(t *testing.T) {
	a, urlA := tcpMesh(t, 1, brief)
	original, _ := tcpMesh(t, 2, brief)
	original.SetPeers(map[uint64][]string{1: {urlA}})
	eventually(t, "the original is connected", func() bool { return statusOf(a, 2).Inbound })
	_, urlCopy := tcpMesh(t, 2, brief)
	a.SetPeers(map[uint64][]string{2: {urlCopy}})
	eventually(t, "the dial is given up", func() bool {
		p := statusOf(a, 2)
		return p.Inbound && !p.Outbound && errors.Is(p.LastError, ErrDuplicate)
	})
	if err := call(t, a, 2, "by its own connection", patience); err != nil {
		t.Error(err)
	}
}

// A member whose host died says nothing any more: whoever comes under its id
// waits half an election timeout, not until the connections are given up.
func TestMesh_silentProcessIsSuperseded(t *testing.T) {
	a, urlA := tcpMesh(t, 1, brief)
	stuckPeer(t, urlA, 2)
	eventually(t, "the first is connected", func() bool { return statusOf(a, 2).Inbound })
	old, _ := sessionsWith(a, 2)
	since := statusOf(a, 2).Since
	still := watchStillness(t)
	start := time.Now()
	next, _ := tcpMesh(t, 2, func(c *MeshConfig) { brief(c); c.Instance = "stuck" })
	next.SetPeers(map[uint64][]string{1: {urlA}})
	eventually(t, "the second is connected", func() bool { return statusOf(next, 1).Outbound })
	took := time.Since(start)
	if took > 2*time.Second {
		still.excuses(t, 100*time.Millisecond)
	}
	if took < 250*time.Millisecond || took > 2*time.Second {
		t.Errorf("let in after %v, want half an election timeout of 500 ms", took)
	}
	if cause := old.endCause(); !errors.Is(cause, errSuperseded) {
		t.Errorf("the first ended with %v", cause)
	}
	if p := statusOf(a, 2); p.Since.Equal(since) {
		t.Error("connected since the other process was")
	}
	if err := call(t, next, 1, "works", patience); err != nil {
		t.Error(err)
	}
}

// A process that was stopped for so long that another one took its place ends
// when it goes on.
func TestMesh_supersededProcessLearnsIt(t *testing.T) {
	a, urlA := tcpMesh(t, 1, brief)
	var stopped atomic.Bool
	first, _ := tcpMesh(t, 2, func(c *MeshConfig) {
		brief(c)
		c.hook = func(uint64, []byte, func([]byte)) bool { return !stopped.Load() }
	})
	first.SetPeers(map[uint64][]string{1: {urlA}})
	eventually(t, "the first is connected", func() bool { return statusOf(a, 2).Inbound })
	stopped.Store(true)
	second, _ := tcpMesh(t, 2, brief)
	second.SetPeers(map[uint64][]string{1: {urlA}})
	eventually(t, "the second is connected", func() bool { return statusOf(second, 1).Outbound })
	stopped.Store(false)
	select {
	case err := <-first.Duplicate():
		if !errors.Is(err, ErrDuplicate) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the first is not told")
	}
	select {
	case err := <-second.Duplicate():
		t.Errorf("the second is told %v", err)
	default:
	}
	if !statusOf(second, 1).Outbound {
		t.Error("the second lost its connection")
	}
}

// A member that restarts at once, its connections reset by the kernel, is no
// duplicate of itself.
func TestMesh_quickRestarts(t *testing.T) {
	a, urlA := tcpMesh(t, 1, brief)
	still := watchStillness(t)
	var slowest time.Duration
	for range 20 {
		b, urlB := tcpMesh(t, 2, brief)
		a.SetPeers(map[uint64][]string{2: {urlB}})
		start := time.Now()
		b.SetPeers(map[uint64][]string{1: {urlA}})
		eventually(t, "connected", func() bool { return statusOf(b, 1).Outbound })
		slowest = max(slowest, time.Since(start))
		if err := call(t, b, 1, "works", patience); err != nil {
			t.Fatal(err)
		}
		in, out := sessionsWith(b, 1)
		for _, s := range []*session{in, out} { // as the kernel does for a killed process
			if s == nil {
				continue
			}
			s.raw.(interface{ SetLinger(int) error }).SetLinger(0)
			s.raw.Close()
		}
		b.Close()
	}
	t.Logf("the slowest of 20 was connected after %v", slowest)
	if slowest >= 250*time.Millisecond {
		still.excuses(t, 20*time.Millisecond)
		t.Errorf("a restart waited %v: half an election timeout is for processes that say nothing", slowest)
	}
}

// Where two processes under one id are apart from each other, the one that fewer
// peers are connected with goes, or both.
func TestMesh_judgeDuplicate(t *testing.T) {
	for _, c := range []struct {
		against, with int
		fresh         bool // the refusals began just now
		want          bool
	}{
		{against: 1, with: 0, want: true},
		{against: 2, with: 0, want: true},
		{against: 1, with: 1, want: true},
		{against: 1, with: 3, want: false},
		{against: 3, with: 1, want: true},
		{against: 2, with: 0, fresh: true, want: false},
		{against: 0, with: 2, want: false},
	} {
		m := NewMesh(MeshConfig{Self: 9, ElectionTimeout: time.Second})
		for i := range c.against + c.with {
			r := m.remoteLocked(uint64(i + 1))
			switch {
			case i >= c.against:
				r.in = &session{}
			case c.fresh:
				r.duplicate = time.Now()
			default:
				r.duplicate = time.Now().Add(-11 * time.Second)
			}
		}
		m.judgeDuplicate(ErrDuplicate)
		if got := len(m.Duplicate()) == 1; got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
		m.Close()
	}
}
