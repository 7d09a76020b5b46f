package pki

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/pki/ledger"
)

// What Issuer.Issue answers besides ErrRequest and the errors of Propose.
var (
	// ErrNoIssuer: this member cannot sign, since the cluster has no CAs yet or
	// it was started without the cluster secret.
	ErrNoIssuer = errors.New("this member cannot issue certificates")
	// ErrPeerProfile: certificates of members are not issued over the client
	// port.
	ErrPeerProfile = errors.New("peer certificates are not issued over the client port: use --cluster-secret-file with --data-dir on a member's host")
)

// maxClientLifetime bounds what may be asked for over the client port.
const maxClientLifetime = 10 * 365 * 24 * time.Hour

// Issuer is the certificate service of a member. Who may call it is its door's
// decision; it must never be reachable over plaintext.
type Issuer struct {
	pb.UnimplementedPKIServer
	r *Renewer
}

// Issuer returns the certificate service on this member's CAs.
func (r *Renewer) Issuer() *Issuer { return &Issuer{r: r} }

// Issue has the certificate entered into the agreed inventory, then signs it.
// Errors wrap ErrRequest, ErrPeerProfile, ErrNoIssuer, or are those of
// Cluster.Propose.
func (i *Issuer) Issue(ctx context.Context, req *pb.IssueRequest) (*pb.IssueResponse, error) {
	profile, err := ParseProfile(req.GetProfile())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if profile == ProfilePeer {
		return nil, ErrPeerProfile
	}
	// In seconds: a duration of that many could overflow.
	if s := req.GetLifetimeSeconds(); s < 0 || s > int64(maxClientLifetime/time.Second) {
		return nil, fmt.Errorf("%w: --lifetime of %d seconds: use 1 to %d", ErrRequest, s, int64(maxClientLifetime/time.Second))
	}
	ring, box := i.r.ring.Load(), i.r.cluster.Load()
	if ring.cas == nil || box == nil {
		return nil, fmt.Errorf("%w: it has no cluster secret, or the cluster has just formed; ask another member", ErrNoIssuer)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	r := Request{
		Profile: profile, CN: req.GetCn(), Hosts: req.GetHosts(), CSR: req.GetCsr(),
		Lifetime: time.Duration(req.GetLifetimeSeconds()) * time.Second, Now: i.r.o.Now(), Serial: serial,
	}
	plan, err := ring.cas.client.plan(r)
	if err != nil {
		return nil, err
	}
	cmd, err := ledger.Record([]*pb.Issued{{
		Serial: serial.Bytes(), Profile: string(profile), Subject: plan.cn,
		NotAfter: plan.notAfter.Unix(), Generation: ring.roots.generation,
	}}, r.Now.Unix())
	if err != nil {
		return nil, err
	}
	if err := (*box).Propose(ctx, cmd); err != nil {
		return nil, fmt.Errorf("enter the certificate into the inventory: %w", err)
	}
	cert, err := ring.cas.client.Issue(r)
	if err != nil {
		return nil, err
	}
	i.r.o.Log.Info().Str("profile", string(profile)).Str("subject", plan.cn).Str("serial", serial.Text(16)).
		Time("not-after", cert.NotAfter).Msg("issued a certificate")
	return &pb.IssueResponse{
		CertificatePem: EncodeCertificates(cert), CaPem: EncodeCertificates(ring.roots.clientCA),
		Serial: serial.Text(16), NotAfter: cert.NotAfter.Unix(), TrustDomain: i.r.trustDomain,
	}, nil
}
