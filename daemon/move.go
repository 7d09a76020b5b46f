package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/conclave-kv/conclave/bootstrap"
	"github.com/conclave-kv/conclave/member"
)

// retryMove is the pause before a change of this member's own peer URLs that
// failed is tried again.
const retryMove = time.Second

// announceMove has the cluster use the peer URLs that this member was restarted
// with, where they are others than at its last start, until that is agreed. A
// change that was made by hand since (member update) stays as long as the flag
// does.
func (d *Daemon) announceMove() {
	d.recording.Lock()
	before := d.recorded.PeerURLs
	d.recording.Unlock()
	if slices.Equal(d.id.PeerURLs, before) {
		return
	}
	d.log.Info().Strs("from", before).Strs("to", d.id.PeerURLs).
		Msg("--initial-advertise-peer-urls has changed; telling the cluster")
	for {
		err := d.tellMove()
		switch {
		case err == nil:
			d.log.Info().Strs("peer-urls", d.id.PeerURLs).Msg("the cluster uses this member's new peer URLs")
			return
		case d.ctx.Err() != nil:
			return
		case errors.Is(err, member.ErrPeerURLExists):
			d.fail(fmt.Errorf("--initial-advertise-peer-urls %s: another member of the cluster has one of them (conclave member list shows which); give this member's own", strings.Join(d.id.PeerURLs, ",")))
			return
		}
		d.log.Warn().Err(err).Msg("the cluster does not know this member's new peer URLs yet")
		select {
		case <-time.After(retryMove):
		case <-d.ctx.Done():
			return
		}
	}
}

func (d *Daemon) tellMove() error {
	self, ok := d.member.View().Members.Get(d.id.MemberID)
	if !ok || !slices.Equal(self.PeerURLs, d.id.PeerURLs) {
		ctx, cancel := context.WithTimeout(d.ctx, d.cfg.RequestTimeout())
		defer cancel()
		if err := d.member.Relocate(ctx, d.id.PeerURLs); err != nil {
			return err
		}
	}
	return d.record(func(id *identity) { id.PeerURLs = d.id.PeerURLs })
}

// moreAddresses adds to a member's peer URLs those that --initial-cluster gives
// for its name at a restart, so that members whose hosts all have moved find
// each other.
func (d *Daemon) moreAddresses(id uint64, urls []string) []string {
	if len(d.givenPeers) == 0 {
		return urls
	}
	out := slices.Clone(urls)
	for _, u := range d.givenPeers[d.nameOf(id)] {
		if !slices.Contains(out, u) {
			out = append(out, u)
		}
	}
	return out
}

// nameOf is the name a member has published or, before this member's state is
// open, was first known by.
func (d *Daemon) nameOf(id uint64) string {
	if m := d.table.Load(); m != nil {
		if e, ok := m.View().Members.Get(id); ok && e.Name != "" {
			return e.Name
		}
	}
	i := slices.IndexFunc(d.id.Members, func(m bootstrap.Member) bool { return m.ID == id })
	if i < 0 {
		return ""
	}
	return d.id.Members[i].Name
}

// readGivenPeers keeps the addresses of --initial-cluster by member name. At a
// restart they only help, so that a list that cannot be read is not used.
func (d *Daemon) readGivenPeers() {
	if d.given.InitialCluster == "" {
		return
	}
	peers, err := bootstrap.ParseInitialCluster(d.given.InitialCluster)
	if err != nil {
		d.log.Warn().Err(err).Msg("--initial-cluster is not used to find the peers")
		return
	}
	d.givenPeers = make(map[string][]string)
	for _, p := range peers {
		d.givenPeers[p.Name] = p.PeerURLs
	}
}
