package raftstore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

func TestMesh_otherClusterIsNamed(t *testing.T) {
	a, urlA := tcpMesh(t, 1, func(c *MeshConfig) { c.ClusterID, c.Plan = 0xaaa, "srv example.com" })
	b, urlB := tcpMesh(t, 2, func(c *MeshConfig) { c.ClusterID, c.Plan = 0xbbb, "static list" })
	a.SetPeers(map[uint64][]string{2: {urlB}})
	eventually(t, "the dial is refused", func() bool { return statusOf(a, 2).LastError != nil })
	want := "the address of member 2 leads to cluster bbb (static list); this is member 1 of cluster aaa (srv example.com)"
	err := statusOf(a, 2).LastError
	if !errors.Is(err, ErrOtherCluster) || !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), want) {
		t.Errorf("the dialling side says %v", err)
	}
	if err := call(t, a, 2, "x", time.Second); !errors.Is(err, ErrOtherCluster) || !errors.Is(err, ErrUnreachable) {
		t.Errorf("a call says %v", err)
	}
	b.SetPeers(map[uint64][]string{1: {urlA}})
	eventually(t, "the other side refuses too", func() bool { return errors.Is(statusOf(b, 1).LastError, ErrOtherCluster) })
	if statusOf(a, 2).Inbound || statusOf(b, 1).Inbound {
		t.Error("connected all the same")
	}
}

func TestMesh_duplicateIdentity(t *testing.T) {
	const text = "member 2 started with another data directory"
	admit := func(h Hello) error {
		if h.From == 2 && h.Instance != "instance-2" {
			return errors.New(text)
		}
		return nil
	}
	a, urlA := tcpMesh(t, 1, func(c *MeshConfig) { c.Admit = admit })
	b, urlB := tcpMesh(t, 2, nil)
	a.SetPeers(map[uint64][]string{2: {urlB}})
	b.SetPeers(map[uint64][]string{1: {urlA}})
	awaitBoth(t, a, 2)
	twin, urlTwin := tcpMesh(t, 2, func(c *MeshConfig) { c.Instance = "wiped" })
	twin.SetPeers(map[uint64][]string{1: {urlA}})
	eventually(t, "the twin is refused", func() bool { return statusOf(twin, 1).LastError != nil })
	var refused *RefusedError
	if err := statusOf(twin, 1).LastError; !errors.As(err, &refused) || !refused.ByPeer || !strings.Contains(err.Error(), text) {
		t.Errorf("the twin is told %v", err)
	}
	b.Close()
	a.SetPeers(map[uint64][]string{2: {urlTwin}})
	eventually(t, "dialling the twin is refused", func() bool {
		err := statusOf(a, 2).LastError
		return err != nil && strings.Contains(err.Error(), "refused: "+text)
	})
}

// hello sends one to a mesh and returns the answer.
func sendHello(t *testing.T, url string, hello *conclavepb.PeerHello) *conclavepb.PeerHelloReply {
	t.Helper()
	conn, err := net.Dial("tcp", url[len("http://"):])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := writeHello(conn, hello); err != nil {
		t.Fatal(err)
	}
	reply := &conclavepb.PeerHelloReply{}
	if err := readHello(bufio.NewReader(conn), reply); err != nil {
		t.Fatal(err)
	}
	return reply
}

func TestMesh_refusalCodes(t *testing.T) {
	_, url := tcpMesh(t, 1, nil)
	for _, c := range []struct {
		hello *conclavepb.PeerHello
		code  conclavepb.PeerRefusal_Code
		text  string
	}{
		{&conclavepb.PeerHello{Protocol: 9, ClusterId: 0xc1, From: 2, To: 1}, conclavepb.PeerRefusal_PROTOCOL, "peer protocol 9 is not spoken here"},
		{&conclavepb.PeerHello{Protocol: 1, ClusterId: 7, From: 2, To: 1, Plan: "a\x1b[2Jb"}, conclavepb.PeerRefusal_OTHER_CLUSTER, "member 2 belongs to cluster 7 (a?[2Jb)"},
		{&conclavepb.PeerHello{Protocol: 1, ClusterId: 0xc1, From: 2, To: 5}, conclavepb.PeerRefusal_OTHER_MEMBER, "this is member 1, not 5"},
		{&conclavepb.PeerHello{Protocol: 1, ClusterId: 0xc1, From: 1, To: 1}, conclavepb.PeerRefusal_DUPLICATE, "own id"},
	} {
		reply := sendHello(t, url, c.hello)
		if reply.Refusal.GetCode() != c.code || !strings.Contains(reply.Refusal.GetText(), c.text) || reply.ClusterId != 0xc1 {
			t.Errorf("%v: %v", c.hello, reply)
		}
	}
}

// What a stranger sends must end its connection and leave no memory behind.
func TestMesh_garbageOnThePort(t *testing.T) {
	a, url := tcpMesh(t, 1, func(c *MeshConfig) { c.limits = meshLimits{handshake: time.Second} })
	rng := rand.New(rand.NewSource(1))
	noise := make([]byte, 4096)
	rng.Read(noise)
	openings := [][]byte{
		noise,
		append([]byte(peerMagic), 0xff, 0xff),
		append(append([]byte(peerMagic), 0, 200), noise[:200]...),
		{0x16, 3, 1, 2, 0, 1}, // the beginning of TLS
		[]byte("GET / HTTP/1.1\r\n\r\n"),
		{},
	}
	for i, opening := range openings {
		conn, err := net.Dial("tcp", url[len("http://"):])
		if err != nil {
			t.Fatal(err)
		}
		conn.Write(opening)
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.Copy(io.Discard, conn); err != nil && errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("opening %d: still open: %v", i, err)
		}
		conn.Close()
	}
	if len(a.Peers()) != 0 {
		t.Errorf("garbage made a peer: %v", a.Peers())
	}
}

func TestMesh_garbageFromPeer(t *testing.T) {
	a, url := tcpMesh(t, 1, nil)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	announced := []byte{3, 0xff, 0xff, 0xff, byte(frameRequest)} // almost 64 MiB to come
	var conns []net.Conn
	for id := range uint64(16) {
		conn := stuckPeer(t, url, 100+id)
		if _, err := conn.Write(announced); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	eventually(t, "all announcements are read", func() bool {
		n := 0
		for _, p := range a.Peers() {
			if p.Inbound && a.known(p.ID).in.conn.heard.Load() > 0 {
				n++
			}
		}
		return n == 16
	})
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 64<<20 {
		t.Errorf("16 announcements of 64 MiB took %d MiB", grown>>20)
	}
	if _, err := conns[0].Write(make([]byte, 1<<10)); err != nil {
		t.Fatal(err)
	}
	bad := newOutFrame(frameRequest, 1, kindEcho, 0, 4)
	bad.b = append(bad.b, "text"...)
	if err := bad.seal(); err != nil {
		t.Fatal(err)
	}
	bad.b[len(bad.b)-6] ^= 1
	conn := stuckPeer(t, url, 200)
	if _, err := conn.Write(bad.b); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a wrong checksum ends the session", func() bool {
		err := statusOf(a, 200).LastError
		return err != nil && errors.Is(err, errBadFrame)
	})
}

func TestComplaints_oncePerMinuteAndBounded(t *testing.T) {
	var c complaints
	now := time.Now()
	if !c.due("a", now) || c.due("a", now.Add(59*time.Second)) || !c.due("a", now.Add(61*time.Second)) {
		t.Error("not once a minute")
	}
	for i := range 10 * maxComplaints {
		c.due(fmt.Sprint(i), now)
	}
	if len(c.last) > maxComplaints {
		t.Errorf("%d remembered", len(c.last))
	}
}

func TestMesh_callersAreBounded(t *testing.T) {
	a, url := tcpMesh(t, 1, nil)
	a.SetPeers(map[uint64][]string{2: {"http://127.0.0.1:1"}})
	for id := range uint64(maxRemotes + 50) {
		reply := sendHello(t, url, &conclavepb.PeerHello{Protocol: 1, ClusterId: 0xc1, From: 100 + id, To: 1, Instance: "x"})
		if reply.Refusal != nil && !strings.Contains(reply.Refusal.Text, "too many members") {
			t.Fatal(reply.Refusal)
		}
	}
	if n := len(a.Peers()); n > maxRemotes {
		t.Errorf("%d members are remembered", n)
	}
	if statusOf(a, 2).ID != 2 {
		t.Error("a peer was forgotten")
	}
}
