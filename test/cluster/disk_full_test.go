//go:build interop

package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// fullDisk is what the small disk of the test has to begin with: room for some
// segments of the log and a state file that grows by doubling.
const fullDisk = 512 << 20

// One member's disk runs full. Writes are refused, as etcd refuses them, while
// there is still room; reads and deletes go on, nobody ends, and when there is
// room again writes do too, without anybody having to say so.
func TestDiskRoot_fullRefusesWritesInTime(t *testing.T) {
	t.Parallel()
	g := startDisks(t, conclave)
	small := g.awaitLeader()
	g.disk(small, "space", fullDisk)
	value := strings.Repeat("x", 1<<20)
	var acked []string
	var refusal error
	client := g.client(g.other(small))
	for n := 0; n < 2*fullDisk>>20 && refusal == nil; n++ {
		key := fmt.Sprintf("full/%04d", n)
		if refusal = put(t, client, key, value); refusal == nil {
			acked = append(acked, key)
		}
	}
	if !errors.Is(refusal, rpctypes.ErrNoSpace) {
		t.Fatalf("after %d MiB: %v, want %v", len(acked), refusal, rpctypes.ErrNoSpace)
	}
	t.Logf("refused after %d MiB", len(acked))
	for _, m := range g.members {
		if !m.proc.running() {
			t.Errorf("%s has ended: %s", m.name, m.proc.cmd.ProcessState)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		resp, err := g.client(m).Get(ctx, "full/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		cancel()
		if err != nil || resp.Count != int64(len(acked)) {
			t.Errorf("%s: %v, %v; %d values were acknowledged", m.name, resp, err, len(acked))
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := client.Delete(ctx, acked[0]); err != nil {
		t.Errorf("a delete on a full disk: %v", err)
	}
	eventually(t, 20*time.Second, "an alarm that etcd's tools show", func() error {
		resp, err := client.AlarmList(ctx)
		if err == nil && (len(resp.Alarms) != 1 || resp.Alarms[0].Alarm != etcdserverpb.AlarmType_NOSPACE) {
			err = fmt.Errorf("alarms: %v", resp.Alarms)
		}
		return err
	})
	g.disk(small, "space", "off")
	eventually(t, serveTimeout, "writes on a disk with room again", func() error {
		return put(t, client, "after", "x")
	})
	sameOnDisk(t, g.group)
}

func put(t *testing.T, client *clientv3.Client, key, value string) error {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := client.Put(ctx, key, value)
	return err
}
