package raftstore

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// tcpEnds is a connection on loopback; ours is a directConn.
func tcpEnds(t *testing.T) (ours *directConn, theirs net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	if theirs, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	return newDirectConn(raw).(*directConn), theirs
}

// fill writes in a hurry until the socket takes no more, and returns all that
// was given to it.
func fill(t *testing.T, conn io.Writer, d *directConn) []byte {
	t.Helper()
	var given []byte
	d.hurry(true)
	defer d.hurry(false)
	for i := 0; !d.pending(); i++ {
		piece := bytes.Repeat([]byte{byte(i)}, 10000)
		start := time.Now()
		if n, err := conn.Write(piece); err != nil || n != len(piece) {
			t.Fatal(n, err)
		}
		if took := time.Since(start); took > time.Second {
			t.Fatalf("a hurried write took %v", took)
		}
		given = append(given, piece...)
	}
	return given
}

// A write in a hurry never waits, and what the socket did not take arrives after
// it and before what follows.
func TestDirectConn_keepsTheRestInOrder(t *testing.T) {
	ours, theirs := tcpEnds(t)
	given := fill(t, ours, ours)
	after := []byte("after")
	var writer sync.WaitGroup
	writer.Go(func() {
		if err := ours.finish(); err != nil {
			t.Error(err)
		}
		if _, err := ours.Write(after); err != nil {
			t.Error(err)
		}
		ours.Close()
	})
	got, err := io.ReadAll(theirs)
	writer.Wait()
	if err != nil || !bytes.Equal(got, append(given, after...)) {
		t.Errorf("%d of %d bytes arrived as they were given (%v)", len(got), len(given)+len(after), err)
	}
	if ours.pending() {
		t.Error("a rest is left")
	}
}

func TestDirectConn_belowTLS(t *testing.T) {
	ca := newTestCA(t)
	ours, theirs := tcpEnds(t)
	cert := ca.member(t, 1, time.Hour)
	server := tls.Server(ours, &tls.Config{Certificates: []tls.Certificate{cert}})
	client := tls.Client(theirs, &tls.Config{RootCAs: ca.pool, ServerName: "127.0.0.1"})
	var shake sync.WaitGroup
	shake.Go(func() {
		if err := client.Handshake(); err != nil {
			t.Error(err)
		}
	})
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	shake.Wait()
	given := fill(t, server, ours)
	var writer sync.WaitGroup
	writer.Go(func() {
		if _, err := server.Write([]byte("after")); err != nil {
			t.Error(err)
		}
		server.Close()
	})
	got, err := io.ReadAll(client)
	writer.Wait()
	if err != nil || !bytes.Equal(got, append(given, "after"...)) {
		t.Errorf("%d of %d bytes arrived as they were given (%v)", len(got), len(given)+5, err)
	}
}

func TestDirectConn_errors(t *testing.T) {
	ours, theirs := tcpEnds(t)
	theirs.(*net.TCPConn).SetLinger(0)
	theirs.Close()
	ours.hurry(true)
	eventually(t, "a write says that the connection is gone", func() bool {
		_, err := ours.Write([]byte("x"))
		return err != nil
	})
}

// Whoever queues a frame for a peer that takes nothing is not held up, and the
// frames arrive in order once it takes them.
func TestSession_directWritesKeepOrder(t *testing.T) {
	ours, theirs := tcpEnds(t)
	m := NewMesh(MeshConfig{Self: 1, ElectionTimeout: time.Second, Log: zerolog.Nop(), limits: meshLimits{ping: time.Hour}})
	defer m.Close()
	s := newSession(m, ours, ours, nil)
	s.peer, s.inbound = newRemote(m, 2), true
	s.br = newFrameReader(s.conn)
	const frames = 3000
	payload := bytes.Repeat([]byte{7}, 4000)
	push := func(id uint64) {
		f := newOutFrame(frameOneWay, id, kindEcho, 0, len(payload))
		f.b = append(f.b, payload...)
		if err := f.seal(); err != nil {
			t.Fatal(err)
		}
		if queued, _ := s.push(laneBulk, f); !queued {
			t.Fatalf("no room for frame %d", id)
		}
	}
	push(0) // before the session runs: it must not pass the hello's answer
	if _, err := ours.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	m.wg.Go(s.run)
	start := time.Now()
	for id := uint64(1); id < frames; id++ {
		push(id)
		if id < 300 {
			time.Sleep(2 * directPause) // at rest, so that it is written directly
		}
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("queueing took %v", took)
	}
	theirs.SetReadDeadline(time.Now().Add(10 * time.Second))
	hello := make([]byte, 5)
	if _, err := io.ReadFull(theirs, hello); err != nil || string(hello) != "hello" {
		t.Fatalf("%q came first (%v)", hello, err)
	}
	r := newFrameReader(theirs)
	for id := uint64(0); id < frames; id++ {
		f, err := readFrame(r)
		if err != nil || f.id != id || !bytes.Equal(f.payload, payload) {
			t.Fatalf("frame %d: %d, %v", id, f.id, err)
		}
	}
}

// A write deadline that passed while nothing was written ends nothing.
func TestSession_directWriteAfterALongRest(t *testing.T) {
	short := func(c *MeshConfig) {
		c.limits = meshLimits{write: 100 * time.Millisecond, ping: time.Hour, silence: time.Hour}
	}
	a, urlA := tcpMesh(t, 1, short)
	b, urlB := tcpMesh(t, 2, short)
	a.SetPeers(map[uint64][]string{2: {urlB}})
	b.SetPeers(map[uint64][]string{1: {urlA}})
	awaitBoth(t, a, 2)
	in, out := sessionsWith(a, 2)
	for range 3 {
		if err := call(t, a, 2, string(make([]byte, 1<<20)), 5*time.Second); err != nil { // with a deadline
			t.Fatal(err)
		}
		time.Sleep(150 * time.Millisecond) // the deadline passes
		if err := call(t, a, 2, "small", 5*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []*session{in, out} {
		if cause := s.endCause(); cause != nil && !errors.Is(cause, errRetired) {
			t.Errorf("ended for %v", cause)
		}
	}
}
