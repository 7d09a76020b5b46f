package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// Which way a member's certificate is trusted.
type trust int

const (
	// byRunning: signed by the running peer CA, which is known here.
	byRunning trust = iota + 1
	// byAdmission: signed by the admission CA of the cluster secret.
	byAdmission
	// byCross: signed by a peer CA that the admission CA vouches for; only
	// while no running peer CA is known here.
	byCross
)

// verifyAccepted judges the certificate of a member that dialled this one. What
// is wrong with the member and not with the certificate is left to Refusal, whose
// text can reach it.
func (r *Renewer) verifyAccepted(cs tls.ConnectionState) error {
	_, _, err := r.member(cs, x509.ExtKeyUsageClientAuth)
	return err
}

// verifyDialled judges the certificate of the member that answers a dial to
// want, 0 for any.
func (r *Renewer) verifyDialled(cs tls.ConnectionState, want uint64) error {
	n, by, err := r.member(cs, x509.ExtKeyUsageServerAuth)
	switch {
	case err != nil:
		return err
	case want != 0 && n.Member != want:
		return refuse(ErrWrongHolder, "dialled member %x and %s answers: --initial-advertise-peer-urls of one of them names the other's address", want, n)
	case !r.o.Known(n.Member):
		return r.stranger(n)
	case by == byAdmission:
		certified, err := r.certified(n.Member)
		if err == nil && certified {
			err = alreadyCertified(n.Member)
		}
		return err
	}
	return nil
}

// Refusal implements Settings. A member with a certificate of the running CA was
// admitted by the cluster, also where this member has not heard of it yet: it may
// be the leader that has to tell it. Who was removed since is not pki's to know.
// Any other has to be in the member table, and must not be certified: who comes
// back without its certificate lost its data.
func (r *Renewer) Refusal(cs tls.ConnectionState) error {
	n, by, err := r.member(cs, x509.ExtKeyUsageClientAuth)
	if err != nil || by == byRunning {
		return err
	}
	if !r.o.Known(n.Member) {
		return r.stranger(n)
	}
	if by != byAdmission {
		return nil
	}
	certified, err := r.certified(n.Member)
	if err == nil && certified {
		err = alreadyCertified(n.Member)
	}
	return err
}

// PeerID implements Settings.
func (r *Renewer) PeerID(cs tls.ConnectionState) (uint64, error) {
	if len(cs.PeerCertificates) == 0 {
		return 0, errNoneShown
	}
	n, err := NameOf(cs.PeerCertificates[0])
	switch {
	case err != nil:
		return 0, err
	case n.Member == 0:
		return 0, refuse(ErrWrongHolder, "certificate of %s is not that of a member", n)
	}
	return n.Member, nil
}

var errNoneShown = refuse(ErrNoCertificate, "the other side showed no certificate: conclave's peer port is for members of the cluster only")

func alreadyCertified(id uint64) error {
	return refuse(ErrCertified, "member %x is already certified and comes back without its certificate, so its data was lost: remove it and add it again (conclave member remove %x, then conclave member add), and start it with --initial-cluster-state existing", id, id)
}

func (r *Renewer) stranger(n Name) error {
	return refuse(ErrNotMember, "%s is not a member of this cluster: add it first (member add), or give every member the same --initial-cluster or discovery source", n)
}

// certified tells whether the ledger has a certificate of the running CAs for
// the member. Before the ledger can be asked: no where the cluster has none
// here, else an error.
func (r *Renewer) certified(id uint64) (bool, error) {
	if c := r.cluster.Load(); c != nil {
		if view := (*c).Ledger(); view != nil {
			_, ok := view.Certified(id)
			return ok, nil
		}
	}
	if r.ring.Load().roots != nil {
		return false, refuse(ErrNotMember, "member %x shows an admission certificate while this member is still starting: it is tried again", id)
	}
	return false, nil
}

// member verifies that the other side's certificate is a member's of this trust
// domain, for the given use, now; and says which CA it is trusted by. It does
// not look at the member table.
func (r *Renewer) member(cs tls.ConnectionState, use x509.ExtKeyUsage) (Name, trust, error) {
	if len(cs.PeerCertificates) == 0 {
		return Name{}, 0, errNoneShown
	}
	leaf := cs.PeerCertificates[0]
	n, err := NameOf(leaf)
	switch {
	case err != nil || n.TrustDomain != r.trustDomain:
		return Name{}, 0, foreignError(leaf, r.trustDomain)
	case n.Member == 0:
		return Name{}, 0, refuse(ErrWrongHolder, "certificate of %s is refused on the peer port: clients use the client port (--listen-client-urls)", n)
	}
	by, err := r.trusted(leaf, cs.PeerCertificates[1:], use)
	if err != nil {
		return Name{}, 0, err
	}
	return n, by, nil
}

// trusted finds the CA that vouches for a member's certificate.
func (r *Renewer) trusted(leaf *x509.Certificate, rest []*x509.Certificate, use x509.ExtKeyUsage) (trust, error) {
	ring := r.ring.Load()
	if ring.roots != nil {
		err := r.chain(leaf, ring.roots.peer, nil, use)
		if !isUnknownAuthority(err) {
			return byRunning, err
		}
	}
	if r.o.Secret == nil {
		return 0, foreignError(leaf, r.trustDomain)
	}
	admission := r.o.Secret.admission.cert
	err := r.chain(leaf, admission, nil, use)
	if !isUnknownAuthority(err) {
		return byAdmission, err
	}
	// Who knows the running CA trusts no other, whoever signed it.
	if ring.roots != nil {
		return 0, foreignError(leaf, r.trustDomain)
	}
	if err = r.chain(leaf, admission, rest, use); isUnknownAuthority(err) {
		err = foreignError(leaf, r.trustDomain)
	}
	return byCross, err
}

// chain verifies leaf up to root, now.
func (r *Renewer) chain(leaf, root *x509.Certificate, between []*x509.Certificate, use x509.ExtKeyUsage) error {
	now := r.o.Now()
	o := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(),
		CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{use},
	}
	o.Roots.AddCert(root)
	for _, c := range between {
		o.Intermediates.AddCert(c)
	}
	_, err := leaf.Verify(o)
	if err == nil || isUnknownAuthority(err) {
		return err
	}
	if explained := Explain(err, r.trustDomain, now); isExplained(explained) {
		return explained
	}
	return fmt.Errorf("certificate of %s is not accepted: %w", holder(leaf), err)
}

func isUnknownAuthority(err error) bool {
	var unknown x509.UnknownAuthorityError
	return errors.As(err, &unknown)
}
