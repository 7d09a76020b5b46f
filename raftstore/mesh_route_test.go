package raftstore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// proxy stands in front of a member's advertised address.
type proxy struct {
	ln     net.Listener
	target string

	mu    sync.Mutex
	black bool
	conns []net.Conn
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ln: ln, target: target}
	t.Cleanup(func() {
		ln.Close()
		p.drop()
	})
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			go p.copy(in, out)
			go p.copy(out, in)
		}
	}()
	return p
}

func (p *proxy) url() string { return "http://" + p.ln.Addr().String() }

func (p *proxy) copy(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		black := p.black
		p.mu.Unlock()
		if black {
			continue // lost, as in a black hole; the peer hears no end either
		}
		if err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) blackhole(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.black = on
}

// drop ends all connections.
func (p *proxy) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.black = false
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// proxiedPair is members 1 and 2 of which 1 dials 2 through a proxy.
func proxiedPair(t *testing.T, limits meshLimits) (a, b *Mesh, p *proxy) {
	t.Helper()
	shorten := func(c *MeshConfig) { c.limits = limits }
	a, urlA := tcpMesh(t, 1, shorten)
	b, urlB := tcpMesh(t, 2, shorten)
	p = newProxy(t, urlB[len("http://"):])
	a.SetPeers(map[uint64][]string{2: {p.url()}})
	b.SetPeers(map[uint64][]string{1: {urlA}})
	awaitBoth(t, a, 2)
	awaitBoth(t, b, 1)
	return a, b, p
}

// Nobody reaches member 2's address, while its own dials work: it must be cut
// off in both directions until the dead connection is noticed, and be back
// after that, because its own connection carries everything then.
func TestMesh_blackholedAddressCutsOff(t *testing.T) {
	a, b, p := proxiedPair(t, meshLimits{silence: 2 * time.Second, ping: 100 * time.Millisecond, handshake: 300 * time.Millisecond})
	var heard [3]atomic.Int32
	for _, m := range []*Mesh{a, b} {
		m.Handle(kindEcho, func(_ context.Context, _ uint64, payload []byte) ([]byte, error) {
			heard[m.cfg.Self].Add(1)
			return payload, nil
		})
	}
	p.blackhole(true)
	start := time.Now()
	if err := call(t, b, 1, "request goes into the hole", 300*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("2 asks 1: %v", err)
	}
	if err := call(t, a, 2, "answer goes into the hole", 300*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("1 asks 2: %v", err)
	}
	// To 1 everything travels on the connection 1 dialled, and to 2 on 2's.
	if heard[1].Load() != 0 || heard[2].Load() != 1 {
		t.Errorf("1 heard %d requests, 2 heard %d", heard[1].Load(), heard[2].Load())
	}
	eventually(t, "both give the connection up", func() bool {
		return !statusOf(a, 2).Outbound && !statusOf(b, 1).Inbound
	})
	if took := time.Since(start); took < time.Second {
		t.Errorf("given up after %v, before the silence limit", took)
	}
	for _, m := range []*Mesh{a, b} {
		peer := 3 - m.cfg.Self
		// On a machine that stood still that one was given up too, and comes back.
		eventually(t, "an answer with one connection left", func() bool {
			return call(t, m, peer, "by the other connection", patience) == nil
		})
	}
	p.drop()
	awaitBoth(t, a, 2)
}

// Since counts from when the first connection came up, whichever it was, until
// the last one ended.
func TestMesh_connectedSince(t *testing.T) {
	a, urlA := tcpMesh(t, 1, nil)
	a.SetPeers(map[uint64][]string{3: {"http://127.0.0.1:1"}})
	eventually(t, "the dial failed", func() bool { return statusOf(a, 3).LastError != nil })
	if p := statusOf(a, 3); !p.Since.IsZero() {
		t.Errorf("never connected, and since %v", p.Since)
	}
	before := time.Now()
	first := stuckPeer(t, urlA, 3)
	eventually(t, "connected", func() bool { return statusOf(a, 3).Inbound })
	since := statusOf(a, 3).Since
	if since.Before(before) || since.After(time.Now()) {
		t.Errorf("since %v, connected after %v", since, before)
	}
	second := stuckPeer(t, urlA, 3)
	eventually(t, "the second replaced the first", func() bool {
		_, err := first.Read(make([]byte, 1<<10))
		return errors.Is(err, io.EOF)
	})
	if p := statusOf(a, 3); !p.Since.Equal(since) {
		t.Errorf("since %v with another connection, want %v", p.Since, since)
	}
	second.Close()
	eventually(t, "gone", func() bool { return !statusOf(a, 3).Inbound })
	if p := statusOf(a, 3); !p.Since.IsZero() {
		t.Errorf("not connected, and since %v", p.Since)
	}
}

func TestMesh_silenceIsFiveSeconds(t *testing.T) {
	for election, want := range map[time.Duration]time.Duration{
		time.Second: 5 * time.Second, 50 * time.Second: 50 * time.Second,
	} {
		if got := (meshLimits{}).withDefaults(election).silence; got != want {
			t.Errorf("election timeout %v: silent for %v, want %v", election, got, want)
		}
	}
}

// What was asked while our connection was gone may have been answered on it.
func TestRemote_newConnectionFailsWhatWaits(t *testing.T) {
	m := NewMesh(MeshConfig{Self: 1, ElectionTimeout: time.Second, Log: zerolog.Nop()})
	defer m.Close()
	r := newRemote(m, 2)
	waiting := &pendingCall{answer: make(chan callAnswer, 1), call: true}
	if err := r.expect(1, waiting); err != nil {
		t.Fatal(err)
	}
	if _, err := r.attach(&session{instance: "i"}); err != nil {
		t.Fatal(err)
	}
	select {
	case a := <-waiting.answer:
		if !errors.Is(a.err, ErrConnectionLost) {
			t.Fatalf("answered with %v", a.err)
		}
	default:
		t.Fatal("it waits on, for an answer that may be lost")
	}
}

func TestMesh_callsDuringReconnects(t *testing.T) {
	a, b, p := proxiedPair(t, meshLimits{backoff: time.Millisecond})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var calls sync.WaitGroup
	drops := make(chan struct{})
	answered := make(chan int, 8)
	for worker := range 8 {
		calls.Go(func() {
			from, to := a, uint64(2)
			if worker%2 == 1 {
				from, to = b, 1
			}
			n := 0
			for i := 0; ctx.Err() == nil; i++ {
				select {
				case <-drops:
					answered <- n
					return
				default:
				}
				text := fmt.Sprintf("%d-%d", worker, i)
				answer, err := from.Call(ctx, to, kindEcho, []byte(text))
				switch {
				case err == nil && string(answer) == text:
					n++
				case err == nil:
					t.Errorf("%q was answered with %q", text, answer)
				case !errors.Is(err, ErrConnectionLost) && !errors.Is(err, ErrUnreachable):
					t.Error(err)
				}
			}
		})
	}
	for range 20 {
		before := outboundTo(a, 2)
		p.drop()
		eventually(t, "reconnected", func() bool {
			now := outboundTo(a, 2)
			return now != nil && now != before
		})
	}
	close(drops)
	calls.Wait()
	if ctx.Err() != nil {
		t.Fatal("a call hung")
	}
	for range 8 {
		if <-answered == 0 {
			t.Error("a worker was never answered")
		}
	}
}

func outboundTo(m *Mesh, peer uint64) *session {
	r := m.known(peer)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out
}

// stuckPeer says hello as member id and then neither reads nor writes, as a
// stopped process does.
func stuckPeer(t *testing.T, url string, id uint64) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", url[len("http://"):])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := writeHello(conn, &conclavepb.PeerHello{Protocol: peerProtocol, ClusterId: 0xc1, From: id, To: 1, Instance: "stuck"}); err != nil {
		t.Fatal(err)
	}
	var reply conclavepb.PeerHelloReply
	if err := readHello(bufio.NewReader(conn), &reply); err != nil || reply.Refusal != nil {
		t.Fatal(err, reply.Refusal)
	}
	return conn
}

func TestMesh_stuckPeerHoldsUpNobody(t *testing.T) {
	shorten := func(c *MeshConfig) { c.limits = meshLimits{silence: 5 * time.Second, write: 5 * time.Second} }
	a, urlA := tcpMesh(t, 1, shorten)
	b, urlB := tcpMesh(t, 2, nil)
	a.SetPeers(map[uint64][]string{2: {urlB}})
	b.SetPeers(map[uint64][]string{1: {urlA}})
	awaitBoth(t, a, 2)
	stuckPeer(t, urlA, 3)
	eventually(t, "the stuck member is connected", func() bool { return statusOf(a, 3).Inbound })

	large := make([]byte, 8<<20)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var stuck sync.WaitGroup
	still := watchStillness(t)
	start := time.Now()
	for range 8 { // more than queue and socket buffers hold
		stuck.Go(func() {
			_, err := a.Call(ctx, 3, kindEcho, large)
			ended := errors.Is(ctx.Err(), context.Canceled) // the test has, early
			if !errors.Is(err, ErrConnectionLost) && !errors.Is(err, ErrUnreachable) && !ended {
				t.Errorf("call to the stuck member: %v", err)
			}
		})
	}
	for range 50 {
		before := time.Now()
		if err := call(t, a, 2, "quick", patience); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(before); took > 3*time.Second {
			still.excuses(t, 200*time.Millisecond)
			t.Fatalf("a call to another member took %v", took)
		}
	}
	stuck.Wait()
	if took := time.Since(start); took > 12*time.Second {
		still.excuses(t, 200*time.Millisecond)
		t.Errorf("the stuck member held its callers for %v", took)
	}
}

func TestMesh_newerConnectionReplaces(t *testing.T) {
	a, urlA := tcpMesh(t, 1, nil)
	first := stuckPeer(t, urlA, 3)
	stuckPeer(t, urlA, 3)
	first.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, first); err != nil {
		t.Fatalf("the older connection was not closed: %v", err)
	}
	if !statusOf(a, 3).Inbound {
		t.Fatal("the newer connection is not in use")
	}
}
