package daemon

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/conclave-kv/conclave/api"
	"github.com/conclave-kv/conclave/auth/token"
	"github.com/conclave-kv/conclave/pki"
	"github.com/conclave-kv/conclave/raftstore"
)

// serve makes the door for clients; it opens when Ready is closed.
func (d *Daemon) serve(context.Context) error {
	server, err := api.New(api.Options{
		Backend:           d.member,
		Listeners:         d.clients,
		TLS:               d.security.clients(),
		Registry:          d.registry,
		Log:               d.log,
		Ready:             d.ready,
		Audit:             d.audit,
		SignedTokens:      d.signedTokens(),
		Certificates:      d.security.certificates(),
		CertificateUser:   d.certificateUser(),
		Profiling:         d.cfg.EnablePprof || d.cfg.LogLevel == "debug",
		NoGateway:         !d.cfg.EnableGRPCGateway,
		Origins:           d.cfg.CORS,
		Hosts:             d.cfg.HostWhitelist,
		Names:             hostNames(d.cfg.AdvertiseClientURLs, d.cfg.ListenClientURLs, d.cfg.ListenClientHTTPURLs),
		MaxRequestBytes:   int(d.cfg.MaxRequestBytes),
		MaxTxnOps:         int(d.cfg.MaxTxnOps),
		MaxStreams:        d.cfg.MaxConcurrentStreams,
		KeepaliveMinTime:  d.cfg.KeepAliveMinTime,
		KeepaliveInterval: d.cfg.KeepAliveInterval,
		KeepaliveTimeout:  d.cfg.KeepAliveTimeout,
		ElectionTimeout:   d.cfg.ElectionTimeout,
		RequestTimeout:    d.cfg.RequestTimeout(),

		WatchProgressInterval: d.cfg.WatchProgressInterval,
		SlowRequest:           cmp.Or(d.cfg.WarnRequest, -1),
		HandlingSeconds:       d.cfg.Metrics == MetricsExtensive,
	})
	if err != nil {
		return err
	}
	d.server = server
	d.onClose(d.closing("client port", server.Close))
	d.work.Go(func() {
		if err := server.Serve(); err != nil {
			d.fail(err)
		}
	})
	return nil
}

// awaitReady lets clients in as soon as there is a leader, this member has
// introduced itself and is level with the leader, and the client port has its
// certificate.
func (d *Daemon) awaitReady(ctx context.Context) error {
	// Where the CAs are known from before, certificates need not wait for the other
	// members, which perhaps refuse the ones there are.
	if _, formed := d.member.View().Ledger.Generation(); formed {
		d.keepCertificates()
	}
	report := time.NewTicker(10 * time.Second)
	defer report.Stop()
	for {
		changed, leader, links := d.member.Changed(), d.member.LeaderChanged(), d.mesh.Changed()
		if d.introduced() && d.level(ctx) {
			break
		}
		if err := d.strangers(); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-leader:
		case <-links:
		case <-report.C:
			d.log.Info().Str("leader", hex(d.member.Leader())).Msg("waiting for a quorum of the members")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := d.member.CheckAtStart(ctx); err != nil {
		return fmt.Errorf("--data-dir %q: %w", d.dir.path, err)
	}
	if err := d.settleCertificates(ctx); err != nil {
		return err
	}
	close(d.ready)
	return nil
}

// introduced reports whether the cluster knows this member by its name.
func (d *Daemon) introduced() bool {
	view := d.member.View()
	self, ok := view.Members.Get(d.id.MemberID)
	return ok && self.Name == d.id.Name && view.ClusterVersion != "" && d.member.Leader() != 0
}

// level returns when this member holds all that was acknowledged anywhere. The
// log need not say so of its last entries: without this, a read from this
// member's own state could go back behind what it answered before a restart.
func (d *Daemon) level(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.RequestTimeout())
	defer cancel()
	_, err := d.member.MemberList(ctx, true)
	return err == nil
}

// ID is this member's id, known once Ready is closed.
func (d *Daemon) ID() uint64 { return d.id.MemberID }

// Leader is the id of the leader as far as this member knows, 0 if none. It may
// be asked once Ready is closed.
func (d *Daemon) Leader() uint64 { return d.member.Leader() }

// HashKV is etcd's hash of the key-value history at this member's newest
// revision, for comparing members.
func (d *Daemon) HashKV() (revision int64, hash uint32, err error) {
	h, err := d.machine.HashKV(0)
	return h.Revision, h.Sum, err
}

// strangers fails when a majority of the peers this member knows are members of
// another cluster: then the data directory is in the wrong place.
func (d *Daemon) strangers() error {
	peers := d.mesh.Peers()
	var texts []string
	for _, p := range peers {
		if errors.Is(p.LastError, raftstore.ErrOtherCluster) || errors.Is(p.LastError, pki.ErrForeign) {
			texts = append(texts, strings.Join(p.URLs, ",")+": "+p.LastError.Error())
		}
	}
	if len(peers) == 0 || len(texts) <= len(peers)/2 {
		return nil
	}
	return fmt.Errorf("--data-dir %q belongs to cluster %s, but its peers are of another one (%s); give this member's own directory, or an empty one", d.dir.path, hex(d.id.ClusterID), strings.Join(texts, "; "))
}

// hostNames are the hosts of the URLs, in lower case.
func hostNames(lists ...URLs) []string {
	var out []string
	for _, urls := range lists {
		for _, u := range urls {
			out = append(out, strings.ToLower(u.Hostname()))
		}
	}
	return out
}

// certificateUser finds users in clients' certificates, where those are demanded.
func (d *Daemon) certificateUser() func(*x509.Certificate) string {
	if d.security.renewer == nil && !d.cfg.ClientTLS.ClientCertAuth {
		return nil
	}
	return token.CertificateUser(cmp.Or(d.cfg.ClientCertUser, certUserDefault))
}
