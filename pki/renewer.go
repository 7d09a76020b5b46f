package pki

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	pb "github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/pki/ledger"
)

// Cluster is what a Renewer needs of the running member. Methods are called
// from Run's goroutine and from those of TLS handshakes.
type Cluster interface {
	// Ledger returns this member's newest agreed state, nil before there is any.
	// It is the same View as before while the ledger has not changed.
	Ledger() *ledger.View
	// Changed returns a channel that is closed when the ledger next changes; it
	// may be closed for other changes too. It is taken before Ledger is read.
	Changed() <-chan struct{}
	// IsLeader tells whether this member believes to lead.
	IsLeader() bool
	// Propose has a ledger command agreed and returns its answer as applied
	// here: nil, or an error (wrapping ledger.ErrRejected if refused).
	Propose(ctx context.Context, cmd []byte) error
}

// RenewerOptions describe a member to its PKI.
type RenewerOptions struct {
	// Secret may be nil for a member that holds certificates already; then
	// nothing is renewed.
	Secret *Secret
	// SecretFile is the path Secret came from, for messages.
	SecretFile string
	// DataDir is the member's data directory; <DataDir>/pki is made when the
	// cluster has CAs, not before.
	DataDir string
	Member  uint64
	// PeerHosts are the names and addresses others dial this member's peer port
	// by.
	PeerHosts []string
	// ServerHosts are those of the client port: advertised, listened on, and
	// the SRV domain. localhost, 127.0.0.1 and ::1 are added.
	ServerHosts []string
	// Known tells whether id is in the member table, or planned while there is
	// none. It must not block.
	Known func(id uint64) bool
	// Now is the clock, time.Now where nil.
	Now func() time.Time
	// Lifetime of this member's certificates, MemberLifetime where 0.
	Lifetime time.Duration
	Log      zerolog.Logger
}

// Renewer is the PKI of a running member.
type Renewer struct {
	o           RenewerOptions
	trustDomain string

	mu      sync.Mutex // one writer of ring
	ring    atomic.Pointer[keyring]
	cluster atomic.Pointer[Cluster]
	port    atomic.Pointer[portConfig] // made from ring at the first handshake
	swapped chan struct{}              // under mu: closed when the own certificate changes

	settled chan struct{} // closed by Run: see Certified
}

// keyring is everything a handshake needs. It never changes; a new one takes
// its place.
type keyring struct {
	roots     *roots         // nil: the cluster has no CAs that are known here
	source    *pb.Generation // what roots were read from
	cas       *authorities   // nil: cannot issue
	peer      *credential
	admission bool        // peer is an admission certificate
	server    *credential // nil: the client port has no certificate yet
}

// NewRenewer prepares the PKI of a member: from the data directory where the
// member was part of a cluster before, with fresh certificates if those there
// have expired, else with an admission certificate. It writes nothing unless
// the data directory holds CAs already.
func NewRenewer(o RenewerOptions) (*Renewer, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	setBridge(o.Log)
	r := &Renewer{o: o, swapped: make(chan struct{}), settled: make(chan struct{})}
	m, err := loadMirror(o.DataDir)
	switch {
	case err == nil:
		return r, r.resume(m)
	case !errors.Is(err, ErrNoMirror):
		return nil, fmt.Errorf("--data-dir: %w", err)
	case o.Secret == nil:
		return nil, fmt.Errorf("%w: this member has no certificates yet and needs the cluster secret; make one with `conclave cluster-secret new` and give the same file to every member", ErrSecretFile)
	}
	r.trustDomain = o.Secret.trustDomain
	c, err := r.issueAdmission()
	if err != nil {
		return nil, err
	}
	r.ring.Store(&keyring{peer: c, admission: true})
	return r, nil
}

// complete fills in defaults and checks.
func (o *RenewerOptions) complete() error {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Lifetime == 0 {
		o.Lifetime = MemberLifetime
	}
	if o.SecretFile == "" {
		o.SecretFile = "given"
	}
	if o.Member == 0 || o.Known == nil {
		return errors.New("a renewer needs the member's id and a member table")
	}
	var err error
	if o.PeerHosts, err = cleanHosts(o.PeerHosts); err != nil {
		return fmt.Errorf("--initial-advertise-peer-urls: %w", err)
	}
	if len(o.PeerHosts) == 0 {
		return errors.New("--initial-advertise-peer-urls: no host that a certificate could name")
	}
	if o.ServerHosts, err = cleanHosts(append(slices.Clone(o.ServerHosts), "localhost", "127.0.0.1", "::1")); err != nil {
		return fmt.Errorf("--advertise-client-urls: %w", err)
	}
	return nil
}

// resume starts from the mirror of an earlier run.
func (r *Renewer) resume(m *pb.Mirror) error {
	if m.GetMember() != r.o.Member {
		return fmt.Errorf("--data-dir %s belongs to member %x, and name and URLs given make this member %x: use another directory, or the member's own flags",
			r.o.DataDir, m.GetMember(), r.o.Member)
	}
	g := m.GetGeneration()
	r.trustDomain = g.GetTrustDomain()
	if s := r.o.Secret; s != nil && s.trustDomain != r.trustDomain {
		return fmt.Errorf("%w %s is of trust domain %s, and --data-dir %s belongs to a cluster of trust domain %s: use that cluster's file, or another directory",
			ErrSecretFile, r.o.SecretFile, s.trustDomain, r.o.DataDir, r.trustDomain)
	}
	ring, err := r.openRing(g)
	if err != nil {
		return err
	}
	ring.peer, ring.server = r.loadOwn(ring.roots)
	r.ring.Store(ring)
	if err := r.renew(); err != nil {
		if ring.peer.usable(r.o.Now()) && ring.server.usable(r.o.Now()) {
			r.o.Log.Warn().Err(err).Msg("certificates not renewed at start; the present ones are used")
			return nil
		}
		return err
	}
	return nil
}

// openRing reads a generation and, with the secret, its keys.
func (r *Renewer) openRing(g *pb.Generation) (*keyring, error) {
	roots, err := parseGeneration(g)
	if err != nil {
		return nil, err
	}
	ring := &keyring{roots: roots, source: g}
	if r.o.Secret == nil {
		return ring, nil
	}
	if ring.cas, err = r.o.Secret.openGeneration(g); err != nil {
		return nil, fmt.Errorf("open the running CAs with --cluster-secret-file %s: %w", r.o.SecretFile, err)
	}
	return ring, nil
}

// loadOwn reads this member's certificates; what does not fit the CAs and the
// member is as good as missing.
func (r *Renewer) loadOwn(roots *roots) (peer, server *credential) {
	load := func(name string, ca *x509.Certificate) *credential {
		c, err := loadCredential(mirrorPath(r.o.DataDir, name))
		if err == nil {
			err = r.fits(c, ca)
		}
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				r.o.Log.Warn().Err(err).Str("file", name).Msg("stored certificate is not used")
			}
			return nil
		}
		return c
	}
	return load(mirrorPeer, roots.peer), load(mirrorServer, roots.clientCA)
}

// fits checks a stored certificate against its CA and this member's id.
func (r *Renewer) fits(c *credential, ca *x509.Certificate) error {
	if err := c.leaf().CheckSignatureFrom(ca); err != nil {
		return err
	}
	n, err := NameOf(c.leaf())
	if err != nil {
		return err
	}
	if n.TrustDomain != r.trustDomain || n.Member != r.o.Member {
		return fmt.Errorf("it is that of %s of trust domain %s", n, n.TrustDomain)
	}
	return nil
}

// TrustDomain returns the cluster's trust domain.
func (r *Renewer) TrustDomain() string { return r.trustDomain }

// Expiry returns the ends of this member's certificates; the zero time for a
// server certificate it does not have yet.
func (r *Renewer) Expiry() (peer, server time.Time) {
	ring := r.ring.Load()
	if ring.server != nil {
		server = ring.server.leaf().NotAfter
	}
	return ring.peer.leaf().NotAfter, server
}

// Swapped returns a channel that is closed when this member next gets another
// peer certificate: connections made with the present one should be made anew.
func (r *Renewer) Swapped() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.swapped
}

// swap puts a new keyring in place. The caller holds mu.
func (r *Renewer) swap(ring *keyring) {
	r.ring.Store(ring)
	close(r.swapped)
	r.swapped = make(chan struct{})
}

// Certified returns a channel that is closed once this member holds
// certificates of the running CAs and the cluster has noted it: from then on
// the client port can serve.
func (r *Renewer) Certified() <-chan struct{} { return r.settled }
