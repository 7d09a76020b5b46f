package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/conclave-kv/conclave/bootstrap"
	"github.com/conclave-kv/conclave/bootstrap/dnssrv"
)

// openDirectory locks the data directory and reads who it belongs to.
func (d *Daemon) openDirectory(context.Context) error {
	dir, err := openDataDir(d.cfg.DataDir, d.cfg.WalDir)
	if err != nil {
		return err
	}
	d.dir = dir
	d.onClose(d.closing("data directory", dir.close))
	id, found, err := dir.load()
	if err != nil {
		return err
	}
	d.id, d.fresh = id, !found
	return nil
}

// findPeers completes the identity: from the data directory, whose member then
// keeps its id and only may be told other URLs or another name, or for a first
// start from the peer source.
func (d *Daemon) findPeers(ctx context.Context) error {
	if !d.fresh {
		d.resume()
		d.log.Info().Str("data-dir", d.dir.path).Str("member-id", hex(d.id.MemberID)).
			Msg("continuing from the data directory; discovery is skipped")
		return d.fillURLs()
	}
	if d.cfg.InitialClusterState == ClusterStateExisting {
		return fmt.Errorf("--initial-cluster-state %q: this version cannot add a member to a running cluster; start all first members with --initial-cluster-state %q", ClusterStateExisting, ClusterStateNew)
	}
	source, err := d.source()
	if err != nil {
		return err
	}
	plan, err := bootstrap.Resolve(ctx, source, bootstrap.Self{
		Name:       d.cfg.Name,
		PeerURLs:   d.cfg.AdvertisePeerURLs.Strings(),
		ClientURLs: d.cfg.AdvertiseClientURLs.Strings(),
	}, bootstrap.Options{
		Token:   d.cfg.InitialClusterToken,
		Timeout: d.cfg.DiscoveryTimeout,
		Log:     d.log,
	})
	if err != nil {
		return err
	}
	d.id = identity{
		Format:     directoryFormat,
		Instance:   newInstance(),
		ClusterID:  plan.ClusterID,
		MemberID:   plan.Self,
		Name:       plan.Name,
		PeerURLs:   plan.PeerURLs,
		ClientURLs: plan.ClientURLs,
		Token:      plan.Token,
		Members:    plan.Members,
	}
	if err := d.checkSchemes(plan); err != nil {
		return err
	}
	return d.fillURLs()
}

// resume has an existing member keep its name and its URLs unless others are
// given. The defaults of a first start are not among them: they would have a
// member with certificates serve clients in plain text.
func (d *Daemon) resume() {
	d.id.Name = orDefault(d.given.Name, d.id.Name)
	if urls := d.given.AdvertiseClientURLs; len(urls) > 0 {
		d.id.ClientURLs = urls.Strings()
	}
	d.cfg.ListenPeerURLs, d.cfg.ListenClientURLs = d.given.ListenPeerURLs, d.given.ListenClientURLs
}

// checkSchemes refuses a plan whose members would not all speak TLS to each
// other, or not all plaintext, or speak TLS without certificates.
func (d *Daemon) checkSchemes(plan bootstrap.Plan) error {
	secure := plan.Secure || d.cfg.ClusterSecretFile != ""
	if secure && d.cfg.ClusterSecretFile == "" && d.cfg.PeerTLS.CertFile == "" {
		return fmt.Errorf("peer URL %s is https, but neither --cluster-secret-file nor --peer-cert-file is given; give one, or make the URL http", strings.Join(plan.PeerURLs, ","))
	}
	for _, m := range plan.Members {
		for _, u := range m.PeerURLs {
			switch isTLS := strings.HasPrefix(u, "https://"); {
			case isTLS == secure:
			case secure:
				return fmt.Errorf("peer URL %s of %s is plaintext, but this member speaks TLS to its peers (--cluster-secret-file or --peer-cert-file); make it https, or start without TLS", u, m.Name)
			default:
				return fmt.Errorf("peer URL %s of %s is https, but this member speaks plaintext to its peers; give --cluster-secret-file or --peer-cert-file and https URLs, or make it http", u, m.Name)
			}
		}
	}
	return nil
}

// source is where the first peers come from; Validate allows only one.
func (d *Daemon) source() (bootstrap.Source, error) {
	if d.cfg.DiscoverySRV != "" {
		return &dnssrv.Source{
			Resolver:     d.resolver,
			Domain:       d.cfg.DiscoverySRV,
			Name:         d.cfg.DiscoverySRVName,
			Secure:       d.cfg.PeerTLS.scheme(d.cfg.ClusterSecretFile) == "https",
			ClientSecure: d.cfg.ClientTLS.scheme(d.cfg.ClusterSecretFile) == "https",
		}, nil
	}
	peers, err := bootstrap.ParseInitialCluster(d.cfg.InitialCluster)
	if err != nil {
		return nil, err
	}
	return &bootstrap.Static{Peers: peers, Hosts: d.resolver.LookupHost}, nil
}

// fillURLs derives what to listen on where that was not given: every address of
// this host, at the ports that are advertised, and loopback alone where that is
// what is advertised.
func (d *Daemon) fillURLs() error {
	fill := func(listen *URLs, advertised []string, flag string) error {
		if len(*listen) > 0 {
			return nil
		}
		for _, u := range advertised {
			parsed, err := ParseURLs(u)
			if err != nil {
				return fmt.Errorf("%s: %w", flag, err)
			}
			if !local(parsed[0].Hostname()) {
				parsed[0].Host = ":" + parsed[0].Port()
			}
			*listen = append(*listen, parsed[0])
		}
		return nil
	}
	if err := fill(&d.cfg.ListenPeerURLs, d.id.PeerURLs, "--initial-advertise-peer-urls"); err != nil {
		return err
	}
	return fill(&d.cfg.ListenClientURLs, d.id.ClientURLs, "--advertise-client-urls")
}

// local reports whether a host can only be reached from this one.
func local(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func hex(id uint64) string { return fmt.Sprintf("%x", id) }
