package pki

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/pki/ledger"
)

func TestRenewer_writesNothingBeforeFormation(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "data")
	r := w.start(1, dir)
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("data directory was made: %v", err)
	}
	// A follower waits for the leader.
	w.log.leader = 2
	if _, err := r.step(context.Background(), w.seat(1), w.seat(1).Ledger()); err != nil {
		t.Fatal(err)
	}
	if _, ok := w.seat(1).Ledger().Generation(); ok || w.log.proposals != 0 {
		t.Fatal("a follower created the CAs")
	}
}

func TestRenewer_formation(t *testing.T) {
	w := newWorld(t)
	members, dirs := w.formed(3)
	g, ok := w.seat(1).Ledger().Generation()
	if !ok || g.GetTrustDomain() != w.secret.trustDomain {
		t.Fatalf("generation %v", g)
	}
	roots, err := parseGeneration(g)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range members {
		ring := r.ring.Load()
		strict(t, "sslserver", roots.peer, ring.peer.leaf())
		strict(t, "sslclient", roots.peer, ring.peer.leaf())
		strict(t, "sslserver", roots.clientCA, ring.server.leaf())
		if m, ok := w.seat(1).Ledger().Certified(r.o.Member); !ok || !bytes.Equal(m.GetSerial(), ring.peer.leaf().SerialNumber.Bytes()) {
			t.Fatalf("member %d in the ledger: %v", i+1, m)
		}
		for _, host := range []string{"n.example.com", "localhost", "127.0.0.1", "::1"} {
			if err := ring.server.leaf().VerifyHostname(host); err != nil {
				t.Error(err)
			}
		}
		peer, server := r.Expiry()
		if want := start.Add(MemberLifetime); !peer.Equal(want) || !server.Equal(want) {
			t.Errorf("ends %v and %v, want %v", peer, server, want)
		}
		modes(t, dirs[i])
	}
	if n := len(w.seat(1).Ledger().Issued()); n != 6 {
		t.Fatalf("%d certificates in the inventory, want 6", n)
	}
}

// modes checks that a mirror is private.
func modes(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, mirrorDir), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if err == nil && info.Mode().Perm() != want {
			t.Errorf("%s has mode %04o, want %04o", path, info.Mode().Perm(), want)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRenewer_firstGenerationWins(t *testing.T) {
	w := newWorld(t)
	// Two members believe to lead, and both saw no generation.
	one, two := w.start(1, t.TempDir()), w.start(2, t.TempDir())
	for _, r := range []*Renewer{one, two} {
		s := w.seat(r.o.Member)
		s.agreed.leader = r.o.Member
		if err := r.form(context.Background(), s); err != nil {
			t.Fatal(err)
		}
	}
	w.join(one)
	w.join(two)
	if !one.ring.Load().roots.peer.Equal(two.ring.Load().roots.peer) {
		t.Fatal("two members live on different CAs")
	}
}

func TestRenewer_mirrorHoldsNoKeyInClear(t *testing.T) {
	w := newWorld(t)
	members, dirs := w.formed(1)
	cas := members[0].ring.Load().cas
	var secrets [][]byte
	for _, a := range []*Authority{cas.peer, cas.client, w.secret.admission} {
		der, err := a.keyDER()
		if err != nil {
			t.Fatal(err)
		}
		text, err := EncodeKey(a.key)
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.Split(text, []byte("\n"))
		// The scalar of a P-256 key, raw, and a line of its PEM form.
		secrets = append(secrets, der[36:68], lines[2])
	}
	secrets = append(secrets, w.secret.sealKey[:])
	files := 0
	err := filepath.WalkDir(dirs[0], func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		for _, s := range secrets {
			if bytes.Contains(b, s) {
				t.Errorf("%s holds a secret in clear", path)
			}
		}
		return err
	})
	if err != nil || files != 5 {
		t.Fatalf("%d files, %v", files, err)
	}
	g, _ := w.seat(1).Ledger().Generation()
	b, err := proto.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range secrets {
		if bytes.Contains(b, s) {
			t.Error("the ledger holds a secret in clear")
		}
	}
}

func TestRenewer_restartKeepsCertificates(t *testing.T) {
	w := newWorld(t)
	members, dirs := w.formed(1)
	before := members[0].ring.Load()
	w.clock.advance(time.Hour)
	proposals := w.log.proposals
	for _, secret := range []*Secret{w.secret, nil} {
		o := w.options(1, dirs[0])
		o.Secret = secret
		r, err := NewRenewer(o)
		if err != nil {
			t.Fatal(err)
		}
		after := r.ring.Load()
		if !after.peer.leaf().Equal(before.peer.leaf()) || !after.server.leaf().Equal(before.server.leaf()) || after.admission {
			t.Fatal("a restart made other certificates")
		}
		w.join(r)
	}
	if w.log.proposals != proposals {
		t.Fatal("a restart proposed what is in the ledger")
	}
}

func TestRenewer_restartAfterExpiry(t *testing.T) {
	w := newWorld(t)
	members, dirs := w.formed(2)
	before := members[0].ring.Load()
	w.clock.advance(400 * 24 * time.Hour)
	one, two := w.start(1, dirs[0]), w.start(2, dirs[1])
	if one.ring.Load().peer.leaf().Equal(before.peer.leaf()) || !one.ring.Load().peer.usable(w.clock.now()) {
		t.Fatal("an expired certificate was not replaced at the start")
	}
	// Before any of it is agreed, the members can talk.
	h := shake(t, one.PeerClient(2), two.PeerServer())
	if h.clientErr != nil || h.serverErr != nil {
		t.Fatalf("after an outage past every expiry: %v, %v", h.clientErr, h.serverErr)
	}
	w.join(one)
	if m, _ := w.seat(1).Ledger().Certified(1); !bytes.Equal(m.GetSerial(), one.ring.Load().peer.leaf().SerialNumber.Bytes()) {
		t.Fatal("the new certificate is not in the ledger")
	}
	o := w.options(2, dirs[1])
	o.Secret, o.Now = nil, func() time.Time { return w.clock.now().Add(400 * 24 * time.Hour) }
	_, err := NewRenewer(o)
	wantError(t, err, ErrSecretFile, "--cluster-secret-file", "must be renewed before")
}

// Certificates that were issued while the clock was ahead are replaced when it is
// right again, at once where the member runs and at its next start.
func TestRenewer_clockAhead(t *testing.T) {
	w := newWorld(t)
	_, dirs := w.formed(2)
	w.clock.advance(365 * 24 * time.Hour)
	one, two := w.start(1, dirs[0]), w.start(2, dirs[1])
	w.clock.advance(-365 * 24 * time.Hour)
	if one.ring.Load().peer.usable(w.clock.now()) || two.ring.Load().peer.usable(w.clock.now()) {
		t.Fatal("the clock ahead made no certificates of its own")
	}
	w.join(one)
	two = w.start(2, dirs[1])
	for name, r := range map[string]*Renewer{"running": one, "started again": two} {
		if ring := r.ring.Load(); !ring.peer.usable(w.clock.now()) || !ring.server.usable(w.clock.now()) {
			t.Errorf("the member %s has certificates from %v on, at %v", name, ring.peer.leaf().NotBefore, w.clock.now())
		}
	}
	if h := shake(t, one.PeerClient(2), two.PeerServer()); h.clientErr != nil || h.serverErr != nil {
		t.Errorf("after the clock was set right: %v, %v", h.clientErr, h.serverErr)
	}
}

func TestRenewer_refusedStarts(t *testing.T) {
	w := newWorld(t)
	_, dirs := w.formed(1)
	other := newSecret(t)
	start := func(change func(*RenewerOptions)) error {
		o := w.options(1, dirs[0])
		change(&o)
		_, err := NewRenewer(o)
		return err
	}
	wantError(t, start(func(o *RenewerOptions) { o.Secret = other }), ErrSecretFile, other.trustDomain, w.secret.trustDomain, "--data-dir "+dirs[0])
	wantError(t, start(func(o *RenewerOptions) { o.Member = 2 }), nil, "belongs to member 1", "member 2")
	wantError(t, start(func(o *RenewerOptions) { o.Secret, o.DataDir = nil, t.TempDir() }), ErrSecretFile, "conclave cluster-secret new")
	wantError(t, start(func(o *RenewerOptions) { o.PeerHosts = nil }), nil, "--initial-advertise-peer-urls")
	wantError(t, start(func(o *RenewerOptions) { o.PeerHosts = []string{"a b"} }), nil, "--initial-advertise-peer-urls")
	wantError(t, start(func(o *RenewerOptions) { o.ServerHosts = []string{"http://x"} }), nil, "--advertise-client-urls")
	wantError(t, start(func(o *RenewerOptions) { o.Known = nil }), nil)

	path := mirrorPath(dirs[0], mirrorFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	later, err := proto.Marshal(&pb.Mirror{Format: 2})
	if err != nil {
		t.Fatal(err)
	}
	for content, word := range map[string]string{"\xff": "damaged", string(later): "format 2", string(good[:len(good)/2]): "damaged"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		wantError(t, start(func(*RenewerOptions) {}), nil, "--data-dir", path, word)
	}
}

func TestRenewer_clockBeforeTheSecret(t *testing.T) {
	w := newWorld(t)
	w.clock.advance(-48 * time.Hour)
	_, err := NewRenewer(w.options(1, t.TempDir()))
	wantError(t, err, ErrClock, "--cluster-secret-file", "clock", "off by about 48h0m0s")
}

func TestRenewer_damagedOwnCertificate(t *testing.T) {
	w := newWorld(t)
	_, dirs := w.formed(2)
	foreign, err := os.ReadFile(mirrorPath(dirs[1], mirrorPeer))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"garbage": "garbage", "another member's": string(foreign), "empty": ""} {
		if err := os.WriteFile(mirrorPath(dirs[0], mirrorPeer), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		r := w.start(1, dirs[0])
		if n, err := NameOf(r.ring.Load().peer.leaf()); err != nil || n.Member != 1 {
			t.Errorf("%s: goes on as %v, %v", name, n, err)
		}
		w.join(r)
	}
}

func TestRenewer_otherHostsReissue(t *testing.T) {
	w := newWorld(t)
	members, dirs := w.formed(1)
	o := w.options(1, dirs[0])
	o.ServerHosts = append(o.ServerHosts, "new.example.com")
	r, err := NewRenewer(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.ring.Load().server.leaf().VerifyHostname("new.example.com"); err != nil {
		t.Fatal(err)
	}
	// Without the secret the present certificate goes on serving.
	o = w.options(1, dirs[0])
	o.Secret, o.ServerHosts = nil, []string{"third.example.com"}
	if _, err := NewRenewer(o); err != nil {
		t.Fatal(err)
	}
	_ = members
}

func TestRenewer_proposesMirrorAfterRestore(t *testing.T) {
	w := newWorld(t)
	members, dirs := w.formed(1)
	before := members[0].ring.Load().roots
	w.log = newAgreed(t) // restored from a snapshot without a ledger
	r := w.start(1, dirs[0])
	w.join(r)
	if !r.ring.Load().roots.clientCA.Equal(before.clientCA) {
		t.Fatal("the clients' certificates became worthless")
	}
}

func TestRenewer_generationOfAnotherDomain(t *testing.T) {
	w := newWorld(t)
	r := w.start(1, t.TempDir())
	g, err := newSecret(t).NewGeneration(1, start)
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := ledger.Create(g)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.seat(1).Propose(context.Background(), cmd); err != nil {
		t.Fatal(err)
	}
	_, err = r.step(context.Background(), w.seat(1), w.seat(1).Ledger())
	wantError(t, err, nil, g.GetTrustDomain(), w.secret.trustDomain, "--cluster-secret-file F")
}

func TestRenewer_admissionRenewsItself(t *testing.T) {
	w := newWorld(t)
	r := w.start(1, t.TempDir())
	first, err := r.certificate()
	if err != nil {
		t.Fatal(err)
	}
	swapped := r.Swapped()
	w.clock.advance(AdmissionLifetime / 2)
	if c, _ := r.certificate(); c != first {
		t.Fatal("replaced at half its life")
	}
	w.clock.advance(AdmissionLifetime / 4)
	c, err := r.certificate()
	if err != nil || c == first || !c.usable(w.clock.now().Add(AdmissionLifetime/2)) {
		t.Fatalf("not replaced at three quarters: %v", err)
	}
	select {
	case <-swapped:
	default:
		t.Fatal("not told")
	}
}

func TestRenewAt_spread(t *testing.T) {
	a := newCA(t, AuthorityOptions{})
	seen := map[time.Time]bool{}
	for range 20 {
		cert := mustIssue(t, a, Request{Profile: ProfileServer, CN: "x", Hosts: []string{"x"}}).Leaf
		at := renewAt(cert)
		part := float64(at.Sub(cert.NotBefore)) / float64(cert.NotAfter.Sub(cert.NotBefore))
		if part < 0.61 || part > 0.72 {
			t.Fatalf("renewal after %.2f of the life", part)
		}
		if !renewAt(cert).Equal(at) {
			t.Fatal("a restart would come to another time")
		}
		seen[at] = true
	}
	if len(seen) < 15 {
		t.Fatalf("only %d different times of 20", len(seen))
	}
}

func TestRun_renewsAndStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var err error
		if w.secret, err = NewSecret(time.Now()); err != nil {
			t.Fatal(err)
		}
		o := w.options(1, t.TempDir())
		o.Now = nil // the bubble's own time
		r, err := NewRenewer(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx, w.seat(1)) }()
		<-r.Certified()
		var serials []string
		for range 4 {
			swapped := r.Swapped()
			serials = append(serials, r.ring.Load().peer.leaf().SerialNumber.Text(16))
			began := time.Now()
			<-swapped
			synctest.Wait()
			if d := time.Since(began); d < 17*24*time.Hour || d > 23*24*time.Hour {
				t.Fatalf("renewed after %v", d)
			}
			m, ok := w.seat(1).Ledger().Certified(1)
			if !ok || !bytes.Equal(m.GetSerial(), r.ring.Load().peer.leaf().SerialNumber.Bytes()) {
				t.Fatal("a renewal is not in the ledger")
			}
		}
		if n := len(w.seat(1).Ledger().Issued()); n > 6 {
			t.Fatalf("expired certificates stay in the inventory: %d", n)
		}
		for i, s := range serials[1:] {
			if s == serials[i] {
				t.Fatal("a renewal kept the serial")
			}
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatalf("Run ended with %v", err)
		}
	})
}

func TestRun_retriesProposals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var err error
		if w.secret, err = NewSecret(time.Now()); err != nil {
			t.Fatal(err)
		}
		w.log.fail(errors.New("no leader"))
		o := w.options(1, t.TempDir())
		o.Now = nil
		var logged bytes.Buffer
		o.Log = o.Log.Output(&logged)
		r, err := NewRenewer(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx, w.seat(1)) }()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		w.log.mu.Lock()
		n := w.log.proposals
		w.log.mu.Unlock()
		if n < 5 || n > 30 {
			t.Fatalf("%d proposals in ten minutes without a leader", n)
		}
		w.log.fail(nil)
		<-r.Certified()
		cancel()
		<-done
		if strings.Contains(logged.String(), "PRIVATE") {
			t.Fatal("a key in the log")
		}
	})
}
