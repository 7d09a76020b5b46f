package pki

import (
	"crypto/x509"
	"fmt"
	"path/filepath"
	"time"

	"github.com/conclave-kv/conclave/internal/durable"
)

// issueAdmission makes an admission certificate from the cluster secret. Its
// key lives in memory only.
func (r *Renewer) issueAdmission() (*credential, error) {
	c, err := r.issueOwn(r.o.Secret.admission, ProfilePeer, r.o.PeerHosts, AdmissionLifetime)
	if err != nil {
		return nil, fmt.Errorf("issue an admission certificate from --cluster-secret-file %s: %w", r.o.SecretFile, err)
	}
	return c, nil
}

// issueOwn makes a certificate for this member with a new key.
func (r *Renewer) issueOwn(a *Authority, p Profile, hosts []string, life time.Duration, chain ...*x509.Certificate) (*credential, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	request, err := NewRequest(key)
	if err != nil {
		return nil, err
	}
	cert, err := a.Issue(Request{
		Profile: p, Member: r.o.Member, Hosts: hosts, CSR: request, Lifetime: life, Now: r.o.Now(),
	})
	if err != nil {
		return nil, err
	}
	return newCredential(key, append([]*x509.Certificate{cert}, chain...)...), nil
}

// renew issues this member's peer and server certificates where they are
// missing, due, or name other hosts than wanted. Both are on disk before either
// is used.
func (r *Renewer) renew() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	ring := r.ring.Load()
	now := r.o.Now()
	if ring.roots == nil {
		return nil
	}
	if !ring.admission && !ring.peer.due(now) && !ring.server.due(now) &&
		ring.peer.names(r.o.PeerHosts) && ring.server.names(r.o.ServerHosts) {
		return nil
	}
	if ring.cas == nil {
		return r.cannotRenew(ring, now)
	}
	peer, err := r.issueOwn(ring.cas.peer, ProfilePeer, r.o.PeerHosts, r.o.Lifetime, ring.roots.peerCross)
	if err != nil {
		return fmt.Errorf("issue this member's peer certificate: %w", err)
	}
	server, err := r.issueOwn(ring.cas.client, ProfileServer, r.o.ServerHosts, r.o.Lifetime)
	if err != nil {
		return fmt.Errorf("issue this member's server certificate: %w", err)
	}
	if err := durable.MkdirAll(filepath.Join(r.o.DataDir, mirrorDir), 0o700); err != nil {
		return fmt.Errorf("keep this member's certificates: %w", err)
	}
	if err := peer.save(mirrorPath(r.o.DataDir, mirrorPeer)); err != nil {
		return fmt.Errorf("keep this member's certificates: %w", err)
	}
	if err := server.save(mirrorPath(r.o.DataDir, mirrorServer)); err != nil {
		return fmt.Errorf("keep this member's certificates: %w", err)
	}
	next := *ring
	next.peer, next.server, next.admission = peer, server, false
	r.swap(&next)
	r.o.Log.Info().Time("not-after", peer.leaf().NotAfter).Time("renew-at", peer.renewAt).
		Str("trust-domain", r.trustDomain).Msg("issued this member's certificates")
	return nil
}

// cannotRenew is the answer of a member without the cluster secret: an error
// once its certificates no longer serve.
func (r *Renewer) cannotRenew(ring *keyring, now time.Time) error {
	if ring.peer.usable(now) && ring.server.usable(now) && !ring.peer.due(now) && !ring.server.due(now) {
		return nil // only the hosts changed; the present names still serve
	}
	what, end := "are missing", ""
	if ring.peer != nil {
		what, end = "must be renewed before ", ring.peer.leaf().NotAfter.UTC().Format(time.RFC3339)
	}
	return fmt.Errorf("%w: this member's certificates %s%s and that needs the cluster secret: start it with the file", ErrSecretFile, what, end)
}

// certificate returns the peer certificate to show now. An admission
// certificate is replaced here when it is due: nothing of it is agreed or
// stored.
func (r *Renewer) certificate() (*credential, error) {
	ring := r.ring.Load()
	if !ring.admission || !ring.peer.due(r.o.Now()) {
		return ring.peer, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if ring = r.ring.Load(); !ring.admission || !ring.peer.due(r.o.Now()) {
		return ring.peer, nil
	}
	c, err := r.issueAdmission()
	if err != nil {
		return nil, err
	}
	next := *ring
	next.peer = c
	r.swap(&next)
	return c, nil
}
