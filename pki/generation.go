package pki

import (
	"crypto/x509"
	"fmt"
	"time"

	pb "github.com/conclave-kv/conclave/internal/conclavepb"
)

// The purposes CA keys are sealed for.
const (
	sealPeerCA   = "peer CA"
	sealClientCA = "client CA"
)

// sealContext binds a sealed CA key to its trust domain and generation.
func sealContext(what, trustDomain string, generation uint64) string {
	return fmt.Sprintf("key of the %s, generation %d, trust domain %s", what, generation, trustDomain)
}

// NewGeneration creates the running CAs of a cluster, with their private keys
// sealed: what a leader proposes when there are none.
func (s *Secret) NewGeneration(number uint64, now time.Time) (*pb.Generation, error) {
	peer, err := s.newCA(sealPeerCA, number, now)
	if err != nil {
		return nil, err
	}
	client, err := s.newCA(sealClientCA, number, now)
	if err != nil {
		return nil, err
	}
	cross, err := s.admission.cross(peer, now)
	if err != nil {
		return nil, fmt.Errorf("cross-sign the peer CA: %w", err)
	}
	g := &pb.Generation{
		Number: number, TrustDomain: s.trustDomain, Created: now.Unix(),
		PeerCa: peer.cert.Raw, PeerCaCross: cross.Raw, ClientCa: client.cert.Raw,
	}
	if g.SealedPeerKey, err = s.sealCA(sealPeerCA, number, peer); err != nil {
		return nil, err
	}
	if g.SealedClientKey, err = s.sealCA(sealClientCA, number, client); err != nil {
		return nil, err
	}
	return g, nil
}

func (s *Secret) newCA(what string, number uint64, now time.Time) (*Authority, error) {
	return NewAuthority(AuthorityOptions{
		CN:          fmt.Sprintf("conclave %s %s generation %d", what, s.trustDomain, number),
		TrustDomain: s.trustDomain,
		Now:         now,
	})
}

func (s *Secret) sealCA(what string, number uint64, ca *Authority) ([]byte, error) {
	der, err := ca.keyDER()
	if err != nil {
		return nil, err
	}
	return s.Seal(sealContext(what, s.trustDomain, number), der)
}

// authorities are the running CAs with their keys open.
type authorities struct {
	peer, client *Authority
}

// openGeneration unseals the CAs of a generation.
func (s *Secret) openGeneration(g *pb.Generation) (*authorities, error) {
	if g.GetTrustDomain() != s.trustDomain {
		return nil, fmt.Errorf("%w %s is of trust domain %s, the cluster is %s: use the cluster's own file",
			ErrSecretFile, s.path, s.trustDomain, g.GetTrustDomain())
	}
	open := func(what string, cert, sealed []byte) (*Authority, error) {
		der, err := s.Unseal(sealContext(what, s.trustDomain, g.GetNumber()), sealed)
		if err != nil {
			return nil, err
		}
		return loadAuthority(cert, der, s.trustDomain)
	}
	peer, err := open(sealPeerCA, g.GetPeerCa(), g.GetSealedPeerKey())
	if err != nil {
		return nil, err
	}
	client, err := open(sealClientCA, g.GetClientCa(), g.GetSealedClientKey())
	if err != nil {
		return nil, err
	}
	return &authorities{peer: peer, client: client}, nil
}

// roots are the certificates of a generation, parsed.
type roots struct {
	generation                uint64
	trustDomain               string
	peer, peerCross, clientCA *x509.Certificate
}

func parseGeneration(g *pb.Generation) (*roots, error) {
	r := &roots{generation: g.GetNumber(), trustDomain: g.GetTrustDomain()}
	for _, part := range []struct {
		into **x509.Certificate
		der  []byte
		name string
	}{{&r.peer, g.GetPeerCa(), "peer CA"}, {&r.peerCross, g.GetPeerCaCross(), "cross-signed peer CA"}, {&r.clientCA, g.GetClientCa(), "client CA"}} {
		cert, err := x509.ParseCertificate(part.der)
		if err != nil || !cert.IsCA {
			return nil, fmt.Errorf("CA generation %d: the %s is not a CA certificate", g.GetNumber(), part.name)
		}
		*part.into = cert
	}
	return r, nil
}
