package raftstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// traffic is calls in both directions, some answered late, that go on until
// stop; it returns what was not answered.
func traffic(t *testing.T, a, b *Mesh) (stop func() (answered int, failures []error)) {
	t.Helper()
	for _, m := range []*Mesh{a, b} {
		m.Handle(kindLate, func(ctx context.Context, _ uint64, payload []byte) ([]byte, error) {
			sleepContext(ctx, time.Duration(payload[0])*time.Millisecond)
			return payload, nil
		})
	}
	done := make(chan struct{})
	var calls sync.WaitGroup
	var mu sync.Mutex
	var answered int
	var failures []error
	for worker := range 8 {
		from, to := a, b.cfg.Self
		if worker%2 == 1 {
			from, to = b, a.cfg.Self
		}
		calls.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				payload := make([]byte, 1+(i%4)*20<<10)
				payload[0] = byte(i % 60)
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				_, err := from.Call(ctx, to, kindLate, payload)
				cancel()
				mu.Lock()
				if err != nil {
					failures = append(failures, fmt.Errorf("worker %d, call %d: %w", worker, i, err))
					mu.Unlock()
					return
				}
				answered++
				mu.Unlock()
			}
		})
	}
	return func() (int, []error) {
		close(done)
		calls.Wait()
		return answered, failures
	}
}

const kindLate Kind = 78

// rotating gives a mesh a new certificate of that life whenever half of it is
// over.
func (ca *testCA) rotating(t *testing.T, id uint64, life time.Duration) func(*MeshConfig) {
	var mu sync.Mutex
	var cert tls.Certificate
	var made time.Time
	current := func() tls.Certificate {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(made) > life/2 {
			cert, made = ca.member(t, id, life), time.Now()
		}
		return cert
	}
	return func(c *MeshConfig) {
		c.ServerTLS = func() *tls.Config {
			return &tls.Config{Certificates: []tls.Certificate{current()}, ClientCAs: ca.pool, ClientAuth: tls.RequireAndVerifyClientCert}
		}
		c.ClientTLS = func(uint64) *tls.Config {
			return &tls.Config{Certificates: []tls.Certificate{current()}, RootCAs: ca.pool}
		}
		c.PeerID = memberOf
		c.limits = meshLimits{ping: 20 * time.Millisecond}
	}
}

// Connections end with the certificates and are replaced before: no call fails.
// Member 1's are renewed too, because 2 ends them when 1's certificate ends.
func TestMesh_renewsBeforeCertificatesEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("short tests run under the race detector, too slow for certificates that end after seconds")
	}
	for name, lives := range map[string][2]time.Duration{
		"the answering side's": {time.Hour, 6 * time.Second},
		"the dialling side's":  {6 * time.Second, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			still := watchStillness(t)
			ca := newTestCA(t)
			a, _ := tcpMesh(t, 1, ca.rotating(t, 1, lives[0]))
			b, urlB := tcpMesh(t, 2, ca.rotating(t, 2, lives[1]))
			a.SetPeers(map[uint64][]string{2: {https(urlB)}})
			eventually(t, "connected", func() bool { return statusOf(a, 2).Outbound && statusOf(b, 1).Inbound })
			since := statusOf(a, 2).Since
			stop := traffic(t, a, b)
			before := outboundTo(a, 2)
			var failures []error
			for i := range 3 {
				eventually(t, "the next connection", func() bool {
					now := outboundTo(a, 2)
					return now != nil && now != before
				})
				eventually(t, "the former one was handed over", func() bool { return before.endCause() != nil })
				if cause := before.endCause(); !errors.Is(cause, errRetired) {
					failures = append(failures, fmt.Errorf("connection %d ended: %w", i, cause))
				}
				eventually(t, "it is connected", func() bool {
					before = outboundTo(a, 2)
					return before != nil
				})
			}
			n, unanswered := stop()
			if n < 100 {
				failures = append(failures, fmt.Errorf("only %d calls", n))
			}
			if p := statusOf(a, 2); !p.Since.Equal(since) {
				failures = append(failures, fmt.Errorf("connected since %v, first %v", p.Since, since))
			}
			if failures = append(failures, unanswered...); len(failures) > 0 {
				still.excuses(t, 500*time.Millisecond)
				t.Error(errors.Join(failures...))
			}
		})
	}
}

// Without a new certificate the connection ends with the old one.
func TestMesh_connectionEndsWithItsCertificate(t *testing.T) {
	ca := newTestCA(t)
	quick := func(c *MeshConfig) { c.limits = meshLimits{ping: 20 * time.Millisecond} }
	a, _ := tcpMesh(t, 1, func(c *MeshConfig) { ca.secured(t, 1, time.Hour)(c); quick(c) })
	_, url := tcpMesh(t, 2, ca.secured(t, 2, 3*time.Second))
	a.SetPeers(map[uint64][]string{2: {https(url)}})
	eventually(t, "connected", func() bool { return statusOf(a, 2).Outbound })
	last := outboundTo(a, 2)
	eventually(t, "ended at the certificate's end", func() bool {
		if s := outboundTo(a, 2); s != nil {
			last = s
		}
		return !statusOf(a, 2).Outbound
	})
	if cause := last.endCause(); !errors.Is(cause, errExpired) {
		t.Errorf("ended for %v", cause)
	}
}

func TestRenewal_times(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		expires, ends, want time.Duration // from now; 0 for never
	}{
		{0, 0, 0},
		{time.Hour, 0, 59 * time.Minute},
		{0, time.Hour, 59 * time.Minute},
		{time.Hour, 2 * time.Hour, 59 * time.Minute},
		{2 * time.Hour, time.Hour, 59 * time.Minute},
		{4 * time.Second, 0, 3 * time.Second},
		{900 * time.Millisecond, 0, 0},
		{-time.Second, 0, 0},
	} {
		var h handshake
		if c.expires != 0 {
			h.expires = now.Add(c.expires)
		}
		if c.ends != 0 {
			h.ends = now.Add(c.ends)
		}
		var want time.Time
		if c.want != 0 {
			want = now.Add(c.want)
		}
		if got := renewal(now, h, time.Minute); !got.Equal(want) {
			t.Errorf("%+v: in %v", c, got.Sub(now))
		}
	}
}

// What was on a connection that broke during the handover is not waited for.
func TestSession_brokenHandoverFailsWhatWaits(t *testing.T) {
	var dials atomic.Int32
	a, urlA := tcpMesh(t, 1, func(c *MeshConfig) {
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if dials.Add(1) > 1 {
				return nil, errors.New("no other connection may end the wait")
			}
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}
	})
	b, urlB := tcpMesh(t, 2, nil)
	a.SetPeers(map[uint64][]string{2: {urlB}})
	b.SetPeers(map[uint64][]string{1: {urlA}})
	awaitBoth(t, a, 2)
	release := make(chan struct{})
	defer close(release)
	b.Handle(1, func(context.Context, uint64, []byte) ([]byte, error) {
		<-release
		return nil, nil
	})
	failed := make(chan error, 1)
	go func() {
		_, err := a.Call(context.Background(), 2, 1, nil)
		failed <- err
	}()
	eventually(t, "the call is handled", func() bool { return b.known(1).handling.Load() == 1 })
	r := a.known(2)
	r.mu.Lock()
	old := r.out
	r.out = nil // replaced; its place does not matter here
	r.mu.Unlock()
	if !old.retire() {
		t.Fatal("closed already")
	}
	old.raw.Close()
	select {
	case err := <-failed:
		if !errors.Is(err, ErrConnectionLost) {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("it waits on")
	}
}

// A peer's new URLs are dialled while the connection to the old ones works, and
// take over without a failed call.
func TestMesh_peersChange(t *testing.T) {
	a, b := tcpPair(t)
	changed := a.Changed()
	first := outboundTo(a, 2)
	stop := traffic(t, a, b)
	_, elsewhere := tcpMesh(t, 3, nil)
	a.SetPeers(map[uint64][]string{2: {elsewhere}})
	eventually(t, "the new address is dialled, and is another member", func() bool {
		err := statusOf(a, 2).LastError
		return err != nil && errors.Is(err, ErrRefused)
	})
	eventually(t, "the change is announced", func() bool {
		select {
		case <-changed:
			return true
		default:
			return false
		}
	})
	if p := statusOf(a, 2); !p.Outbound || outboundTo(a, 2) != first {
		t.Errorf("the connection that works was given up: %+v", p)
	}
	moved, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.Serve(moved)
	url := "http://" + moved.Addr().String()
	a.SetPeers(map[uint64][]string{2: {url}})
	eventually(t, "connected to the new address", func() bool {
		s := outboundTo(a, 2)
		return s != nil && s.target == url
	})
	eventually(t, "the former connection ended", func() bool { return first.endCause() != nil })
	if cause := first.endCause(); !errors.Is(cause, errRetired) {
		t.Errorf("it ended for %v", cause)
	}
	if n, failures := stop(); n == 0 || len(failures) > 0 {
		t.Errorf("%d calls, %v", n, failures)
	}
	if p := statusOf(a, 2); p.LastError != nil {
		t.Errorf("connected both ways, and %v", p.LastError)
	}
}

// A member that comes back under an address nobody knows yet is reached through
// the connections that it dials itself.
func TestMesh_comesBackElsewhere(t *testing.T) {
	a, b := tcpPair(t)
	urlA := statusOf(b, 1).URLs[0]
	b.Close()
	eventually(t, "gone", func() bool { p := statusOf(a, 2); return !p.Inbound && !p.Outbound })
	back, _ := tcpMesh(t, 2, nil) // another port
	back.SetPeers(map[uint64][]string{1: {urlA}})
	eventually(t, "it is back", func() bool { return statusOf(back, 1).Outbound })
	if err := call(t, a, 2, "over its own connection", time.Second); err != nil {
		t.Error(err)
	}
	if err := call(t, back, 1, "and the answer too", time.Second); err != nil {
		t.Error(err)
	}
}

// A host name is resolved at each try, by whoever dials: it is never replaced by
// an address it had.
func TestMesh_resolvesAtEachTry(t *testing.T) {
	b, urlB := tcpMesh(t, 2, nil)
	_, port, err := net.SplitHostPort(urlB[len("http://"):])
	if err != nil {
		t.Fatal(err)
	}
	var tries atomic.Int32
	a, _ := tcpMesh(t, 1, func(c *MeshConfig) {
		c.limits = meshLimits{backoff: time.Millisecond}
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr != "b.example.com:"+port {
				return nil, fmt.Errorf("dialled %s", addr)
			}
			ip := "127.0.0.1:1" // stale until the third look-up
			if tries.Add(1) >= 3 {
				ip = net.JoinHostPort("127.0.0.1", port)
			}
			return (&net.Dialer{}).DialContext(ctx, network, ip)
		}
	})
	a.SetPeers(map[uint64][]string{2: {"http://b.example.com:" + port}})
	eventually(t, "connected", func() bool { return statusOf(a, 2).Outbound })
	in, _ := sessionsWith(b, 1)
	in.close(errors.New("test"))
	eventually(t, "connected again", func() bool { return statusOf(a, 2).Outbound && tries.Load() >= 4 })
}
