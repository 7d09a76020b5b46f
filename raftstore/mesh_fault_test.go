package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// faultNet connects meshes in memory and breaks the links between them, each
// direction for itself. Faults hit whole frames, pings included.
type faultNet struct {
	mu        sync.Mutex
	rng       *rand.Rand
	listeners map[string]*memListener
	links     map[[2]uint64]linkFault
	limits    meshLimits
	conns     map[*memConn][2]uint64 // the dialling ends, with who dialled whom
	dark      map[uint64]bool        // hosts that lost their power
	// latest puts a frame on the newest connection in a direction; kept are
	// frames that repeat may send again.
	latest map[[2]uint64]func([]byte)
	kept   map[[2]uint64][][]byte
	// filter returns false to lose a frame; may be nil. It is set with the
	// lock held.
	filter func(from, to uint64, raw []byte) bool
}

// linkFault is what happens to frames in one direction.
type linkFault struct {
	cut    bool
	drop   float64       // share of frames lost
	replay float64       // share of frames sent again later
	delay  time.Duration // the longest; also reorders
}

func newFaultNet(seed int64) *faultNet {
	return &faultNet{
		rng:       rand.New(rand.NewSource(seed)),
		listeners: map[string]*memListener{},
		links:     map[[2]uint64]linkFault{},
		conns:     map[*memConn][2]uint64{},
		dark:      map[uint64]bool{},
		latest:    map[[2]uint64]func([]byte){},
		kept:      map[[2]uint64][][]byte{},
	}
}

// set changes one direction.
func (n *faultNet) set(from, to uint64, fault linkFault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links[[2]uint64{from, to}] = fault
}

// cut breaks both directions between a and b.
func (n *faultNet) cut(a, b uint64) {
	n.set(a, b, linkFault{cut: true})
	n.set(b, a, linkFault{cut: true})
}

func (n *faultNet) isolate(id uint64, others ...uint64) {
	for _, other := range others {
		if other != id {
			n.cut(id, other)
		}
	}
}

func (n *faultNet) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.links)
}

func (n *faultNet) hook(from uint64) frameHook {
	return func(to uint64, raw []byte, inject func([]byte)) bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.filter != nil && !n.filter(from, to, raw) {
			return false
		}
		n.keep([2]uint64{from, to}, raw, inject)
		fault, ok := n.links[[2]uint64{from, to}]
		if !ok {
			return true
		}
		if fault.cut || n.rng.Float64() < fault.drop {
			return false
		}
		if n.rng.Float64() < fault.replay {
			again := slices.Clone(raw)
			time.AfterFunc(time.Duration(n.rng.Int63n(int64(time.Second))), func() { inject(again) })
		}
		if fault.delay > 0 {
			late := slices.Clone(raw)
			time.AfterFunc(time.Duration(n.rng.Int63n(int64(fault.delay))), func() { inject(late) })
			return false
		}
		return true
	}
}

// keptFrames bounds what is kept of each direction.
const keptFrames = 16

// keep keeps some of the frames, with the lock held.
func (n *faultNet) keep(link [2]uint64, raw []byte, inject func([]byte)) {
	n.latest[link] = inject
	if n.rng.Intn(8) > 0 {
		return
	}
	kept := append(n.kept[link], slices.Clone(raw))
	if len(kept) > keptFrames {
		kept[n.rng.Intn(keptFrames)] = kept[keptFrames]
		kept = kept[:keptFrames]
	}
	n.kept[link] = kept
}

// repeat sends frames again that were sent in that direction long ago, perhaps
// over other connections and by an earlier process.
func (n *faultNet) repeat(from, to uint64) {
	n.mu.Lock()
	link := [2]uint64{from, to}
	inject := n.latest[link]
	var frames [][]byte
	for _, raw := range n.kept[link] {
		frames = append(frames, slices.Clone(raw))
	}
	n.mu.Unlock()
	for _, raw := range frames {
		inject(raw)
	}
}

// reset closes all connections between a and b, as a router that restarts; 0
// stands for everybody.
func (n *faultNet) reset(a, b uint64) {
	n.mu.Lock()
	var ends []*memConn
	for c, link := range n.conns {
		if c.closed() {
			delete(n.conns, c)
			continue
		}
		x, y := link[0], link[1]
		if (a == 0 || a == x || a == y) && (b == 0 || b == x || b == y) {
			ends = append(ends, c)
		}
	}
	n.mu.Unlock()
	for _, c := range ends {
		c.Close()
	}
}

// vanish has the connections of a member say nothing any more, not even that
// they are closed, as those of a host that lost its power.
func (n *faultNet) vanish(id uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dark[id] = true
	for c, link := range n.conns {
		if link[0] == id || link[1] == id {
			c.mute(link[0] == id)
		}
	}
}

// mesh starts a mesh whose peer URL is memURL(id).
func (n *faultNet) mesh(id uint64, log zerolog.Logger) *Mesh {
	m, _ := n.process(id, log, n.hook(id))
	return m
}

// process starts a mesh whose peer URL is memURL(id) and whose frames hook
// sees; until down is called, its port is open.
func (n *faultNet) process(id uint64, log zerolog.Logger, hook frameHook) (m *Mesh, down func()) {
	m = NewMesh(MeshConfig{
		Self: id, ClusterID: 0xc1, Instance: fmt.Sprintf("instance-%x", id),
		ElectionTimeout: time.Second, Log: log, limits: n.limits,
		Dial: n.dial(id), hook: hook,
	})
	ln := &memListener{net: n, addr: memAddr(id), conns: make(chan net.Conn), done: make(chan struct{})}
	n.mu.Lock()
	n.listeners[ln.addr] = ln
	delete(n.dark, id)
	n.mu.Unlock()
	m.Serve(ln)
	return m, func() {
		n.mu.Lock()
		if n.listeners[ln.addr] == ln {
			delete(n.listeners, ln.addr)
		}
		n.mu.Unlock()
		ln.Close()
	}
}

func memAddr(id uint64) string { return fmt.Sprintf("member-%x:2380", id) }
func memURL(id uint64) string  { return "http://" + memAddr(id) }

// memPeers is what SetPeers takes for all of ids but self.
func memPeers(self uint64, ids ...uint64) map[uint64][]string {
	peers := map[uint64][]string{}
	for _, id := range ids {
		if id != self {
			peers[id] = []string{memURL(id)}
		}
	}
	return peers
}

func (n *faultNet) dial(from uint64) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, addr string) (net.Conn, error) {
		n.mu.Lock()
		ln := n.listeners[addr]
		var to uint64
		fmt.Sscanf(addr, "member-%x:", &to)
		broken := n.dark[to] || n.links[[2]uint64{from, to}].cut || n.links[[2]uint64{to, from}].cut
		n.mu.Unlock()
		if broken {
			return nil, errors.New("no route")
		}
		if ln == nil {
			return nil, syscall.ECONNREFUSED
		}
		here, there := memPipe(fmt.Sprintf("member-%x:1", from), addr)
		n.mu.Lock()
		n.conns[here] = [2]uint64{from, to}
		n.mu.Unlock()
		select {
		case ln.conns <- there:
			return here, nil
		case <-ln.done:
			return nil, syscall.ECONNREFUSED
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

type memListener struct {
	net   *faultNet
	addr  string
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *memListener) Addr() net.Addr { return memAddress(l.addr) }

type memAddress string

func (a memAddress) Network() string { return "mem" }
func (a memAddress) String() string  { return string(a) }

// memPipe is a connection in memory with a send buffer, as TCP has one.
func memPipe(a, b string) (dialled, accepted *memConn) {
	there, back := newMemHalf(), newMemHalf()
	return &memConn{r: back, w: there, local: a, remote: b}, &memConn{r: there, w: back, local: b, remote: a}
}

// memHalf is one direction. Every change wakes all waiters.
type memHalf struct {
	mu      sync.Mutex
	buf     []byte
	closed  bool
	mute    bool // its end is not told to the reader, nor anything written
	changed chan struct{}
	// deadlines of the reader and the writer; zero for none
	readBy, writeBy time.Time
}

const memBuffer = 256 << 10

func newMemHalf() *memHalf { return &memHalf{changed: make(chan struct{})} }

func (h *memHalf) change(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	close(h.changed)
	h.changed = make(chan struct{})
}

// wait runs try, with the lock held, until it is done or the deadline passes.
func (h *memHalf) wait(deadline *time.Time, try func() (int, error, bool)) (int, error) {
	for {
		h.mu.Lock()
		n, err, ok := try()
		if ok {
			close(h.changed)
			h.changed = make(chan struct{})
		}
		changed, by := h.changed, *deadline
		h.mu.Unlock()
		if ok {
			return n, err
		}
		var expired <-chan time.Time
		if !by.IsZero() {
			left := time.Until(by)
			if left <= 0 {
				return 0, os.ErrDeadlineExceeded
			}
			timer := time.NewTimer(left)
			defer timer.Stop()
			expired = timer.C
		}
		select {
		case <-changed:
		case <-expired:
		}
	}
}

type memConn struct {
	r, w          *memHalf
	local, remote string
}

func (c *memConn) Read(p []byte) (int, error) {
	return c.r.wait(&c.r.readBy, func() (int, error, bool) {
		if len(c.r.buf) > 0 {
			n := copy(p, c.r.buf)
			c.r.buf = c.r.buf[n:]
			return n, nil, true
		}
		return 0, io.EOF, c.r.closed
	})
}

func (c *memConn) Write(p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		n, err := c.w.wait(&c.w.writeBy, func() (int, error, bool) {
			if c.w.closed {
				return 0, io.ErrClosedPipe, true
			}
			if c.w.mute {
				return len(p) - sent, nil, true
			}
			n := min(memBuffer-len(c.w.buf), len(p)-sent)
			c.w.buf = append(c.w.buf, p[sent:sent+n]...)
			return n, nil, n > 0
		})
		sent += n
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

func (c *memConn) Close() error {
	c.r.change(func() { c.r.closed = true })
	c.w.change(func() { c.w.closed = c.w.closed || !c.w.mute })
	return nil
}

func (c *memConn) closed() bool {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	return c.r.closed
}

// mute has one end of the connection say nothing more, this one or the other.
func (c *memConn) mute(this bool) {
	half := c.r
	if this {
		half = c.w
	}
	half.mu.Lock()
	defer half.mu.Unlock()
	half.mute = true
}

func (c *memConn) LocalAddr() net.Addr  { return memAddress(c.local) }
func (c *memConn) RemoteAddr() net.Addr { return memAddress(c.remote) }

func (c *memConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *memConn) SetReadDeadline(t time.Time) error {
	c.r.change(func() { c.r.readBy = t })
	return nil
}

func (c *memConn) SetWriteDeadline(t time.Time) error {
	c.w.change(func() { c.w.writeBy = t })
	return nil
}

// patience is for what takes no time at all unless the machine is busy.
const patience = time.Minute

// eventually waits for a condition, as long as patience lasts.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
