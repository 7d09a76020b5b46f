package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"testing"
	"time"
)

// good runs a handshake that must succeed, and returns it.
func good(t *testing.T, from, to *Renewer) handshake {
	t.Helper()
	h := shake(t, from.PeerClient(to.o.Member), to.PeerServer())
	if h.clientErr != nil || h.serverErr != nil {
		t.Fatalf("member %x to %x: dialler %v, acceptor %v", from.o.Member, to.o.Member, h.clientErr, h.serverErr)
	}
	if id, err := to.PeerID(h.server); err != nil || id != from.o.Member {
		t.Fatalf("acceptor takes member %x for %x, %v", from.o.Member, id, err)
	}
	if id, err := from.PeerID(h.client); err != nil || id != to.o.Member {
		t.Fatalf("dialler takes member %x for %x, %v", to.o.Member, id, err)
	}
	return h
}

func TestPeers_admissionAndLateMember(t *testing.T) {
	w := newWorld(t)
	one, two, late := w.start(1, t.TempDir()), w.start(2, t.TempDir()), w.start(3, t.TempDir())
	for _, pair := range [][2]*Renewer{{one, two}, {two, one}, {one, late}} {
		h := good(t, pair[0], pair[1])
		if err := pair[1].Refusal(h.server); err != nil {
			t.Fatal(err)
		}
		if end := SessionEnd(h.server); !end.Equal(start.Add(AdmissionLifetime)) {
			t.Fatalf("session ends %v", end)
		}
	}
	dial := one.PeerClient(2) // made before the certificates change
	w.join(one)
	w.join(two)
	// Certified members among themselves, and with one that has no ledger.
	for _, pair := range [][2]*Renewer{{one, two}, {two, one}, {one, late}, {late, one}, {late, two}} {
		h := good(t, pair[0], pair[1])
		if err := pair[1].Refusal(h.server); err != nil {
			t.Fatal(err)
		}
	}
	h := shake(t, dial, two.PeerServer())
	if h.clientErr != nil || !h.server.PeerCertificates[0].Equal(one.ring.Load().peer.leaf()) {
		t.Fatalf("an earlier configuration shows an earlier certificate: %v", h.clientErr)
	}
	w.join(late)
	good(t, late, one)
}

func TestPeers_wipedMemberIsToldWhy(t *testing.T) {
	w := newWorld(t)
	members, _ := w.formed(2)
	wiped := w.start(2, t.TempDir())
	h := shake(t, wiped.PeerClient(1), members[0].PeerServer())
	if h.clientErr != nil || h.serverErr != nil {
		t.Fatalf("the handshake must pass for the text to arrive: %v, %v", h.clientErr, h.serverErr)
	}
	wantError(t, members[0].Refusal(h.server), ErrCertified, "member 2 is already certified", "remove it and add it again")
	// The other way round the dialling member sees it by itself.
	h = shake(t, members[0].PeerClient(2), wiped.PeerServer())
	wantError(t, h.clientErr, ErrCertified, "member 2 is already certified")
	// The member that was not wiped is not refused.
	h = good(t, members[1], members[0])
	if err := members[0].Refusal(h.server); err != nil {
		t.Fatal(err)
	}
}

func TestPeers_stillStarting(t *testing.T) {
	w := newWorld(t)
	_, dirs := w.formed(1)
	resumed := w.start(1, dirs[0]) // its ledger is not open yet
	fresh := w.start(2, t.TempDir())
	h := shake(t, fresh.PeerClient(1), resumed.PeerServer())
	if h.clientErr != nil || h.serverErr != nil {
		t.Fatalf("the handshake must pass for the text to arrive: %v, %v", h.clientErr, h.serverErr)
	}
	wantError(t, resumed.Refusal(h.server), ErrNotMember, "still starting")
	w.join(resumed)
	good(t, fresh, resumed)
}

func TestPeers_unknownAndWrongMember(t *testing.T) {
	w := newWorld(t)
	one, two, stranger := w.start(1, t.TempDir()), w.start(2, t.TempDir()), w.start(9, t.TempDir())
	h := shake(t, stranger.PeerClient(1), one.PeerServer())
	wantError(t, one.Refusal(h.server), ErrNotMember, "member 9 is not a member", "member add")
	h = shake(t, one.PeerClient(9), stranger.PeerServer())
	wantError(t, h.clientErr, ErrNotMember, "member 9")
	h = shake(t, one.PeerClient(3), two.PeerServer())
	wantError(t, h.clientErr, ErrWrongHolder, "dialled member 3 and member 2 answers")

	// A certified member that this one has not heard of, or that was removed: which
	// of the two is for others to say. It is not dialled.
	w.join(one)
	w.join(two)
	w.mu.Lock()
	delete(w.members, 2)
	w.mu.Unlock()
	h = shake(t, two.PeerClient(1), one.PeerServer())
	if err := one.Refusal(h.server); h.serverErr != nil || err != nil {
		t.Errorf("a certified member: %v, %v", h.serverErr, err)
	}
	h = shake(t, one.PeerClient(2), two.PeerServer())
	wantError(t, h.clientErr, ErrNotMember, "member 2")
}

func TestPeers_foreignSecret(t *testing.T) {
	w, v := newWorld(t), newWorld(t)
	for _, formed := range []bool{false, true} {
		one, other := w.start(1, t.TempDir()), v.start(2, t.TempDir())
		if formed {
			w.join(one)
			v.log.leader = 2
			v.join(other)
		}
		for _, pair := range [][2]*Renewer{{one, other}, {other, one}} {
			h := shake(t, pair[0].PeerClient(pair[1].o.Member), pair[1].PeerServer())
			wantError(t, h.clientErr, ErrForeign, "trust domain "+pair[1].trustDomain, "this cluster is "+pair[0].trustDomain, "--cluster-secret-file")
			if h.serverErr == nil {
				t.Fatal("the acceptor goes on")
			}
			// A dialler that does not look is refused by the acceptor.
			careless := pair[0].PeerClient(pair[1].o.Member)
			careless.VerifyConnection = nil
			h = shake(t, careless, pair[1].PeerServer())
			wantError(t, h.serverErr, ErrForeign, "trust domain "+pair[0].trustDomain, "this cluster is "+pair[1].trustDomain)
		}
	}
}

func TestPeers_sameSecretOtherCluster(t *testing.T) {
	w := newWorld(t)
	members, _ := w.formed(1)
	v := &world{t: t, secret: w.secret, clock: w.clock, log: newAgreed(t), members: w.members}
	v.log.leader = 2
	other := v.start(2, t.TempDir())
	v.join(other)
	h := shake(t, other.PeerClient(1), members[0].PeerServer())
	wantError(t, h.clientErr, ErrForeign, "another CA of trust domain "+w.secret.trustDomain)
	// The cross-certificate of the other cluster's CA opens nothing here.
	careless := other.PeerClient(1)
	careless.VerifyConnection = nil
	h = shake(t, careless, members[0].PeerServer())
	wantError(t, h.serverErr, ErrForeign, "another cluster")
}

// outsider is a dialler that looks at nothing and shows cert, if any.
func outsider(cert ...tls.Certificate) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, Certificates: cert}
}

func TestPeers_onlyMembersOnThePeerPort(t *testing.T) {
	w := newWorld(t)
	members, _ := w.formed(1)
	one := members[0]
	cas := one.ring.Load().cas
	server := one.ring.Load().server.tls
	selfMade := newCA(t, AuthorityOptions{CN: "forged", TrustDomain: w.secret.trustDomain})
	plain := newCA(t, AuthorityOptions{})
	for name, c := range map[string]struct {
		config *tls.Config
		kind   error
		word   string
	}{
		"no certificate":   {outsider(), nil, "certificate"},
		"client":           {outsider(mustIssue(t, cas.client, Request{Profile: ProfileClient, CN: "admin"})), ErrWrongHolder, "client port"},
		"user by peer CA":  {outsider(mustIssue(t, cas.peer, Request{Profile: ProfileClient, CN: "admin"})), ErrWrongHolder, "client port"},
		"own server":       {outsider(server), ErrForeign, "another CA"},
		"member by client": {outsider(mustIssue(t, cas.client, Request{Profile: ProfilePeer, Member: 2, Hosts: []string{"h"}})), ErrForeign, "another CA"},
		"server use only":  {outsider(mustIssue(t, cas.peer, Request{Profile: ProfileServer, Member: 2, Hosts: []string{"h"}})), nil, "not accepted"},
		"forged":           {outsider(mustIssue(t, selfMade, Request{Profile: ProfilePeer, Member: 2, Hosts: []string{"h"}})), ErrForeign, "another CA"},
		"of no domain":     {outsider(mustIssue(t, plain, Request{Profile: ProfilePeer, CN: "x", Hosts: []string{"h"}})), ErrForeign, "no trust domain"},
	} {
		t.Run(name, func(t *testing.T) {
			h := shake(t, c.config, one.PeerServer())
			wantError(t, h.serverErr, c.kind, c.word)
			if h.clientErr == nil {
				t.Fatal("let in")
			}
		})
	}
	if _, err := one.PeerID(tls.ConnectionState{}); !errors.Is(err, ErrNoCertificate) {
		t.Errorf("PeerID of nobody: %v", err)
	}
	if err := one.Refusal(tls.ConnectionState{}); !errors.Is(err, ErrNoCertificate) {
		t.Errorf("Refusal of nobody: %v", err)
	}
}

func TestPeers_tls12IsRefused(t *testing.T) {
	w := newWorld(t)
	members, _ := w.formed(1)
	c := outsider(members[0].ring.Load().peer.tls)
	c.MaxVersion = tls.VersionTLS12
	if h := shake(t, c, members[0].PeerServer()); h.serverErr == nil {
		t.Fatal("TLS 1.2 between members")
	}
}

func TestPeers_clocks(t *testing.T) {
	w := newWorld(t)
	here := w.start(1, t.TempDir())
	for _, c := range []struct {
		off  time.Duration
		word string
	}{
		{2 * time.Hour, "off by about 2h0m0s"},
		{20 * time.Minute, "off by about 20m0s"},
	} {
		o := w.options(2, t.TempDir())
		o.Now = func() time.Time { return w.clock.now().Add(c.off) }
		ahead, err := NewRenewer(o)
		if err != nil {
			t.Fatal(err)
		}
		h := shake(t, here.PeerClient(2), ahead.PeerServer())
		wantError(t, h.clientErr, ErrClock, "member 2", c.word, "the clock of this host or of the peer")
		careless := ahead.PeerClient(1)
		careless.VerifyConnection = nil
		h = shake(t, careless, here.PeerServer())
		wantError(t, h.serverErr, ErrClock, c.word)
	}
	// Days ahead, the other certificate looks expired.
	o := w.options(2, t.TempDir())
	o.Now = func() time.Time { return w.clock.now().Add(72 * time.Hour) }
	ahead, err := NewRenewer(o)
	if err != nil {
		t.Fatal(err)
	}
	h := shake(t, ahead.PeerClient(1), here.PeerServer())
	wantError(t, h.clientErr, ErrClock, "expired", "clock", "48h0m0s")
	// A little is nothing.
	o.Now = func() time.Time { return w.clock.now().Add(4 * time.Minute) }
	if ahead, err = NewRenewer(o); err != nil {
		t.Fatal(err)
	}
	good(t, here, ahead)
	good(t, ahead, here)
}

// twoNames is what Issue never makes: a certificate of the client CA whose
// common name and URI name two users.
func twoNames(t *testing.T, ca *Authority, cn, user string) tls.Certificate {
	t.Helper()
	key := newKey(t)
	p, err := ca.plan(Request{Profile: ProfileClient, CN: cn, CSR: newRequest(t, key), Now: start})
	if err != nil {
		t.Fatal(err)
	}
	p.uri = Name{TrustDomain: ca.trustDomain, User: user}.URI().String()
	cert, err := ca.sign(p, string(ProfileClient))
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

func TestClients_port(t *testing.T) {
	w := newWorld(t)
	fresh := w.start(1, t.TempDir())
	if h := shake(t, outsider(), fresh.ClientServer()); !errors.Is(h.serverErr, errNotReady) {
		t.Fatalf("before formation: %v", h.serverErr)
	}
	port := fresh.ClientServer()
	w.join(fresh)
	ring := fresh.ring.Load()
	roots := x509.NewCertPool()
	roots.AddCert(ring.roots.clientCA)
	client := func(cert ...tls.Certificate) *tls.Config {
		return &tls.Config{RootCAs: roots, ServerName: "localhost", Time: w.clock.now, Certificates: cert, NextProtos: []string{"h2"}}
	}
	admin := mustIssue(t, ring.cas.client, Request{Profile: ProfileClient, CN: "admin"})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c := client(admin)
		c.MaxVersion = version
		h := shake(t, c, port)
		if h.clientErr != nil || h.serverErr != nil {
			t.Fatalf("%v, %v", h.clientErr, h.serverErr)
		}
		if len(h.server.VerifiedChains) == 0 || h.server.VerifiedChains[0][0].Subject.CommonName != "admin" || h.server.NegotiatedProtocol != "h2" {
			t.Fatalf("state %+v", h.server)
		}
	}
	old := client(admin)
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if h := shake(t, old, port); h.serverErr == nil {
		t.Error("TLS 1.1 is let in")
	}
	weak := client(admin)
	weak.MaxVersion = tls.VersionTLS12
	weak.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_128_CBC_SHA}
	if h := shake(t, weak, port); h.serverErr == nil {
		t.Error("a suite without authenticated encryption is let in")
	}
	admission, err := fresh.issueAdmission()
	if err != nil {
		t.Fatal(err)
	}
	expired := mustIssue(t, ring.cas.client, Request{Profile: ProfileClient, CN: "admin", Lifetime: time.Minute, Now: start.Add(-4 * time.Minute)})
	for name, cert := range map[string][]tls.Certificate{
		"none":         nil,
		"peer":         {ring.peer.tls},
		"admission":    {admission.tls},
		"server":       {ring.server.tls},
		"foreign user": {mustIssue(t, newCA(t, AuthorityOptions{TrustDomain: "other"}), Request{Profile: ProfileClient, CN: "admin"})},
		"by peer CA":   {mustIssue(t, ring.cas.peer, Request{Profile: ProfileClient, CN: "admin"})},
		"member":       {mustIssue(t, ring.cas.client, Request{Profile: ProfilePeer, Member: 1, Hosts: []string{"h"}})},
		"expired":      {expired},
		"two users":    {twoNames(t, ring.cas.client, "admin", "root")},
	} {
		t.Run(name, func(t *testing.T) {
			c := client()
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if cert == nil {
					return &tls.Certificate{}, nil
				}
				return &cert[0], nil
			}
			h := shake(t, c, port)
			if h.serverErr == nil || h.clientErr == nil {
				t.Fatalf("let in: %v, %v", h.clientErr, h.serverErr)
			}
		})
	}
}

func TestExplain_clientSide(t *testing.T) {
	w := newWorld(t)
	members, _ := w.formed(1)
	ring := members[0].ring.Load()
	admin := mustIssue(t, ring.cas.client, Request{Profile: ProfileClient, CN: "admin"})
	dial := func(ca *x509.Certificate, name string, now time.Time) error {
		roots := x509.NewCertPool()
		roots.AddCert(ca)
		h := shake(t, &tls.Config{RootCAs: roots, ServerName: name, Certificates: []tls.Certificate{admin}, Time: func() time.Time { return now }}, members[0].ClientServer())
		return h.clientErr
	}
	other := newCA(t, AuthorityOptions{})
	wantError(t, Explain(dial(other.cert, "localhost", start), "", start), ErrForeign, w.secret.trustDomain, "--cacert")
	wantError(t, Explain(dial(other.cert, "localhost", start), "mine", start), ErrForeign, w.secret.trustDomain, "this cluster is mine")
	later := start.Add(100 * 24 * time.Hour)
	wantError(t, Explain(dial(ring.roots.clientCA, "localhost", later), "", later), ErrClock, "expired", "member 1")
	wantError(t, Explain(dial(ring.roots.clientCA, "elsewhere", start), "", start), ErrWrongHolder, "elsewhere", "n.example.com")
	if err := Explain(nil, "", start); err != nil {
		t.Error(err)
	}
	unrelated := errors.New("unrelated")
	if err := Explain(unrelated, "", start); !errors.Is(err, unrelated) {
		t.Error(err)
	}
}

func TestSettings_noTickets(t *testing.T) {
	w := newWorld(t)
	members, _ := w.formed(1)
	inner, err := members[0].ClientServer().GetConfigForClient(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []*tls.Config{members[0].PeerServer(), members[0].PeerClient(2), members[0].ClientServer(), inner} {
		if !c.SessionTicketsDisabled || c.ClientSessionCache != nil || c.MinVersion < tls.VersionTLS12 {
			t.Errorf("configuration %d: tickets, or an old TLS", i)
		}
	}
	if !slices.Equal(inner.NextProtos, []string{"h2", "http/1.1"}) {
		t.Errorf("protocols %v", inner.NextProtos)
	}
}
