package testcluster_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclave-kv/conclave/internal/testcluster"
)

// metricSum adds up the series of a metric that a member shows.
func metricSum(t *testing.T, m *testcluster.Member, name string) float64 {
	t.Helper()
	return metricSumBy(t, http.DefaultClient, m, name)
}

// metricSumBy is metricSum by a client that a secure member knows.
func metricSumBy(t *testing.T, client *http.Client, m *testcluster.Member, name string) float64 {
	t.Helper()
	resp, err := client.Get(m.ClientURL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	sum := 0.0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		line := lines.Text()
		if series, value, ok := strings.Cut(line, " "); ok && (series == name || strings.HasPrefix(series, name+"{")) {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			sum += v
		}
	}
	return sum
}

// load puts small values through a client until it is stopped.
type load struct {
	puts  atomic.Int64
	worst atomic.Int64 // longest put, in nanoseconds
	stop  context.CancelFunc
	wg    sync.WaitGroup
}

func startLoad(t *testing.T, c *clientv3.Client, workers int) *load {
	l := &load{}
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	for w := range workers {
		l.wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				start := time.Now()
				if _, err := c.Put(within(t), fmt.Sprintf("small-%d-%d", w, n%100), strings.Repeat("v", 200)); err != nil {
					t.Errorf("put: %v", err)
					return
				}
				l.puts.Add(1)
				if took := int64(time.Since(start)); took > l.worst.Load() {
					l.worst.Store(took)
				}
			}
		})
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) end() {
	l.stop()
	l.wg.Wait()
}

// during is how many puts a second succeed while f runs, and the longest.
func (l *load) during(f func()) (rate float64, worst time.Duration) {
	before, start := l.puts.Load(), time.Now()
	l.worst.Store(0)
	f()
	return float64(l.puts.Load()-before) / time.Since(start).Seconds(), time.Duration(l.worst.Load())
}

// A member that was away for more than the log holds gets the leader's state
// while writes go on, and is level with the others then.
func TestCluster_installUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("writes some 200 MiB on each member")
	}
	c := testcluster.Start(t, 3, testcluster.Options{ElectionTimeout: 2 * time.Second})
	lead := c.Leader()
	away := c.Members[(lead+1)%3]
	cli := client(t, c.Members[lead].ClientURL)
	away.Stop()
	large := strings.Repeat("x", 1<<20)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for n := range 52 {
				if _, err := cli.Put(within(t), fmt.Sprintf("large-%d-%d", w, n%4), large); err != nil {
					t.Errorf("put: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	l := startLoad(t, cli, 8)
	alone, worstAlone := l.during(func() { time.Sleep(3 * time.Second) }) // what is measured
	with, worstWith := l.during(func() {
		away.Launch()
		away.AwaitReady()
		awaitTrue(t, "the install", func() bool { return metricSum(t, away, "etcd_network_snapshot_receive_success") >= 1 })
	})
	after, worstAfter := l.during(func() { time.Sleep(3 * time.Second) })
	t.Logf("puts a second: %.0f before, %.0f during the install, %.0f after it with one member more; longest %v, %v, %v",
		alone, with, after, worstAlone, worstWith, worstAfter)
	if with < after/4 {
		t.Errorf("the install takes the writes from %.0f to %.0f a second", after, with)
	}
	l.end()
	awaitTrue(t, "equal members", func() bool { equal, _ := c.Equal(); return equal })
	sent := 0.0
	for _, m := range c.Members {
		sent += metricSum(t, m, "etcd_network_snapshot_send_success")
	}
	if sent < 1 {
		t.Error("nobody counted the install")
	}
	if _, err := client(t, away.ClientURL).Put(within(t), "after", "v"); err != nil {
		t.Errorf("put through the member: %v", err)
	}
}

func awaitTrue(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
