package raftstore

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// ALPNPeer is the protocol of sessions between members, in TLS's negotiation.
const ALPNPeer = "conclave-peer/1"

// Kind says what a call asks for. Kinds from 1<<24 on are the transport's.
type Kind uint32

// raftKinds is the first of the kinds that carry raft's own messages.
const raftKinds Kind = 1 << 24

// Handler answers a call of member from. Handlers run concurrently, each on a
// goroutine of its own, at most 1,024 for each member; ctx ends when the asker
// stops waiting or the Mesh closes. The payload is the handler's to keep.
type Handler func(ctx context.Context, from uint64, payload []byte) ([]byte, error)

// Hello is who speaks at the other end of a connection.
type Hello struct {
	From     uint64
	Instance string
}

// MeshConfig is what a Mesh needs.
type MeshConfig struct {
	// Self and ClusterID are this member's id and its cluster's.
	Self, ClusterID uint64
	// Instance is the random id of this member's data directory.
	Instance string
	// Plan says in one line which cluster this is. It is shown to a member
	// of another cluster, on both sides. At most 1 KiB is sent.
	Plan string
	// ServerTLS gives the settings for accepted connections; nil means
	// plaintext. It is asked once for each connection.
	ServerTLS func() *tls.Config
	// ClientTLS gives the settings for a connection to that member; nil means
	// that https URLs cannot be dialled.
	ClientTLS func(peer uint64) *tls.Config
	// PeerID reads the member id from a verified certificate; it must be the
	// id of the hello. Nil: the hello is trusted.
	PeerID func(tls.ConnectionState) (uint64, error)
	// Refusal may refuse an established TLS connection with a reason that
	// the other side is told. Nil refuses none.
	Refusal func(tls.ConnectionState) error
	// Admit says whether that id may speak from that data directory; it is
	// asked for both directions, and the text of an error is sent to the
	// dialling side. Nil admits all.
	Admit func(Hello) error
	// Addresses may add URLs to those that SetPeers names for a peer; nil adds
	// none. It must not block.
	Addresses func(id uint64, urls []string) []string
	// Dial connects to a peer; nil means net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// HTTP answers what speaks HTTP/1 on the peer port instead; may be nil.
	HTTP http.Handler
	// ElectionTimeout bounds votes and heartbeats, and with five seconds as
	// the least, how long a connection may be silent.
	ElectionTimeout time.Duration
	Log             zerolog.Logger
	Registry        prometheus.Registerer

	limits meshLimits
	hook   frameHook
}

// meshLimits are the times of a Mesh; tests shorten them.
type meshLimits struct {
	ping      time.Duration // between pings on each connection, by who dialled it
	silence   time.Duration // after which a connection is closed
	write     time.Duration // for 256 KiB to leave
	handshake time.Duration // from connecting to the hello's answer
	backoff   time.Duration // first wait between dials; doubles to maxBackoff
	removed   time.Duration // between dials of a peer that says we were removed
	grace     time.Duration // for connections of a former peer
	duplicate time.Duration // of refusals as a duplicate, before it is believed
	renewal   time.Duration // the longest time before the end of a certificate
}

const (
	maxBackoff  = time.Second
	leastSilent = 5 * time.Second
	// farewell is how long a closing Mesh lets frames already queued leave.
	farewell = 200 * time.Millisecond
	// maxHandshakes bounds the connections that have not said hello.
	maxHandshakes = 1024
	// maxRemotes bounds the members a mesh remembers because they called. Who
	// may call is Admit's to say; this holds without one.
	maxRemotes = 256
)

func (l meshLimits) withDefaults(election time.Duration) meshLimits {
	return meshLimits{
		ping:      cmp.Or(l.ping, time.Second),
		silence:   cmp.Or(l.silence, max(leastSilent, election)),
		write:     cmp.Or(l.write, leastSilent),
		handshake: cmp.Or(l.handshake, leastSilent),
		backoff:   cmp.Or(l.backoff, 50*time.Millisecond),
		removed:   cmp.Or(l.removed, 10*time.Second),
		grace:     cmp.Or(l.grace, election),
		duplicate: cmp.Or(l.duplicate, 10*time.Second),
		renewal:   cmp.Or(l.renewal, time.Minute),
	}
}

// Mesh holds the sessions between this member and its peers over the peer
// port. Everything that members say to each other travels on them.
//
// A member dials every peer all the time. A frame to a peer travels on the
// connection which that peer dialled, and only while it has none on the one
// dialled here: a member whose address nobody reaches is then cut off, as
// etcd's members are. Answers follow the same rule, so that a request and its
// answer usually travel on different connections.
type Mesh struct {
	cfg        MeshConfig
	limits     meshLimits
	metrics    *meshMetrics
	start      time.Time
	nonce      uint64 // of this process
	lastID     atomic.Uint64
	complaints complaints
	web        *webDoor
	vestibule  vestibule
	raft       atomic.Pointer[Transport]
	alive      atomic.Pointer[func() bool]          // see Watch; nil: always
	removed    atomic.Pointer[func(id uint64) bool] // see KnowRemoved; may be nil
	duplicate  chan error                           // room for one
	installs   atomic.Pointer[installer]            // takes snapshots; nil: nobody does
	snapshots  *snapshotTraffic

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	keeping sync.Mutex
	kept    map[*session]struct{} // open connections; nil before the first

	mu       sync.Mutex
	closed   bool
	remotes  map[uint64]*remote
	left     map[uint64]bool // former peers
	handlers map[Kind]Handler
	quick    map[Kind]quickHandler
	changed  chan struct{}
}

// NewMesh makes a mesh without peers or listeners.
func NewMesh(cfg MeshConfig) *Mesh {
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext
	}
	m := &Mesh{
		cfg:       cfg,
		limits:    cfg.limits.withDefaults(cfg.ElectionTimeout),
		metrics:   newMeshMetrics(cfg.Registry, cfg.Self),
		snapshots: newSnapshotTraffic(cfg.Registry),
		start:     time.Now(),
		nonce:     randomID(),
		duplicate: make(chan error, 1),
		remotes:   map[uint64]*remote{},
		left:      map[uint64]bool{},
		handlers:  map[Kind]Handler{},
		quick:     map[Kind]quickHandler{},
		changed:   make(chan struct{}),
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	// Ids go on from a random place, so that an answer meant for an earlier
	// process of this member joins no request of this one.
	m.lastID.Store(randomID())
	m.web = newWebDoor(m)
	return m
}

func randomID() uint64 {
	var seed [8]byte
	rand.Read(seed[:]) // never fails: crypto/rand ends the process instead
	return binary.BigEndian.Uint64(seed[:])
}

// Serve accepts connections on ln until Close, which closes ln. It returns at
// once; several listeners may be served.
func (m *Mesh) Serve(ln net.Listener) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		ln.Close()
		return
	}
	m.wg.Go(func() { m.acceptLoop(ln) })
}

// Handle has calls of a kind answered by h. Until it is called, such calls
// fail with CodeNoHandler.
func (m *Mesh) Handle(kind Kind, h Handler) {
	if kind >= raftKinds {
		panic("raftstore: that kind belongs to the transport")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.handlers[kind] = h
}

// quickHandler answers a call at once, or not at all: it stands between the
// connection and every frame that follows.
type quickHandler func(from uint64, payload []byte) (answer []byte, ok bool)

// handleQuickly has calls of a kind answered without a goroutine for each, which
// costs more than a short answer. Those that h does not answer go to the handler of
// that kind.
func (m *Mesh) handleQuickly(kind Kind, h quickHandler) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.quick[kind] = h
}

func (m *Mesh) handler(kind Kind) (Handler, quickHandler) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.handlers[kind], m.quick[kind]
}

// SetPeers names the members to dial and their peer URLs. A member whose URLs
// changed is dialled anew, and keeps the connections it has until that worked.
// Those of a member no longer named end after an election timeout, and its
// hellos are refused from now on.
func (m *Mesh) SetPeers(peers map[uint64][]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	for id, r := range m.remotes {
		if _, ok := peers[id]; !ok && (r.listed() || m.isRemoved(id)) {
			m.leaveLocked(r)
		}
	}
	for id, urls := range peers {
		if id != m.cfg.Self {
			delete(m.left, id)
			if m.cfg.Addresses != nil {
				urls = m.cfg.Addresses(id, urls)
			}
			m.remoteLocked(id).redial(urls)
		}
	}
}

// caller finds or makes what the mesh knows about a member that connects.
func (m *Mesh) caller(id uint64) (*remote, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, refuse(conclavepb.PeerRefusal_CLOSING, "this member is shutting down")
	}
	if m.remotes[id] == nil && len(m.remotes) >= maxRemotes {
		m.forgetStrangers()
		if len(m.remotes) >= maxRemotes {
			return nil, refuse(conclavepb.PeerRefusal_NOT_ADMITTED, "too many members are connected")
		}
	}
	return m.remoteLocked(id), nil
}

// forgetStrangers drops those who called once and are neither connected nor
// peers.
func (m *Mesh) forgetStrangers() {
	for id, r := range m.remotes {
		if s := r.status(); !r.listed() && !s.Inbound && !s.Outbound {
			delete(m.remotes, id)
			r.remove()
		}
	}
}

func (m *Mesh) remoteLocked(id uint64) *remote {
	r, ok := m.remotes[id]
	if !ok {
		r = newRemote(m, id)
		m.remotes[id] = r
	}
	return r
}

// known is nil for a member never heard of.
func (m *Mesh) known(id uint64) *remote {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.remotes[id]
}

// PeerStatus is what a Mesh knows about a peer.
type PeerStatus struct {
	ID   uint64
	URLs []string
	// Instance is the id of the data directory it last spoke from.
	Instance string
	// Inbound: it has a connection to us. Outbound: we have one to it.
	Inbound, Outbound bool
	// Since is since when it is connected, in either direction, without a
	// break; zero while it is not.
	Since time.Time
	// LastError is why the last dial failed or connection ended; nil while
	// both directions are up.
	LastError error
	// RTT is the last round trip; 0 until one is measured.
	RTT time.Duration
	// Skew is how far its clock is ahead of ours, within RTT.
	Skew time.Duration
}

// Peers lists the peers, those of SetPeers and those who called, by id.
func (m *Mesh) Peers() []PeerStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]PeerStatus, 0, len(m.remotes))
	for _, r := range m.remotes {
		out = append(out, r.status())
	}
	slices.SortFunc(out, func(a, b PeerStatus) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Changed is closed at the next change of what Peers says about connections
// and errors. Ask for it before Peers.
func (m *Mesh) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

func (m *Mesh) announce() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.changed)
	m.changed = make(chan struct{})
}

// Close ends all listeners, connections, handlers and goroutines, and returns
// when they have ended. Frames already queued get 200 ms to leave.
func (m *Mesh) Close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.cancel()
	m.web.close()
	m.wg.Wait()
}
