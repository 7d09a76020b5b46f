package pki

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	pb "github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/pki/ledger"
)

const (
	// formPoll is how often a member looks whether it leads, while the cluster
	// has no CAs.
	formPoll = 100 * time.Millisecond
	// changeGap is the least time between looks at the ledger while only other
	// state changes.
	changeGap = 50 * time.Millisecond
	// longestWait bounds the sleep between looks at the clock, which may jump.
	longestWait = time.Minute
	// warnAgain is how often a member says that it cannot renew its certificates.
	warnAgain = time.Hour
	// proposeTimeout bounds one proposal.
	proposeTimeout = 10 * time.Second
	// Failures are tried again after firstRetry, doubling to lastRetry.
	firstRetry = 500 * time.Millisecond
	lastRetry  = time.Minute
)

// Run does the PKI's part in the cluster until ctx ends: has the CAs created if
// this member leads and there are none, then keeps this member's certificates,
// its mirror and its entry in the ledger up to date. Failures are logged and
// tried again; Run returns only ctx's error. It is called once.
func (r *Renewer) Run(ctx context.Context, c Cluster) error {
	r.cluster.Store(&c)
	retry := firstRetry
	for {
		seen := c.Ledger()
		wait, err := r.step(ctx, c, seen)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			r.o.Log.Warn().Err(err).Dur("retry-in", retry).Msg("certificates of this member are not settled")
			pause(ctx, retry+rand.N(retry/4))
			retry = min(2*retry, lastRetry)
		default:
			retry = firstRetry
			awaitLedger(ctx, c, seen, wait)
		}
	}
}

// awaitLedger returns when the ledger is no longer seen, or after wait.
func awaitLedger(ctx context.Context, c Cluster, seen *ledger.View, wait time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for ctx.Err() == nil {
		changed := c.Changed()
		if c.Ledger() != seen {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		// What changed is mostly something else, many times a second.
		if c.Ledger() == seen {
			pause(ctx, changeGap)
		}
	}
}

// pause sleeps for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// step brings everything up to date once and says when to come again.
func (r *Renewer) step(ctx context.Context, c Cluster, view *ledger.View) (time.Duration, error) {
	g, ok := view.Generation()
	if !ok {
		return formPoll, r.form(ctx, c)
	}
	if err := r.adopt(g); err != nil {
		return 0, err
	}
	// What the member holds is noted even when it cannot be renewed now.
	renewErr := r.renew()
	if err := r.certify(ctx, c, view); err != nil {
		return 0, errors.Join(renewErr, err)
	}
	ring := r.ring.Load()
	if renewErr != nil && ring.cas == nil {
		r.o.Log.Warn().Err(renewErr).Msg("certificates of this member cannot be renewed")
		return warnAgain, nil
	}
	next := ring.peer.renewAt
	if ring.server.renewAt.Before(next) {
		next = ring.server.renewAt
	}
	return min(max(next.Sub(r.o.Now()), time.Second), longestWait), renewErr
}

// form proposes the first generation when this member leads. CAs kept from an
// earlier life of the cluster are proposed again, so that the certificates of
// its clients stay good after a restore.
func (r *Renewer) form(ctx context.Context, c Cluster) error {
	if !c.IsLeader() {
		return nil
	}
	if r.o.Secret == nil {
		return fmt.Errorf("%w: the cluster has no certificate authorities and its leader has no cluster secret: start it with the file", ErrSecretFile)
	}
	g := r.ring.Load().source
	if g == nil {
		var err error
		if g, err = r.o.Secret.NewGeneration(1, r.o.Now()); err != nil {
			return fmt.Errorf("create the running CAs: %w", err)
		}
	}
	cmd, err := ledger.Create(g)
	if err != nil {
		return err
	}
	if err := r.propose(ctx, c, cmd); err != nil {
		return fmt.Errorf("agree on the running CAs: %w", err)
	}
	r.o.Log.Info().Str("trust-domain", r.trustDomain).Uint64("generation", g.GetNumber()).
		Msg("created the running CAs of the cluster")
	return nil
}

// adopt makes the agreed generation this member's own, on disk first.
func (r *Renewer) adopt(g *pb.Generation) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	ring := r.ring.Load()
	if g.GetTrustDomain() != r.trustDomain {
		return fmt.Errorf("the cluster's CAs are of trust domain %s, this member's --cluster-secret-file %s is of %s",
			g.GetTrustDomain(), r.o.SecretFile, r.trustDomain)
	}
	if s := ring.source; s != nil && s.GetNumber() == g.GetNumber() &&
		bytes.Equal(s.GetPeerCa(), g.GetPeerCa()) && bytes.Equal(s.GetSealedPeerKey(), g.GetSealedPeerKey()) {
		return nil
	}
	next, err := r.openRing(g)
	if err != nil {
		return err
	}
	if err := saveMirror(r.o.DataDir, r.o.Member, g, next.roots); err != nil {
		return err
	}
	next.peer, next.admission = ring.peer, true
	if ring.peer.signedBy(next.roots.peer) && ring.server.signedBy(next.roots.clientCA) {
		next.server, next.admission = ring.server, false
	}
	r.swap(next)
	return nil
}

// signedBy tells whether ca issued the credential.
func (c *credential) signedBy(ca *x509.Certificate) bool {
	return c != nil && c.leaf().CheckSignatureFrom(ca) == nil
}

// certify notes this member's present certificates in the ledger. From then on
// its admission certificates are refused everywhere.
func (r *Renewer) certify(ctx context.Context, c Cluster, view *ledger.View) error {
	ring := r.ring.Load()
	if ring.admission {
		return errors.New("this member has no certificate of the running CAs")
	}
	peer, server := ring.peer.leaf(), ring.server.leaf()
	if m, ok := view.Certified(r.o.Member); ok && bytes.Equal(m.GetSerial(), peer.SerialNumber.Bytes()) {
		r.settle()
		return nil
	}
	cmd, err := ledger.Certify(&pb.CertifiedMember{
		Id: r.o.Member, Generation: ring.roots.generation, Serial: peer.SerialNumber.Bytes(), NotAfter: peer.NotAfter.Unix(),
	}, []*pb.Issued{
		r.inventory(peer, ProfilePeer, ring.roots.generation),
		r.inventory(server, ProfileServer, ring.roots.generation),
	}, r.o.Now().Unix())
	if err != nil {
		return err
	}
	if err := r.propose(ctx, c, cmd); err != nil {
		return fmt.Errorf("note this member's certificate in the ledger: %w", err)
	}
	r.settle()
	return nil
}

// settle lets Certified's callers go on. Only Run's goroutine calls it.
func (r *Renewer) settle() {
	select {
	case <-r.settled:
	default:
		close(r.settled)
	}
}

// inventory is the record of one of this member's certificates.
func (r *Renewer) inventory(cert *x509.Certificate, p Profile, generation uint64) *pb.Issued {
	return &pb.Issued{
		Serial: cert.SerialNumber.Bytes(), Profile: string(p), Subject: cert.Subject.CommonName,
		NotAfter: cert.NotAfter.Unix(), Member: r.o.Member, Generation: generation,
	}
}

func (r *Renewer) propose(ctx context.Context, c Cluster, cmd []byte) error {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	return c.Propose(ctx, cmd)
}
