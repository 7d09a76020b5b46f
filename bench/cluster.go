package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/conclave-kv/conclave/test/faultdisk"
)

// members is the size of every measured cluster.
const members = 3

// readyTimeout bounds the wait for a started cluster or member.
const readyTimeout = 60 * time.Second

// member is one member of a cluster, as its command line names it.
type member struct {
	name   string
	client string          // host:port of the client port
	peer   string          // host:port of the peer port
	data   string          // data directory
	disk   *faultdisk.Disk // its own, or nil
	proc   *process
	conn   *grpc.ClientConn
}

// cluster is one measured system.
type cluster struct {
	system  string
	binary  string
	dir     string   // holds data directories and logs
	certs   *certs   // nil: plaintext
	flags   []string // more of each member's command line; {data} is its data directory
	members []*member
	fail    context.CancelCauseFunc
	stopped bool
}

// startCluster starts the members of one system and waits until each of them
// serves a write. Whatever the outcome, the bench stops it in the end. Flags are
// added to each command line of etcd or conclave.
func (b *bench) startCluster(ctx context.Context, system string, flags ...string) (*cluster, error) {
	k := &cluster{system: system, binary: b.binaries[system], flags: flags, fail: b.fail}
	if b.secured(system) {
		k.certs = b.certs
	}
	var err error
	if k.dir, err = os.MkdirTemp(b.dir, system+"-"); err != nil {
		return nil, err
	}
	b.clusters = append(b.clusters, k)
	ports, err := freePorts(2 * members)
	if err != nil {
		return nil, err
	}
	for i := range members {
		if err := k.add(ports[2*i], ports[2*i+1]); err != nil {
			return nil, err
		}
	}
	for _, m := range k.members {
		if err := b.giveDisk(k, m); err != nil {
			return nil, err
		}
		if err := k.start(m); err != nil {
			return nil, err
		}
	}
	for _, m := range k.members {
		if err := k.awaitWrite(ctx, m); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// add lays out one more member, with its addresses, without starting it.
func (k *cluster) add(client, peer string) error {
	m := &member{name: fmt.Sprintf("m%d", len(k.members)+1), client: client, peer: peer}
	m.data = filepath.Join(k.dir, m.name+".data")
	var err error
	if m.conn, err = grpc.NewClient(m.client, k.certs.dialOption()); err != nil {
		return fmt.Errorf("prepare the connection to %s %s: %w", k.system, m.name, err)
	}
	k.members = append(k.members, m)
	return nil
}

// giveDisk mounts a member's own disk, if members have them.
func (b *bench) giveDisk(k *cluster, m *member) (err error) {
	if b.diskProgram == "" || k.system == emptySystem {
		return nil
	}
	m.disk, err = faultdisk.Start(b.diskProgram, filepath.Join(k.dir, m.name+".backing"), filepath.Join(k.dir, m.name+".disk"))
	if err != nil {
		return fmt.Errorf("disk of %s %s: %w", k.system, m.name, err)
	}
	m.data = filepath.Join(m.disk.Path, "data")
	if b.fsyncDelay > 0 {
		_, err = m.disk.Do("delay", "sync", b.fsyncDelay)
	}
	return err
}

// freePorts reserves n different loopback addresses and gives them back.
func freePorts(n int) ([]string, error) {
	var held []net.Listener
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	var addresses []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		held = append(held, l)
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

// start runs a member, for the first time or again.
func (k *cluster) start(m *member) error {
	args := k.arguments(m)
	if k.system == emptySystem {
		args = append([]string{"empty-server", "-listen", m.client}, k.certs.emptyServerFlags()...)
	}
	proc, err := startProcess(k.system+" "+m.name, filepath.Join(k.dir, m.name+".log"), k.binary, args, k.fail)
	if err != nil {
		return err
	}
	m.proc = proc
	return nil
}

// arguments is the command line of a member of etcd or conclave: the same
// flags for both, and none that tunes.
func (k *cluster) arguments(m *member) []string {
	scheme := k.certs.scheme()
	var initial []string
	for _, other := range k.members {
		initial = append(initial, other.name+"="+scheme+other.peer)
	}
	args := []string{
		"--name", m.name,
		"--data-dir", m.data,
		"--listen-client-urls", scheme + m.client,
		"--advertise-client-urls", scheme + m.client,
		"--listen-peer-urls", scheme + m.peer,
		"--initial-advertise-peer-urls", scheme + m.peer,
		"--initial-cluster", strings.Join(initial, ","),
		"--initial-cluster-token", "bench-" + k.system,
		"--initial-cluster-state", k.state(),
	}
	args = append(args, k.certs.memberFlags()...)
	for _, flag := range k.flags {
		args = append(args, strings.ReplaceAll(flag, "{data}", m.data))
	}
	return args
}

// state says what a member that starts for the first time shall find.
func (k *cluster) state() string {
	if len(k.members) > members {
		return "existing"
	}
	return "new"
}

// awaitWrite waits until the member answers a put.
func (k *cluster) awaitWrite(ctx context.Context, m *member) error {
	return await(ctx, fmt.Sprintf("%s %s to answer a put", k.system, m.name), func(ctx context.Context) error {
		_, err := pb.NewKVClient(m.conn).Put(ctx, &pb.PutRequest{Key: []byte("bench/ready"), Value: []byte(m.name)})
		return err
	})
}

// await repeats try until it succeeds, at most readyTimeout.
func await(ctx context.Context, what string, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	last := errors.New("not tried")
	for {
		once, done := context.WithTimeout(ctx, 2*time.Second)
		err := try(once)
		done()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err // later errors only say that the time is over
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (last answer: %w)", what, context.Cause(ctx), last)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// leader finds the member that leads; in the empty system, the first.
func (k *cluster) leader(ctx context.Context) (*member, error) {
	if k.system == emptySystem {
		return k.members[0], nil
	}
	var leader *member
	err := await(ctx, k.system+" to have a leader", func(ctx context.Context) error {
		for _, m := range k.members {
			status, err := m.status(ctx)
			if err == nil && status.Leader != 0 && status.Leader == status.Header.MemberId {
				leader = m
				return nil
			}
		}
		return errors.New("no member says that it leads")
	})
	return leader, err
}

func (m *member) status(ctx context.Context) (*pb.StatusResponse, error) {
	return pb.NewMaintenanceClient(m.conn).Status(ctx, &pb.StatusRequest{})
}

func (k *cluster) endpoints() []string {
	var all []string
	for _, m := range k.members {
		all = append(all, m.client)
	}
	return all
}

func (k *cluster) pids() []int {
	var all []int
	for _, m := range k.members {
		all = append(all, m.proc.pid())
	}
	return all
}

// stop ends every member and waits for them, and unmounts their disks.
func (k *cluster) stop() {
	for _, m := range k.members {
		m.conn.Close()
		if m.disk != nil {
			_, _ = m.disk.Do("release") // a process stuck in its disk could not stop; Close says what is wrong
		}
		if m.proc != nil {
			m.proc.stop()
		}
		if m.disk != nil {
			if err := m.disk.Close(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			m.disk = nil
		}
	}
	k.stopped = true
}

// fsyncMillis measures the disk under dir: the median time of a 4 KiB write
// with fsync, in milliseconds.
func fsyncMillis(dir string) (float64, error) {
	f, err := os.CreateTemp(dir, "fsync-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var took []float64
	block := make([]byte, 4096)
	for i := range 200 {
		copy(block, strconv.Itoa(i))
		began := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took = append(took, millis(time.Since(began)))
	}
	return median(took), nil
}
