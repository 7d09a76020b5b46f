//go:build interop

package cluster_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/conclave-kv/conclave/test/faultdisk"
	clientv3 "go.etcd.io/etcd/client/v3"
)

var installCrashes = flag.Int("installcrashes", 13, "how many steps of an install TestDiskRoot_installCrash... crashes at, spread over all; 0: every one")

// The power fails at one step of an install: at a write, sync or rename on the
// member's disk, counted from its start. It starts again, has everything, and
// nothing is mixed up.
func TestDiskRoot_installCrashAtEveryStep(t *testing.T) {
	t.Parallel()
	random := seeds(t)
	g := startDisks(t, conclave, "-forget")
	b := behind(t, g)
	steps := b.count(t)
	stride := 1
	if *installCrashes > 0 {
		stride = max(1, steps / *installCrashes)
	}
	t.Logf("an install takes %d changes of the disk, from the member's start until it serves; crashing at every %d.", steps, stride)
	for k := 1 + random.IntN(stride); k <= steps; k += stride {
		b.crashAt(t, k, random)
		if t.Failed() {
			t.Fatalf("with the crash at step %d", k)
		}
	}
	b.reset(t)
	b.m.launch()
	b.m.serves()
	sameOnDisk(t, g.group)
}

// laggard is a member that needs an install, as often as it is reset.
type laggard struct {
	g     *diskGroup
	m     *member
	saved string // what its disk held when it stopped
	acked map[string]int64
}

// behind stops a member and has the others write until their log no longer
// reaches back to it.
func behind(t *testing.T, g *diskGroup) *laggard {
	t.Helper()
	l := newLoad(t, g.group)
	for range 20 {
		l.mark()
		l.outage(outageLimit)
	}
	leader := g.awaitLeader()
	b := &laggard{g: g, m: g.other(leader)}
	b.m.proc.stop()
	l.mark()
	l.outage(outageLimit)
	l.end()
	b.acked, _ = l.soFar()
	// Large entries that change nothing: the log grows, the state does not.
	client, value := g.client(leader), strings.Repeat("x", 1<<20)
	eventually(t, 2*time.Minute, "the log to be truncated", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		never := clientv3.Compare(clientv3.Version("nothing"), ">", 7)
		if _, err := client.Txn(ctx).If(never).Then(clientv3.OpPut("nothing", value)).Commit(); err != nil {
			return err
		}
		if !strings.Contains(leader.proc.said(), "truncated the log") {
			return fmt.Errorf("%s still has all of it", leader.name)
		}
		return nil
	})
	b.saved = filepath.Join(g.dir, "saved")
	must(t, "", "cp", "-a", b.backing(), b.saved)
	return b
}

func (b *laggard) backing() string { return filepath.Join(b.m.home, "backing") }

// reset puts the member's disk back to where it was when it needed an install.
func (b *laggard) reset(t *testing.T) {
	t.Helper()
	b.m.proc.kill()
	b.g.replace(b.m, func() {
		if err := os.RemoveAll(b.backing()); err != nil {
			t.Fatal(err)
		}
		must(t, "", "cp", "-a", b.saved, b.backing())
	})
}

// count has the member catch up once and counts the changes of its disk.
func (b *laggard) count(t *testing.T) int {
	t.Helper()
	b.reset(t)
	b.m.launch()
	b.m.serves()
	if text := b.m.proc.said(); !strings.Contains(text, installedWords) {
		t.Fatalf("%s caught up without an install:\n%s", b.m.name, tail(text, 20))
	}
	n, err := b.g.disks[b.g.index(b.m)].Count()
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// installedWords is what a member logs when it has another's state.
const installedWords = "installed"

// crashAt has the power fail at the k-th change.
func (b *laggard) crashAt(t *testing.T, k int, random *rand.Rand) {
	t.Helper()
	b.reset(t)
	b.put(t, fmt.Sprintf("k/step/%05d", k))
	disk := b.g.disks[b.g.index(b.m)]
	b.g.disk(b.m, "stop", k)
	b.m.launch()
	reached := b.awaitStop(t, disk)
	_ = syscall.Kill(-b.m.proc.cmd.Process.Pid, syscall.SIGKILL) // kill waits, and says if it runs on
	b.m.proc.kill()
	b.g.forget(b.m, random)
	b.m.launch()
	b.m.serves()
	holds(t, fmt.Sprintf("%s after a crash at step %d (reached: %t)", b.m.name, k, reached), b.g.client(b.m), b.acked, clientv3.WithSerializable())
}

// put writes one more key that the member must get.
func (b *laggard) put(t *testing.T, key string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	resp, err := b.g.client(b.g.other(b.m)).Put(ctx, key, key)
	if err != nil {
		t.Fatal(err)
	}
	b.acked[key] = resp.Header.Revision
}

// awaitStop waits until the disk stands still; false when the member serves
// without having come so far.
func (b *laggard) awaitStop(t *testing.T, disk *faultdisk.Disk) (stopped bool) {
	t.Helper()
	eventually(t, serveTimeout, b.m.name+" to come to a stop", func() error {
		var err error
		if stopped, err = disk.Stopped(); err != nil || stopped {
			return err
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err = b.g.client(b.m).Get(ctx, "nothing")
		return err
	})
	return stopped
}
