package pki

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"testing"
	"time"

	pb "github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/pki/ledger"
)

var _ pb.PKIServer = (*Issuer)(nil)

func TestIssuer_client(t *testing.T) {
	w := newWorld(t)
	members, _ := w.formed(1)
	resp, err := members[0].Issuer().Issue(context.Background(), &pb.IssueRequest{
		Profile: "client", Cn: "admin", Csr: newRequest(t, newKey(t)), LifetimeSeconds: 3600,
	})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(resp.GetCertificatePem())
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := parseOne(resp.GetCaPem())
	if err != nil {
		t.Fatal(err)
	}
	strict(t, "sslclient", ca, cert)
	if cert.NotAfter.Unix() != resp.GetNotAfter() || !cert.NotAfter.Equal(start.Add(time.Hour)) || cert.SerialNumber.Text(16) != resp.GetSerial() {
		t.Fatalf("certificate ends %v, answer %v", cert.NotAfter, resp)
	}
	for _, i := range w.seat(1).Ledger().Issued() {
		if string(i.GetSerial()) == string(cert.SerialNumber.Bytes()) {
			if i.GetProfile() != "client" || i.GetSubject() != "admin" || i.GetNotAfter() != resp.GetNotAfter() {
				t.Fatalf("record %v", i)
			}
			return
		}
	}
	t.Fatal("not in the inventory")
}

func TestIssuer_refusals(t *testing.T) {
	w := newWorld(t)
	fresh := w.start(1, t.TempDir())
	csr := newRequest(t, newKey(t))
	ask := func(r *Renewer, req *pb.IssueRequest) error {
		if req.Csr == nil {
			req.Csr = csr
		}
		_, err := r.Issuer().Issue(context.Background(), req)
		return err
	}
	wantError(t, ask(fresh, &pb.IssueRequest{Profile: "client", Cn: "a"}), ErrNoIssuer)
	members, dirs := w.formed(1)
	one := members[0]
	before := len(w.seat(1).Ledger().Issued())
	wantError(t, ask(one, &pb.IssueRequest{Profile: "peer", Cn: "a", Hosts: []string{"h"}}), ErrPeerProfile, "--cluster-secret-file")
	wantError(t, ask(one, &pb.IssueRequest{Profile: "ca", Cn: "a"}), ErrRequest, "--profile")
	wantError(t, ask(one, &pb.IssueRequest{Profile: "client"}), ErrRequest, "--cn")
	wantError(t, ask(one, &pb.IssueRequest{Profile: "client", Cn: "a", Csr: []byte("x")}), ErrRequest, "CSR")
	wantError(t, ask(one, &pb.IssueRequest{Profile: "client", Cn: "a", LifetimeSeconds: -1}), ErrRequest, "--lifetime")
	wantError(t, ask(one, &pb.IssueRequest{Profile: "client", Cn: "a", LifetimeSeconds: 1 << 62}), ErrRequest, "--lifetime")
	wantError(t, ask(one, &pb.IssueRequest{Profile: "client", Cn: "a", Hosts: []string{"h"}}), ErrRequest, "--hosts")
	if after := len(w.seat(1).Ledger().Issued()); after != before {
		t.Fatal("a refused certificate is in the inventory")
	}
	w.log.fail(errors.New("no leader"))
	wantError(t, ask(one, &pb.IssueRequest{Profile: "client", Cn: "a"}), nil, "no leader")
	w.log.fail(ledger.ErrRejected)
	wantError(t, ask(one, &pb.IssueRequest{Profile: "client", Cn: "a"}), ledger.ErrRejected)
	o := w.options(1, dirs[0])
	o.Secret = nil
	keyless, err := NewRenewer(o)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, ask(keyless, &pb.IssueRequest{Profile: "client", Cn: "a"}), ErrNoIssuer)
}

func TestOffline_clientCertificateOpensTheClientPort(t *testing.T) {
	w := newWorld(t)
	members, dirs := w.formed(1)
	a, err := OpenClientAuthority(dirs[0], w.secret)
	if err != nil {
		t.Fatal(err)
	}
	admin := mustIssue(t, a, Request{Profile: ProfileClient, CN: "admin"})
	h := shake(t, outsider(admin), members[0].ClientServer())
	if h.clientErr != nil || h.serverErr != nil {
		t.Fatalf("%v, %v", h.clientErr, h.serverErr)
	}
	p, err := OpenPeerAuthority(dirs[0], w.secret)
	if err != nil {
		t.Fatal(err)
	}
	two := mustIssue(t, p, Request{Profile: ProfilePeer, Member: 2, Hosts: []string{"h"}})
	if h := shake(t, outsider(two), members[0].PeerServer()); h.serverErr != nil {
		t.Fatal(h.serverErr)
	}
}

func TestOffline_refusals(t *testing.T) {
	w := newWorld(t)
	_, dirs := w.formed(1)
	empty := t.TempDir()
	_, err := OpenClientAuthority(empty, w.secret)
	wantError(t, err, ErrNoMirror, "--data-dir "+empty)
	other := newSecret(t)
	_, err = OpenClientAuthority(dirs[0], other)
	wantError(t, err, ErrSecretFile, other.trustDomain, w.secret.trustDomain)
	// Same trust domain, another seal key: not possible by accident, and refused.
	forged := *w.secret
	forged.sealKey[0] ^= 1
	_, err = OpenClientAuthority(dirs[0], &forged)
	wantError(t, err, ErrUnseal, "--cluster-secret-file")
	if err := os.WriteFile(mirrorPath(dirs[0], mirrorFile), []byte{0xff}, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = OpenClientAuthority(dirs[0], w.secret)
	wantError(t, err, nil, "--data-dir "+dirs[0], "damaged")
}
