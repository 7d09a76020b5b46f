package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/conclave-kv/conclave/api"
	"github.com/conclave-kv/conclave/bootstrap"
	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/pki"
	"github.com/conclave-kv/conclave/pki/ledger"
	"github.com/conclave-kv/conclave/raftstore"
)

// security is how the two ports are protected. The zero value is plaintext on
// both.
type security struct {
	settings pki.Settings // nil: plaintext
	renewer  *pki.Renewer // nil without conclave's own CA
	// named is whether certificates name members.
	named bool
	kept  bool // the renewer runs
}

// secure chooses how the ports are protected: by conclave's own CA when there
// is a cluster secret or the data directory has certificates of it, else by
// files, else not at all.
func (d *Daemon) secure(context.Context) error {
	own, err := d.ownCA()
	if err != nil {
		return err
	}
	if own {
		if d.cfg.PeerTLS.Given() || d.cfg.ClientTLS.Given() {
			return fmt.Errorf("certificates of one's own (--cert-file, --peer-cert-file and the like) are given, but the member in --data-dir %q has those of conclave's CA: leave them out, or restore a snapshot of the cluster into new members with them",
				d.dir.path)
		}
		return d.secureByCA()
	}
	files, err := d.fileTLS()
	if files != nil {
		d.security.settings = files
	}
	return err
}

// fileTLS is the protection by certificates of one's own, nil where there are
// none.
func (d *Daemon) fileTLS() (*pki.FileTLS, error) {
	if !d.cfg.PeerTLS.Given() && !d.cfg.ClientTLS.Given() {
		return nil, nil
	}
	lowest, highest := d.cfg.TLSVersions()
	suites, err := d.cfg.CipherSuiteIDs()
	if err != nil {
		return nil, err
	}
	options := pki.FileOptions{
		Peer:             d.cfg.PeerTLS.side(),
		Client:           d.cfg.ClientTLS.side(),
		SkipPeerSANCheck: d.cfg.PeerTLS.SkipClientSANVerify,
		MinVersion:       lowest,
		MaxVersion:       highest,
		CipherSuites:     suites,
		Now:              d.cfg.now(),
		Log:              d.log,
	}
	if d.cfg.DiscoverySRV != "" && d.cfg.PeerTLS.TrustedCAFile == "" {
		options.PeerServerName = d.cfg.DiscoverySRV
	}
	return pki.NewFileTLS(options)
}

func (t TLSFiles) side() pki.FileSide {
	return pki.FileSide{
		CertFile: t.CertFile, KeyFile: t.KeyFile,
		ClientCertFile: t.ClientCertFile, ClientKeyFile: t.ClientKeyFile,
		TrustedCAFile: t.TrustedCAFile, ClientCertAuth: t.ClientCertAuth, CRLFile: t.CRLFile,
		AllowedCNs: t.AllowedCNs, AllowedHostnames: t.AllowedHostnames,
	}
}

// ownCA reports whether conclave's own CA protects this member.
func (d *Daemon) ownCA() (bool, error) {
	if d.cfg.ClusterSecretFile != "" {
		return true, nil
	}
	_, err := os.Stat(d.dir.pkiPath())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// secret is the cluster secret, nil where no file is given.
func (d *Daemon) secret() (*pki.Secret, error) {
	if d.cfg.ClusterSecretFile == "" {
		return nil, nil
	}
	return pki.LoadSecret(d.cfg.ClusterSecretFile)
}

func (d *Daemon) secureByCA() error {
	secret, err := d.secret()
	if err != nil {
		return err
	}
	serverHosts := pki.HostsOf(slices.Concat(d.id.ClientURLs, d.id.PeerURLs, d.cfg.ListenClientURLs.Strings())...)
	if d.cfg.DiscoverySRV != "" {
		serverHosts = append(serverHosts, d.cfg.DiscoverySRV)
	}
	renewer, err := pki.NewRenewer(pki.RenewerOptions{
		Secret:      secret,
		SecretFile:  d.cfg.ClusterSecretFile,
		DataDir:     d.dir.path,
		Member:      d.id.MemberID,
		PeerHosts:   pki.HostsOf(d.id.PeerURLs...),
		ServerHosts: serverHosts,
		Known:       d.knownMember,
		Now:         d.cfg.now(),
		Log:         d.log,
	})
	if err != nil {
		return err
	}
	d.security = security{settings: renewer, renewer: renewer, named: true}
	return nil
}

// knownMember reports whether an id is in the member table or, while this member
// is starting, among those it found: its own table may be one of an earlier time,
// and one that joins comes through all that ever were.
func (d *Daemon) knownMember(id uint64) bool {
	if m := d.running.Load(); m != nil && m.View().Applied > 0 {
		members := m.View().Members
		if _, ok := members.Get(id); ok {
			return true
		}
		if d.isReady() || members.Removed(id) {
			return false
		}
	}
	return slices.ContainsFunc(d.id.Members, func(m bootstrap.Member) bool { return m.ID == id })
}

func (d *Daemon) isReady() bool {
	select {
	case <-d.ready:
		return true
	default:
		return false
	}
}

// keepCertificates keeps this member's certificates up to date from now on.
func (d *Daemon) keepCertificates() {
	if d.security.renewer == nil || d.security.kept {
		return
	}
	d.security.kept = true
	d.work.Go(func() {
		if err := d.security.renewer.Run(d.ctx, clusterOf{d}); err != nil && d.ctx.Err() == nil {
			d.fail(err)
		}
	})
}

// settleCertificates returns when the client port has a certificate.
func (d *Daemon) settleCertificates(ctx context.Context) error {
	r := d.security.renewer
	if r == nil {
		return nil
	}
	d.keepCertificates()
	for {
		swapped := r.Swapped()
		if _, server := r.Expiry(); !server.IsZero() {
			return nil
		}
		select {
		case <-swapped:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// clusterOf is the running member as its PKI sees it.
type clusterOf struct{ d *Daemon }

func (c clusterOf) Ledger() *ledger.View     { return c.d.member.View().Ledger }
func (c clusterOf) Changed() <-chan struct{} { return c.d.member.Changed() }
func (c clusterOf) IsLeader() bool           { return c.d.member.Leader() == c.d.id.MemberID }
func (c clusterOf) Propose(ctx context.Context, cmd []byte) error {
	return c.d.member.ProposeLedger(ctx, cmd)
}

// peerServer, peerClient, peerID and refusal are the settings of the peer port
// in the form of raftstore; nil means plaintext, or that certificates name
// nobody.
func (s security) peerServer() func() *tls.Config {
	if s.settings == nil || s.settings.PeerServer() == nil {
		return nil
	}
	return s.settings.PeerServer
}

func (s security) peerClient() func(uint64) *tls.Config {
	if s.settings == nil || s.settings.PeerClient(0) == nil {
		return nil
	}
	return s.settings.PeerClient
}

func (s security) peerID() func(tls.ConnectionState) (uint64, error) {
	if !s.named {
		return nil
	}
	return s.settings.PeerID
}

func (s security) refusal() func(tls.ConnectionState) error {
	if s.settings == nil {
		return nil
	}
	return func(cs tls.ConnectionState) error {
		err := s.settings.Refusal(cs)
		if errors.Is(err, pki.ErrNotMember) { // perhaps not yet
			return notYet{err}
		}
		return err
	}
}

// notYet is pki's refusal of who is not in the member table, in raftstore's
// terms: the other side tries again soon.
type notYet struct{ error }

func (e notYet) Unwrap() []error { return []error{e.error, raftstore.ErrNotMember} }

// clients are the settings of the client port; nil means plaintext.
func (s security) clients() *tls.Config {
	if s.settings == nil {
		return nil
	}
	return s.settings.ClientServer()
}

// certificates is the certificate service, nil without conclave's own CA.
func (s security) certificates() conclavepb.PKIServer {
	if s.renewer == nil {
		return nil
	}
	return issuer{PKIServer: s.renewer.Issuer()}
}

// issuer sorts the errors of the certificate service for the client port.
type issuer struct{ conclavepb.PKIServer }

// Issue has a certificate signed.
func (i issuer) Issue(ctx context.Context, r *conclavepb.IssueRequest) (*conclavepb.IssueResponse, error) {
	resp, err := i.PKIServer.Issue(ctx, r)
	switch {
	case errors.Is(err, pki.ErrRequest), errors.Is(err, pki.ErrPeerProfile), errors.Is(err, ledger.ErrRejected):
		return nil, fmt.Errorf("%w: %w", api.ErrCertificateRequest, err)
	case errors.Is(err, pki.ErrNoIssuer):
		return nil, fmt.Errorf("%w: %w", api.ErrCertificateUnavailable, err)
	}
	return resp, err
}

// now is the clock of certificates.
func (c Config) now() func() time.Time {
	if c.Now != nil {
		return c.Now
	}
	return time.Now
}
