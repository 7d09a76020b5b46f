package raftstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A removed member is told so, and tries again rarely.
func TestMesh_removedIsTold(t *testing.T) {
	a, urlA := tcpMesh(t, 1, nil)
	b, urlB := tcpPeer(t, 2, urlA)
	a.SetPeers(map[uint64][]string{2: {urlB}})
	awaitBoth(t, a, 2)
	var dials atomic.Int32
	var last atomic.Int64
	b2, _ := tcpMesh(t, 3, func(c *MeshConfig) {
		c.limits = meshLimits{backoff: time.Millisecond, removed: 400 * time.Millisecond}
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			last.Store(time.Now().UnixNano())
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}
	})
	a.KnowRemoved(func(id uint64) bool { return id == 3 })
	start := time.Now()
	b2.SetPeers(map[uint64][]string{1: {urlA}})
	eventually(t, "told", func() bool { return errors.Is(statusOf(b2, 1).LastError, ErrRemoved) })
	err := statusOf(b2, 1).LastError
	var refused *RefusedError
	if !errors.As(err, &refused) || !refused.ByPeer || !strings.Contains(err.Error(), "member 3 was removed from the cluster") {
		t.Errorf("told %v", err)
	}
	eventually(t, "three dials", func() bool { return dials.Load() >= 3 })
	if took := time.Unix(0, last.Load()).Sub(start); took < 400*time.Millisecond {
		t.Errorf("three dials within %v", took)
	}
	if p := statusOf(a, 3); p.ID != 0 {
		t.Errorf("the removed member is a peer: %+v", p)
	}
	if !statusOf(b, 1).Outbound {
		t.Error("another member was refused")
	}
}

// tcpPeer is a mesh that dials one other.
func tcpPeer(t *testing.T, id uint64, other string) (*Mesh, string) {
	t.Helper()
	m, url := tcpMesh(t, id, func(c *MeshConfig) { c.limits = meshLimits{backoff: 10 * time.Millisecond} })
	m.SetPeers(map[uint64][]string{1: {other}})
	return m, url
}

// What is known of removed members may come after they connected.
func TestMesh_removedAfterConnecting(t *testing.T) {
	a, urlA := tcpMesh(t, 1, func(c *MeshConfig) { c.limits = meshLimits{grace: 50 * time.Millisecond} })
	b, _ := tcpPeer(t, 2, urlA)
	eventually(t, "connected", func() bool { return statusOf(b, 1).Outbound })
	a.KnowRemoved(func(id uint64) bool { return id == 2 })
	eventually(t, "told", func() bool { return errors.Is(statusOf(b, 1).LastError, ErrRemoved) })
}

// A member that leaves the peers keeps its connections for a grace, so that the
// last it has to know can arrive, and no longer.
func TestMesh_formerPeerHasAGrace(t *testing.T) {
	const grace = 400 * time.Millisecond
	a, urlA := tcpMesh(t, 1, func(c *MeshConfig) { c.limits = meshLimits{grace: grace} })
	b, urlB := tcpPeer(t, 2, urlA)
	a.SetPeers(map[uint64][]string{2: {urlB}})
	awaitBoth(t, a, 2)
	start := time.Now()
	a.SetPeers(nil)
	if err := call(t, a, 2, "you are removed", time.Second); err != nil {
		t.Errorf("the last message: %v", err)
	}
	eventually(t, "forgotten", func() bool { return len(a.Peers()) == 0 })
	if took := time.Since(start); took < grace || took > 5*grace {
		t.Errorf("forgotten after %v", took)
	}
	eventually(t, "new hellos are refused", func() bool { return errors.Is(statusOf(b, 1).LastError, ErrNotMember) })
	if len(a.Peers()) != 0 {
		t.Error("it is a peer again")
	}
	a.SetPeers(map[uint64][]string{2: {urlB}})
	awaitBoth(t, a, 2)
}

// A member that is named again within its grace keeps its connections.
func TestMesh_formerPeerIsNamedAgain(t *testing.T) {
	const grace = 50 * time.Millisecond
	a, urlA := tcpMesh(t, 1, func(c *MeshConfig) { c.limits = meshLimits{grace: grace} })
	_, urlB := tcpPeer(t, 2, urlA)
	_, urlC := tcpPeer(t, 3, urlA)
	both := map[uint64][]string{2: {urlB}, 3: {urlC}}
	a.SetPeers(both)
	awaitBoth(t, a, 2)
	awaitBoth(t, a, 3)
	in, _ := sessionsWith(a, 2)
	a.SetPeers(nil)
	a.SetPeers(map[uint64][]string{2: {urlB}})
	eventually(t, "the other's grace is over", func() bool { return statusOf(a, 3).ID == 0 })
	awaitBoth(t, a, 2)
	if now, _ := sessionsWith(a, 2); now != in {
		t.Error("its connection was closed")
	}
	a.SetPeers(nil)
	eventually(t, "it is forgotten the second time", func() bool { return len(a.Peers()) == 0 })
}

// A member may hear of another one only by being told by it, when it missed the
// change by which the other was added.
func TestMesh_unknownMemberIsHeard(t *testing.T) {
	a, urlA := tcpMesh(t, 1, nil)
	a.KnowRemoved(func(uint64) bool { return false })
	a.SetPeers(nil)
	b, _ := tcpPeer(t, 2, urlA)
	eventually(t, "connected", func() bool { return statusOf(b, 1).Outbound })
	if err := call(t, b, 1, "I lead", time.Second); err != nil {
		t.Error(err)
	}
	if err := call(t, a, 2, "good", time.Second); err != nil {
		t.Error(err)
	}
}

// Who is not in the member table yet, by what its certificate tells, is let in as
// soon as it is.
func TestMesh_notYetAMember(t *testing.T) {
	ca := newTestCA(t)
	var added atomic.Bool
	_, url := tcpMesh(t, 2, func(c *MeshConfig) {
		ca.secured(t, 2, time.Hour)(c)
		c.Refusal = func(tls.ConnectionState) error {
			if !added.Load() {
				return fmt.Errorf("add it first: %w", ErrNotMember)
			}
			return nil
		}
	})
	a, _ := tcpMesh(t, 1, ca.secured(t, 1, time.Hour))
	a.SetPeers(map[uint64][]string{2: {https(url)}})
	eventually(t, "refused", func() bool { return errors.Is(statusOf(a, 2).LastError, ErrNotMember) })
	var refused *RefusedError
	if errors.As(statusOf(a, 2).LastError, &refused); !refused.passing() {
		t.Error("the refusal seems to be for ever")
	}
	added.Store(true)
	start := time.Now()
	eventually(t, "let in", func() bool { return statusOf(a, 2).Outbound })
	if took := time.Since(start); took > 2*maxBackoff {
		t.Errorf("let in after %v", took)
	}
}

func TestMesh_formerPeersAreBounded(t *testing.T) {
	a, _ := tcpMesh(t, 1, nil)
	for id := range uint64(3 * maxFormer) {
		a.SetPeers(map[uint64][]string{id + 2: {"http://127.0.0.1:1"}})
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.left) > maxFormer {
		t.Errorf("%d are remembered", len(a.left))
	}
}
