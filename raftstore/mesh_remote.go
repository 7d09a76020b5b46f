package raftstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// remote is one peer: the pair of connections with it, and what is asked of
// it. Requests are joined to answers here, not on a connection, because the
// two travel on different ones.
type remote struct {
	mesh *Mesh
	id   uint64
	text string // id as metrics and logs show it

	sent, received  prometheus.Counter // bytes
	unsent, unheard prometheus.Counter // messages
	trips           prometheus.Observer
	handling        atomic.Int32

	mu       sync.Mutex
	urls     []string
	stopDial context.CancelFunc // nil: not dialled
	stay     context.CancelFunc // ends the grace of a former peer; nil: none
	removed  bool
	in, out  *session // dialled by the peer, dialled by us
	instance string
	since    time.Time
	// duplicate is since when the peer refuses this process because of
	// another one under its id; zero: it does not.
	duplicate time.Time
	lastErr   error
	logged    string
	rtt       time.Duration
	skew      time.Duration
	pending   map[uint64]*pendingCall
	calls     int
}

func newRemote(m *Mesh, id uint64) *remote {
	r := &remote{mesh: m, id: id, text: fmt.Sprintf("%x", id), pending: map[uint64]*pendingCall{}}
	m.metrics.known(r)
	return r
}

func (r *remote) listed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopDial != nil
}

// hears says whether the peer has a connection to us.
func (r *remote) hears() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.in != nil
}

// reaches says whether we have a connection to the peer.
func (r *remote) reaches() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out != nil
}

// redial dials urls from now on, if they are not what is dialled already. The
// connection there is stays until the new one takes over.
func (r *remote) redial(urls []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopDial != nil && slices.Equal(r.urls, urls) {
		return
	}
	if r.stopDial != nil {
		r.stopDial()
	}
	if r.stay != nil {
		r.stay()
		r.stay = nil
	}
	r.urls = slices.Clone(urls)
	ctx, cancel := context.WithCancel(r.mesh.ctx)
	r.stopDial = cancel
	r.mesh.wg.Go(func() { r.dialLoop(ctx, urls) })
}

// remove ends the dialling and both connections.
func (r *remote) remove() {
	r.mu.Lock()
	r.removed = true
	if r.stopDial != nil {
		r.stopDial()
	}
	if r.stay != nil {
		r.stay()
	}
	in, out := r.in, r.out
	r.mu.Unlock()
	for _, s := range []*session{in, out} {
		if s != nil {
			s.close(errNotListed)
		}
	}
	r.mesh.metrics.forget(r)
}

// note keeps err as the peer's last error, and logs it once until it changes.
func (r *remote) note(err error) {
	r.mu.Lock()
	fresh := sameTrouble(err) != r.logged
	r.lastErr, r.logged = err, sameTrouble(err)
	r.mu.Unlock()
	if r.mesh.ctx.Err() != nil {
		return
	}
	r.mesh.announce()
	if fresh {
		r.mesh.cfg.Log.Warn().Str("remote-peer-id", r.text).Err(err).Msg("connection with peer failed")
	}
}

// route is the connection that a frame to the peer travels on: the one it
// dialled, and only while it has none the one we dialled.
func (r *remote) route() *session {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.in != nil {
		return r.in
	}
	return r.out
}

// send queues f on the peer's connection, waiting for room until ctx ends. An
// error is definite: f was not and will not be sent.
func (r *remote) send(ctx context.Context, l laneID, f *outFrame) error {
	for {
		s := r.route()
		if s == nil {
			f.release()
			r.unsent.Inc()
			return r.unreachable()
		}
		err := s.send(ctx, l, f)
		if err == nil {
			return nil
		}
		if !errors.Is(err, errSessionClosed) {
			r.unsent.Inc()
			return err
		}
		r.detach(s, s.endCause())
	}
}

// trySend queues f if there is room, and drops it otherwise.
func (r *remote) trySend(l laneID, f *outFrame) bool {
	if r.sendNow(l, f) {
		return true
	}
	f.release()
	r.unsent.Inc()
	return false
}

// sendNow queues f if there is room.
func (r *remote) sendNow(l laneID, f *outFrame) bool {
	s := r.route()
	if s == nil {
		return false
	}
	queued, _ := s.enqueue(l, f)
	return queued
}

func (r *remote) unreachable() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lastErr == nil {
		return fmt.Errorf("%w: %s", ErrUnreachable, r.text)
	}
	return fmt.Errorf("%w: %s: %w", ErrUnreachable, r.text, r.lastErr)
}

func (r *remote) measured(trip, skew time.Duration) {
	r.trips.Observe(trip.Seconds())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rtt, r.skew = trip, skew
}

func (r *remote) status() PeerStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return PeerStatus{
		ID: r.id, URLs: slices.Clone(r.urls), Instance: r.instance,
		Inbound: r.in != nil, Outbound: r.out != nil,
		Since: r.since, LastError: r.lastErr, RTT: r.rtt, Skew: r.skew,
	}
}
