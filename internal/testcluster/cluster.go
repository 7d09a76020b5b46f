package testcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/daemon"
)

// startTimeout bounds how long a member may take to serve.
const startTimeout = 2 * time.Minute

// Options change how a cluster is made; the zero value is plaintext.
type Options struct {
	// Configure changes a member's configuration before each start.
	Configure func(index int, cfg *daemon.Config)
	// ElectionTimeout, by default 500 ms.
	ElectionTimeout time.Duration
	// Verbose logs what the members log.
	Verbose bool
	// Secure gives the members one cluster secret and https URLs.
	Secure bool
	// Log takes what all members log, if it is given; it must be safe for
	// concurrent use.
	Log io.Writer
}

// Cluster is a set of members with links between them.
type Cluster struct {
	Members []*Member
	// SecretFile is the members' --cluster-secret-file, "" without Secure.
	SecretFile string

	opts    Options
	t       testing.TB
	links   *links
	dir     string
	scheme  string
	laidOut int // members so far, those dropped included
}

// Member is one member, running or not.
type Member struct {
	Index     int
	Name      string
	Dir       string // its data directory
	PeerURL   string
	ClientURL string
	// Joins: it was laid out by Extend, and starts with the cluster state
	// "existing".
	Joins bool

	cluster *Cluster
	Daemon  *daemon.Daemon // nil while stopped
	cancel  context.CancelFunc
	done    chan error
}

// New lays out n members without starting them.
func New(t testing.TB, n int, opts Options) *Cluster {
	t.Helper()
	if opts.ElectionTimeout == 0 {
		opts.ElectionTimeout = 500 * time.Millisecond
	}
	c := &Cluster{opts: opts, t: t, links: newLinks()}
	ports := FreePorts(t, 2*n)
	dir := t.TempDir()
	scheme := "http"
	if opts.Secure {
		scheme = "https"
		c.SecretFile = newSecretFile(t, filepath.Join(dir, "cluster.secret"))
	}
	c.dir, c.scheme = dir, scheme
	for i := range n {
		c.layOut(ports[2*i], ports[2*i+1])
	}
	t.Cleanup(c.Stop)
	return c
}

func (c *Cluster) layOut(peer, client string) *Member {
	i := c.laidOut
	c.laidOut++
	name := fmt.Sprintf("m%d", i+1)
	m := &Member{
		Index: i, Name: name, Dir: filepath.Join(c.dir, name),
		PeerURL: c.scheme + "://127.0.0.1:" + peer, ClientURL: c.scheme + "://127.0.0.1:" + client,
		cluster: c,
	}
	c.Members = append(c.Members, m)
	c.links.name(i, "127.0.0.1:"+peer)
	return m
}

// Extend lays out one more member, which can be launched after it was added to
// the running cluster.
func (c *Cluster) Extend() *Member {
	c.t.Helper()
	ports := FreePorts(c.t, 2)
	m := c.layOut(ports[0], ports[1])
	m.Joins = true
	return m
}

// Relocate gives a stopped member another peer URL, for its next start.
func (m *Member) Relocate() {
	m.cluster.t.Helper()
	addr := "127.0.0.1:" + FreePorts(m.cluster.t, 1)[0]
	m.PeerURL = m.cluster.scheme + "://" + addr
	m.cluster.links.name(m.Index, addr)
}

// Drop forgets a member that was removed from the cluster, and stops it if it
// still runs.
func (c *Cluster) Drop(m *Member) {
	c.t.Helper()
	c.Members = slices.DeleteFunc(c.Members, func(e *Member) bool { return e == m })
	m.Stop()
}

// Start makes a cluster of n members and waits until all of them serve.
func Start(t testing.TB, n int, opts Options) *Cluster {
	t.Helper()
	c := New(t, n, opts)
	for _, m := range c.Members {
		m.Launch()
	}
	for _, m := range c.Members {
		m.AwaitReady()
	}
	return c
}

// Stop stops every member that runs.
func (c *Cluster) Stop() {
	for _, m := range c.Members {
		m.Stop()
	}
}

// Cut takes the links between members i and j down, in both directions.
func (c *Cluster) Cut(i, j int) { c.links.cut(i, j) }

// Isolate cuts a member off from all others.
func (c *Cluster) Isolate(i int) {
	for j := range c.Members {
		if j != i {
			c.Cut(i, j)
		}
	}
}

// Heal brings all links back.
func (c *Cluster) Heal() { c.links.heal() }

// Endpoints are the client URLs of all members.
func (c *Cluster) Endpoints() []string {
	var out []string
	for _, m := range c.Members {
		out = append(out, m.ClientURL)
	}
	return out
}

func (c *Cluster) initialCluster() string {
	var pairs []string
	for _, m := range c.Members {
		pairs = append(pairs, m.Name+"="+m.PeerURL)
	}
	return strings.Join(pairs, ",")
}

// Config is the configuration a member starts with.
func (m *Member) Config() daemon.Config {
	cfg := daemon.NewConfig()
	cfg.Name = m.Name
	cfg.DataDir = m.Dir
	cfg.ListenPeerURLs = daemon.MustParseURLs(m.PeerURL)
	cfg.AdvertisePeerURLs = cfg.ListenPeerURLs
	cfg.ListenClientURLs = daemon.MustParseURLs(m.ClientURL)
	cfg.AdvertiseClientURLs = cfg.ListenClientURLs
	cfg.InitialCluster = m.cluster.initialCluster()
	if m.Joins {
		cfg.InitialClusterState = daemon.ClusterStateExisting
	}
	cfg.ClusterSecretFile = m.cluster.SecretFile
	cfg.ElectionTimeout = m.cluster.opts.ElectionTimeout
	cfg.HeartbeatInterval = cfg.ElectionTimeout / 10
	cfg.BcryptCost = 4 // with etcd's 10 and the race detector passwords take seconds
	cfg.Dial = m.cluster.links.dialer(m.Index)
	if m.cluster.opts.Configure != nil {
		m.cluster.opts.Configure(m.Index, &cfg)
	}
	return cfg
}

// Launch starts the member without waiting for it.
func (m *Member) Launch() {
	m.cluster.t.Helper()
	log := zerolog.Nop()
	if m.cluster.opts.Verbose {
		log = zerolog.New(zerolog.NewTestWriter(m.cluster.t)).With().Timestamp().Str("member", m.Name).Logger()
	}
	if m.cluster.opts.Log != nil {
		log = zerolog.New(m.cluster.opts.Log).With().Str("member", m.Name).Logger()
	}
	d, err := daemon.New(m.Config(), log)
	if err != nil {
		m.cluster.t.Fatalf("member %s: %v", m.Name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.Daemon, m.cancel, m.done = d, cancel, make(chan error, 1)
	go func() { m.done <- d.Run(ctx) }()
}

// AwaitReady waits until the member serves clients.
func (m *Member) AwaitReady() {
	m.cluster.t.Helper()
	select {
	case <-m.Daemon.Ready():
	case err := <-m.done:
		m.done <- err
		m.cluster.t.Fatalf("member %s ended: %v", m.Name, err)
	case <-time.After(startTimeout):
		m.cluster.t.Fatalf("member %s does not serve after %v", m.Name, startTimeout)
	}
}

// AwaitEnd waits until the member's process part ends by itself and returns
// what it said.
func (m *Member) AwaitEnd() error {
	m.cluster.t.Helper()
	select {
	case err := <-m.done:
		m.Daemon = nil
		m.cancel()
		return err
	case <-time.After(startTimeout):
		m.cluster.t.Fatalf("member %s has not ended after %v", m.Name, startTimeout)
		return errors.New("unreachable")
	}
}

// AwaitFirstEnd waits until one of two members ends by itself, and returns the
// other one and what the one that ended said.
func AwaitFirstEnd(a, b *Member) (other *Member, err error) {
	a.cluster.t.Helper()
	ended, other := a, b
	select {
	case err = <-a.done:
	case err = <-b.done:
		ended, other = b, a
	case <-time.After(startTimeout):
		a.cluster.t.Fatalf("neither %s nor %s has ended after %v", a.Name, b.Name, startTimeout)
	}
	ended.Daemon = nil
	ended.cancel()
	return other, err
}

// Stop stops the member in an orderly way, if it runs.
func (m *Member) Stop() {
	m.cluster.t.Helper()
	if err := m.End(); err != nil {
		m.cluster.t.Errorf("member %s: %v", m.Name, err)
	}
}

// End stops the member, if it runs, and returns what it said: also why it ended
// before.
func (m *Member) End() error {
	if m.Daemon == nil {
		return nil
	}
	m.cancel()
	m.Daemon = nil
	return <-m.done
}

// Leader is the index of the member that most members take for the leader, -1
// for none.
func (c *Cluster) Leader() int {
	votes := map[uint64]int{}
	for _, m := range c.Members {
		if m.Daemon != nil {
			votes[m.Daemon.Leader()]++
		}
	}
	for i, m := range c.Members {
		if m.Daemon != nil && votes[m.Daemon.ID()] > len(c.Members)/2 {
			return i
		}
	}
	return -1
}

// Equal reports whether all running members have the same history up to the
// same revision, and what they have.
func (c *Cluster) Equal() (equal bool, state string) {
	equal = true
	first := ""
	for _, m := range c.Members {
		if m.Daemon == nil {
			continue
		}
		revision, hash, err := m.Daemon.HashKV()
		own := fmt.Sprintf("revision %d hash %08x error %v", revision, hash, err)
		if first == "" {
			first = own
		}
		equal = equal && err == nil && own == first
		state += m.Name + ": " + own + "; "
	}
	return equal, state
}
