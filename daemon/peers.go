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
	if found && id.Removed != "" {
		return fmt.Errorf("%w (noted %s)", d.removed(id), id.Removed)
	}
	d.id, d.recorded, d.fresh = id, id, !found
	return nil
}

// findPeers completes the identity: from the data directory, whose member then
// keeps its id and only may be told other URLs or another name, or for a first
// start from the peer source.
func (d *Daemon) findPeers(ctx context.Context) error {
	if !d.fresh && (d.id.Started || !d.id.Joining) {
		d.log.Info().Str("data-dir", d.dir.path).Str("member-id", hex(d.id.MemberID)).
			Msg("continuing from the data directory; discovery is skipped")
		return d.resume()
	}
	source, err := d.source()
	if err != nil {
		return err
	}
	joining := d.cfg.InitialClusterState == ClusterStateExisting || d.id.Joining
	plan, err := bootstrap.Resolve(ctx, source, bootstrap.Self{
		Name:       d.cfg.Name,
		PeerURLs:   d.cfg.AdvertisePeerURLs.Strings(),
		ClientURLs: d.cfg.AdvertiseClientURLs.Strings(),
	}, bootstrap.Options{
		Token:   d.cfg.InitialClusterToken,
		Timeout: d.cfg.DiscoveryTimeout,
		Joining: joining,
		Log:     d.log,
	})
	if err != nil {
		return err
	}
	if err := d.checkSchemes(plan); err != nil {
		return err
	}
	if joining {
		if plan, d.witnesses, err = d.join(ctx, plan); err != nil {
			return err
		}
		d.log.Info().Str("cluster-id", hex(plan.ClusterID)).Str("member-id", hex(plan.Self)).Str("members", plan.Canonical()).
			Msg("joining a running cluster")
	}
	return d.identify(plan, joining)
}

// identify makes the identity of a first start. A start that joins and was
// interrupted keeps the name of its directory, which others may have recorded.
func (d *Daemon) identify(plan bootstrap.Plan, joining bool) error {
	instance := newInstance()
	if !d.fresh {
		if d.id.MemberID != plan.Self || d.id.ClusterID != plan.ClusterID {
			return fmt.Errorf("--data-dir %q was to become member %s of cluster %s, and the cluster now has this host as member %s of %s: start with an empty data directory",
				d.dir.path, hex(d.id.MemberID), hex(d.id.ClusterID), hex(plan.Self), hex(plan.ClusterID))
		}
		instance = d.id.Instance
	}
	d.id = identity{
		Format:     directoryFormat,
		Instance:   instance,
		ClusterID:  plan.ClusterID,
		MemberID:   plan.Self,
		Name:       plan.Name,
		PeerURLs:   plan.PeerURLs,
		ClientURLs: plan.ClientURLs,
		Token:      plan.Token,
		Members:    plan.Members,
		Joining:    joining,
	}
	d.recorded = d.id
	return d.fillURLs()
}

// resume has an existing member keep its name and its URLs unless others are
// given. The defaults of a first start are not among them: they would have a
// member with certificates serve clients in plain text.
func (d *Daemon) resume() error {
	d.id.Name = orDefault(d.given.Name, d.id.Name)
	if len(d.id.ClientURLs) == 0 { // restored, and starts for the first time
		d.id.ClientURLs = d.cfg.AdvertiseClientURLs.Strings()
	}
	if urls := d.given.AdvertiseClientURLs; len(urls) > 0 {
		d.id.ClientURLs = urls.Strings()
	}
	if urls := d.given.AdvertisePeerURLs; len(urls) > 0 {
		_, plain := urls.withScheme("http")
		if was := d.id.PeerURLs; len(was) > 0 && plain == strings.HasPrefix(was[0], "https://") {
			return fmt.Errorf("--initial-advertise-peer-urls %s: the members speak %s to each other, and this one advertised %s until now; keep the scheme",
				urls, strings.SplitN(was[0], ":", 2)[0], strings.Join(was, ","))
		}
		d.id.PeerURLs = urls.Strings()
	}
	if secret := d.cfg.ClusterSecretFile; secret != "" {
		for _, u := range d.id.PeerURLs {
			if strings.HasPrefix(u, "http://") {
				return fmt.Errorf("--cluster-secret-file %s: the member in --data-dir %q speaks plain text to the others (%s), and a running cluster does not change to TLS: restore a snapshot of it into members with https URLs, or start with --cluster-secret-file=",
					secret, d.dir.path, u)
			}
		}
	}
	d.cfg.ListenPeerURLs, d.cfg.ListenClientURLs = d.given.ListenPeerURLs, d.given.ListenClientURLs
	d.readGivenPeers()
	return d.fillURLs()
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
