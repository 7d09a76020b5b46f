//go:build interop

package cluster_test

import (
	"errors"
	"flag"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/conclave-kv/conclave/test/faultdisk"
	clientv3 "go.etcd.io/etcd/client/v3"
)

var (
	diskCrashes = flag.Int("diskcrashes", 3, "how often TestDiskRoot_crash... lets the leader's disk forget, and everybody's")
	diskSeed    = flag.Uint64("diskseed", 0, "seed of what disks forget; 0: a new one, which is printed")
)

// diskGroup is a group whose members have a disk each.
type diskGroup struct {
	*group
	binary  string // of the disks
	options []string
	disks   []*faultdisk.Disk
	clients []*clientv3.Client
}

// newDiskGroup lays out three members of a program with their data on disks of
// test/faultfs, without starting them.
func newDiskGroup(t *testing.T, program string, options ...string) *diskGroup {
	t.Helper()
	needRoot(t)
	if err := faultdisk.Available(); err != nil {
		t.Skip(err)
	}
	// Before the group's directory: unmounted after the processes have ended and
	// before anything is removed.
	binary, err := faultdisk.Build(t.Context(), filepath.Join("..", ".."), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	g := &diskGroup{group: newGroup(t, 3, false), binary: binary, options: options}
	g.program = program
	for i, m := range g.members {
		g.disks = append(g.disks, g.mount(m))
		t.Cleanup(func() {
			if err := g.disks[i].Close(); err != nil {
				t.Error(err)
			}
		})
		m.data = filepath.Join(g.disks[i].Path, "data")
		g.clients = append(g.clients, m.dial())
	}
	return g
}

// mount mounts a member's disk.
func (g *diskGroup) mount(m *member) *faultdisk.Disk {
	g.t.Helper()
	d, err := faultdisk.Start(g.binary, filepath.Join(m.home, "backing"), filepath.Join(m.home, "disk"), g.options...)
	if err != nil {
		g.t.Fatal(err)
	}
	return d
}

// replace gives a member that does not run its disk anew, after what happens to
// its files in between.
func (g *diskGroup) replace(m *member, between func()) {
	g.t.Helper()
	if err := g.disks[g.index(m)].Close(); err != nil {
		g.t.Fatal(err)
	}
	between()
	g.disks[g.index(m)] = g.mount(m)
}

func (g *diskGroup) index(m *member) int { return slices.Index(g.members, m) }

// startDisks makes such a cluster whose members all serve.
func startDisks(t *testing.T, program string, options ...string) *diskGroup {
	t.Helper()
	g := newDiskGroup(t, program, options...)
	g.launch()
	g.serve()
	return g
}

// disk gives a member's disk a command.
func (g *diskGroup) disk(m *member, command string, args ...any) {
	g.t.Helper()
	if _, err := g.disks[g.index(m)].Do(command, args...); err != nil {
		g.t.Fatal(err)
	}
}

// awaitLeader waits until a running member says that it leads.
func (g *diskGroup) awaitLeader() (leader *member) {
	g.t.Helper()
	eventually(g.t, serveTimeout, "a leader", func() error {
		if leader = g.leader(g.clients); leader == nil {
			return errors.New("nobody leads")
		}
		return nil
	})
	return leader
}

// client is the one that knows this member only.
func (g *diskGroup) client(m *member) *clientv3.Client { return g.clients[g.index(m)] }

// other is a member that is not this one.
func (g *diskGroup) other(than *member) *member {
	for _, m := range g.members {
		if m != than {
			return m
		}
	}
	return nil
}

// back starts a member again when its disk is well.
func back(t *testing.T, g *diskGroup, l *load, m *member) {
	t.Helper()
	acked, _ := l.soFar()
	g.disk(m, "release")
	m.launch()
	m.serves()
	holds(t, m.name+" after its return", g.client(m), acked, clientv3.WithSerializable())
}

// seeds gives what disks forget, and prints where it begins.
func seeds(t *testing.T) *rand.Rand {
	t.Helper()
	seed := *diskSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-diskseed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}
