package testcluster_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/conclave-kv/conclave/internal/lockpb"
	"github.com/conclave-kv/conclave/internal/testcluster"
)

// stalling is a connection from which nothing is read beyond the first bytes.
type stalling struct {
	net.Conn
	mu     sync.Mutex
	left   int
	closed chan struct{}
	once   sync.Once
}

func (c *stalling) Read(p []byte) (int, error) {
	c.mu.Lock()
	left := c.left
	c.mu.Unlock()
	if left <= 0 {
		<-c.closed
		return 0, net.ErrClosed
	}
	n, err := c.Conn.Read(p[:min(len(p), left)])
	c.mu.Lock()
	c.left -= n
	c.mu.Unlock()
	return n, err
}

func (c *stalling) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// longValue is the length of each of the values of withLongAnswers, and longKeys how many
// there are.
const longValue, longKeys = 1 << 20, 24

// withLongAnswers starts a member with keys that make a long answer, from "large" to
// "largf", and returns how much it counts of its answers.
func withLongAnswers(t *testing.T) (m *testcluster.Member, cli *clientv3.Client, counted func() float64) {
	t.Helper()
	m = testcluster.Start(t, 1, testcluster.Options{}).Members[0]
	cli = client(t, m.ClientURL)
	for i := range longKeys {
		if _, err := cli.Put(within(t), fmt.Sprintf("large%02d", i), strings.Repeat("x", longValue)); err != nil {
			t.Fatal(err)
		}
	}
	return m, cli, func() float64 { return metricSum(t, m, "conclave_answers_bytes") }
}

// A long answer is accounted for until its client has taken it or has gone; who
// does not take one holds up no short ones.
func TestCluster_answersAreCountedUntilTaken(t *testing.T) {
	m, cli, counted := withLongAnswers(t)
	readAll := func() {
		t.Helper()
		if resp, err := cli.Get(within(t), "large", clientv3.WithPrefix()); err != nil || len(resp.Kvs) != longKeys {
			t.Fatalf("a read of all: %v", err)
		}
	}
	percent := debug.SetGCPercent(-1) // gRPC gives it back, not the collector
	readAll()
	awaitTrue(t, "an answer that was taken to be forgotten", func() bool { return counted() == 0 })
	// What an election reads for itself is not sent.
	if _, err := cli.Put(within(t), "office/1", strings.Repeat("x", longValue)); err != nil {
		t.Fatal(err)
	}
	if _, err := lockpb.NewElectionClient(cli.ActiveConnection()).Leader(within(t), &lockpb.LeaderRequest{Name: []byte("office")}); err != nil {
		t.Fatal(err)
	}
	awaitTrue(t, "what an election read to be forgotten", func() bool { return counted() == 0 })
	debug.SetGCPercent(percent)

	u, err := url.Parse(m.ClientURL)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///"+u.Host, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
			return &stalling{Conn: conn, left: 64 << 10, closed: make(chan struct{})}, err
		}))
	if err != nil {
		t.Fatal(err)
	}
	var calls sync.WaitGroup
	for range 2 {
		calls.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			_, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte("large"), RangeEnd: []byte("largf")})
			if err == nil {
				t.Error("an answer came through")
			}
		})
	}
	awaitTrue(t, "two answers to be counted", func() bool { n := counted(); return n >= 2*longValue*longKeys && n < 2.1*longValue*longKeys })
	readAll()
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	calls.Wait()
	awaitTrue(t, "answers whose client has gone to be forgotten", func() bool {
		runtime.GC() // gRPC does not give them back; the collector does
		return counted() == 0
	})
}

// A long answer to a JSON client is accounted for until the client has taken it or has gone.
func TestCluster_answersAreCountedUntilTakenAsJSON(t *testing.T) {
	if testing.Short() {
		t.Skip("makes two answers of many MiB of JSON")
	}
	m, _, counted := withLongAnswers(t)
	all := func() *http.Response {
		t.Helper()
		body := `{"key":"bGFyZ2U=","range_end":"bGFyZ2Y="}`
		req, err := http.NewRequestWithContext(within(t), http.MethodPost, m.ClientURL+"/v3/kv/range", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	taken := all()
	text, err := io.ReadAll(taken.Body)
	taken.Body.Close()
	if err != nil || len(text) < longValue*longKeys {
		t.Fatalf("%d bytes of JSON: %v", len(text), err)
	}
	awaitTrue(t, "an answer that was taken to be forgotten", func() bool { return counted() == 0 })
	stalled := all()
	if n := counted(); n < longValue*longKeys {
		t.Errorf("%v bytes are counted of an answer that nobody reads", n)
	}
	stalled.Body.Close()
	awaitTrue(t, "an answer whose client has gone to be forgotten", func() bool { return counted() == 0 })
}
