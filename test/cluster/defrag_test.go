//go:build interop

package cluster_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// wasted has a cluster write and compact until most of its state files is free.
func wasted(t *testing.T, g *group) {
	t.Helper()
	client := g.dial(g.members...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var last int64
	for i := range 400 {
		resp, err := client.Put(ctx, fmt.Sprintf("fill/%d", i%20), string(bytes.Repeat([]byte{byte('a' + i%26)}, 100<<10)))
		if err != nil {
			t.Fatal(err)
		}
		last = resp.Header.Revision
	}
	if _, err := client.Compact(ctx, last, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	for _, m := range g.members {
		own := m.dial()
		eventually(t, 20*time.Second, m.name+" to free its pages", func() error {
			if _, err := client.Put(ctx, "small", "x"); err != nil {
				return err
			}
			st, err := own.Status(ctx, m.clientURL())
			if err == nil && (st.DbSizeInUse > st.DbSize/3 || st.DbSize < 20<<20) {
				err = fmt.Errorf("%d of %d bytes are in use", st.DbSizeInUse, st.DbSize)
			}
			return err
		})
	}
}

// etcdctl and conclave defragment a cluster under load and say the same; puts
// do not wait for it. What is left is a file that etcdutl reads, and
// defragments when the member is off; the member starts from that.
func TestDefrag_toolsAndLoad(t *testing.T) {
	t.Parallel()
	g := start(t, 3, false)
	wasted(t, g)
	took := regexp.MustCompile(`took [^ \n]+`)
	quiet := latencies(t, g, func() { time.Sleep(3 * time.Second) })
	busy := latencies(t, g, func() {
		m := g.members[0]
		theirs, err := m.ctl(realTool(t, "etcdctl"), "--command-timeout", "30s", "defrag", "--cluster")
		if err != nil {
			t.Fatal(err)
		}
		ours, err := m.ctl(conclave, "--command-timeout", "30s", "defrag", "--cluster")
		if err != nil || took.ReplaceAllString(ours, "took") != took.ReplaceAllString(theirs, "took") || strings.Count(ours, "Finished") != 3 {
			t.Errorf("conclave says %q, etcdctl %q, %v", ours, theirs, err)
		}
	})
	t.Logf("puts: %v without, %v beside defragmenting three members twice", quiet, busy)
	if busy.worst > max(10*quiet.worst, time.Second) {
		t.Errorf("a put took %v", busy.worst)
	}
	for _, m := range g.members {
		st, err := m.dial().Status(t.Context(), m.clientURL())
		if err != nil {
			t.Fatal(err)
		}
		if st.DbSize > 12<<20 {
			t.Errorf("%s has %d bytes, %d in use", m.name, st.DbSize, st.DbSizeInUse)
		}
	}
	if out, err := g.members[0].ctl(conclave, "--endpoints", "127.0.0.1:1", "--command-timeout", "1s", "defrag"); err == nil || !strings.Contains(out, "Failed to defragment etcd member[127.0.0.1:1]. took ") {
		t.Errorf("a member that is off: %q, %v", out, err)
	}
	sameOnDisk(t, g)
	m := g.members[0]
	before, _ := hashOnDisk(t, m, 0)
	must(t, m.home, realTool(t, "etcdutl"), "defrag", "--data-dir", m.data)
	if after, _ := hashOnDisk(t, m, 0); after != before {
		t.Errorf("etcdutl made %d of %d", after, before)
	}
	g.launch()
	g.serve()
	if entries, err := os.ReadDir(filepath.Join(m.data, "member", "snap")); err != nil || len(entries) != 1 {
		t.Errorf("beside the state file there are %v, %v", entries, err)
	}
}

// spread is how long puts took.
type spread struct{ median, p99, worst time.Duration }

// latencies has one client put while do runs, and until there are enough to judge by.
func latencies(t *testing.T, g *group, do func()) spread {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	client := g.dial(g.members[0])
	var all []time.Duration
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ctx.Err() == nil || i < 100; i++ {
			began := time.Now()
			if _, err := client.Put(t.Context(), fmt.Sprintf("timed/%d", i%100), strings.Repeat("v", 256)); err != nil {
				t.Errorf("put: %v", err)
				return
			}
			all = append(all, time.Since(began))
			time.Sleep(time.Millisecond)
		}
	}()
	do()
	cancel()
	<-ended
	slices.Sort(all)
	if t.Failed() {
		t.FailNow()
	}
	return spread{all[len(all)/2], all[len(all)*99/100], all[len(all)-1]}
}
