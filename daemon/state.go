package daemon

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"slices"

	"github.com/conclave-kv/conclave/bootstrap"
	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/member"
	"github.com/conclave-kv/conclave/pki"
	"github.com/conclave-kv/conclave/raftstore"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// connect opens the sessions with the peers.
func (d *Daemon) connect(context.Context) error {
	claims := raftstore.NewClaims()
	if !d.fresh {
		var err error
		if claims, err = raftstore.LoadClaims(d.dir.claimsPath()); err != nil {
			return fmt.Errorf("--data-dir %q: %w", d.dir.path, err)
		}
	}
	d.claims = claims
	d.mesh = raftstore.NewMesh(raftstore.MeshConfig{
		Self:            d.id.MemberID,
		ClusterID:       d.id.ClusterID,
		Instance:        d.id.Instance,
		Plan:            d.id.planText(),
		ServerTLS:       d.peerServer(),
		ClientTLS:       d.security.peerClient(),
		PeerID:          d.security.peerID(),
		Refusal:         d.security.refusal(),
		Admit:           d.admit,
		Addresses:       d.moreAddresses,
		Dial:            d.dial(),
		HTTP:            http.HandlerFunc(d.peerHTTP),
		ElectionTimeout: d.cfg.ElectionTimeout,
		Log:             d.log,
		Registry:        d.registry,
	})
	d.onClose(d.mesh.Close)
	for _, ln := range d.peers {
		d.mesh.Serve(ln)
	}
	peers := make(map[uint64][]string)
	for _, m := range d.id.Members {
		if m.ID != d.id.MemberID {
			peers[m.ID] = m.PeerURLs
		}
	}
	d.mesh.SetPeers(peers)
	d.work.Go(func() {
		select {
		case err := <-d.mesh.Duplicate():
			d.fail(fmt.Errorf("--data-dir %q: %w", d.dir.path, err))
		case <-d.ctx.Done():
		}
	})
	return nil
}

// peerServer is how the peer port is protected: by TLS if any of its URLs says
// so. Certificates beside plain URLs are ignored, as etcd does, with a warning.
func (d *Daemon) peerServer() func() *tls.Config {
	if _, ok := d.cfg.ListenPeerURLs.withScheme("https"); !ok {
		return nil
	}
	return d.security.peerServer()
}

func (d *Daemon) dial() func(context.Context, string, string) (net.Conn, error) {
	if d.cfg.Dial != nil {
		return d.cfg.Dial
	}
	return d.resolver.DialContext
}

// agree has a first start agreed by a majority of the planned members; until
// then nothing is on disk.
func (d *Daemon) agree(ctx context.Context) error {
	agreement := raftstore.Agreement{
		Mesh:       d.mesh,
		Claims:     d.claims,
		Self:       d.id.MemberID,
		Instance:   d.id.Instance,
		Joining:    d.id.Joining,
		Prepare:    func() error { return d.dir.save(d.id) },
		Undo:       d.dir.discard,
		ClaimsPath: d.dir.claimsPath(),
		Hopeless:   func(err error) bool { return errors.Is(err, pki.ErrForeign) },
		Log:        d.log,
	}
	everybody := agreement
	for _, m := range d.id.Members {
		everybody.Members = append(everybody.Members, m.ID)
	}
	agreement.Members = everybody.Members
	if d.id.Joining {
		agreement.Members = append(slices.Clone(d.witnesses), d.id.MemberID)
	}
	err := d.dir.stateThere()
	if d.id.Started && err != nil && !d.dir.hasLog() { // with the log, the state is made again from it
		return fmt.Errorf("--data-dir %q has lost the state of member %s (%s): %w; restore the directory, or remove the member from the cluster (conclave member remove %[3]s), add it again (conclave member add) and start with an empty directory and --initial-cluster-state existing", d.dir.path, d.id.Name, hex(d.id.MemberID), err)
	}
	restored := origin(d.id.Instance) != "" && !d.id.Started // its state was there before anybody agreed
	if !d.fresh && err == nil && !restored {
		d.claims.Serve(d.mesh)
	} else if err := agreement.Agree(ctx); err != nil {
		return fmt.Errorf("start of member %s (%s): %w", d.id.Name, hex(d.id.MemberID), err)
	}
	d.work.Go(func() { everybody.TellAll(d.ctx) })
	return nil
}

// openState opens the state file and the log, and starts the member.
func (d *Daemon) openState(context.Context) error {
	if err := raftstore.Recover(d.dir.wal, d.dir.statePath(), d.log); err != nil {
		return fmt.Errorf("--data-dir %q: %w", d.dir.path, err)
	}
	machine, err := fsm.Open(fsm.Options{
		Path: d.dir.statePath(), Quota: d.cfg.stateFileBound(),
		PruneStep: int(min(d.cfg.CompactionBatchLimit, math.MaxInt32)), PruneApart: d.cfg.CompactionSleepInterval > 0, Log: d.log,
	})
	if err != nil {
		return fmt.Errorf("--data-dir %q: %w", d.dir.path, err)
	}
	d.machine = machine
	d.table.Store(machine)
	if !d.id.Started { // from here on it may vote
		d.id.Started = true
		if err := d.record(func(id *identity) { id.Started = true }); err != nil {
			return errors.Join(err, machine.Close())
		}
	}
	d.onClose(d.closing("state file", machine.Close))
	d.mesh.KnowRemoved(func(id uint64) bool { return machine.View().Members.Removed(id) })
	d.member = member.New(d.memberConfig(), d.mesh, machine)
	d.node, err = raftstore.Open(raftstore.Config{
		Dir:                    d.dir.wal,
		State:                  d.dir.statePath(),
		SnapshotCount:          d.cfg.SnapshotCount,
		SnapshotCatchUpEntries: d.cfg.SnapshotCatchUpEntries,
		Self:                   d.id.MemberID,
		Mesh:                   d.mesh,
		Machine:                machine,
		Bootstrap:              d.firstMembership(),
		Join:                   d.id.Joining,
		OpenTerm:               func(term uint64) []byte { return member.OpenTerm(d.id.MemberID, term) },
		ElectionTimeout:        d.cfg.ElectionTimeout,
		RequestTimeout:         d.cfg.RequestTimeout(),
		PreVote:                d.cfg.PreVote,
		SlowApply:              cmp.Or(d.cfg.WarnApply, 1),
		Fatal:                  d.fail,
		Log:                    d.log,
		Registry:               d.registry,
	})
	if err != nil {
		return fmt.Errorf("--data-dir %q: %w", d.dir.path, err)
	}
	d.onClose(d.member.Stop)
	d.onClose(d.closing("raft", d.node.Close))
	d.member.Start(d.node)
	d.running.Store(d.member)
	d.work.Go(d.followRemoval)
	d.work.Go(d.announceMove)
	d.claims.KnowStarted(func(id uint64) bool {
		m, ok := d.member.View().Members.Get(id)
		return ok && m.Name != ""
	})
	return nil
}

func (d *Daemon) memberConfig() member.Config {
	keep, _ := d.cfg.compaction() // Validate has read both
	jwt, _ := d.cfg.jwt()
	return member.Config{
		ID:              d.id.MemberID,
		ClusterID:       d.id.ClusterID,
		Name:            d.id.Name,
		ClientURLs:      d.id.ClientURLs,
		RequestTimeout:  d.cfg.RequestTimeout(),
		MaxRequestBytes: int(d.cfg.MaxRequestBytes),
		Quota:           d.cfg.QuotaBackendBytes,
		Compaction:      keep,
		CompactionBatch: d.cfg.CompactionBatchLimit,
		CompactionSleep: d.cfg.CompactionSleepInterval,
		StrictReconfig:  d.cfg.StrictReconfigCheck,
		MaxLearners:     int(d.cfg.MaxLearners),
		MemberID:        bootstrap.MemberID,

		InitialCorruptCheck:  d.cfg.InitialCorruptCheck,
		CompactHashCheck:     d.cfg.CompactHashCheck,
		CompactHashCheckTime: d.cfg.CompactHashCheckTime,
		CorruptCheckTime:     d.cfg.CorruptCheckTime,

		BackgroundDefrag: d.cfg.BackgroundDefrag,
		DefragAtStart:    int64(d.cfg.DefragAtStart) << 20,

		ElectionTimeout: d.cfg.ElectionTimeout,

		Passwords: d.passwords(),
		JWT:       jwt,
		TokenTTL:  d.cfg.tokenTTL(),

		MinPassword: int(d.cfg.AuthMinPasswordLength),

		FirstBatch: firstBatch(),
		Fatal:      d.fail,
		Log:        d.log,
		Registry:   d.registry,
	}
}

func (d *Daemon) firstMembership() *conclavepb.Configuration {
	conf := &conclavepb.Configuration{}
	for _, m := range d.id.Members {
		conf.Servers = append(conf.Servers, &conclavepb.Server{Id: m.ID, PeerUrls: m.PeerURLs})
	}
	return conf
}
