package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// endsSoon fails the test when the server keeps c.
func endsSoon(t *testing.T, what string, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: the server keeps the connection", what)
	}
}

// Whoever speaks what a port does not is let go at once, whatever the limits
// for those who say nothing are.
func TestDoor_wrongSpeakers(t *testing.T) {
	const hello = "\x16\x03\x01\x00\xf8\x01\x00\x00\xf4\x03\x03"
	for name, port := range map[string]struct {
		scheme   string
		role     role
		speakers []string
	}{
		"plaintext": {"http", roleClient, []string{hello}},
		"TLS":       {"https", roleClient, []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", preface, "\x00\x00\x00\x00\x00\x00"}},
		"gRPC only": {"http", roleGRPCOnly, []string{hello, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST /v3/kv/put HTTP/1.1\r\n\r\n"}},
		"HTTP only": {"http", roleHTTPOnly, []string{hello}},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, port.scheme, func(o *Options) {
				o.HandshakeTimeout, o.HeaderTimeout = time.Hour, time.Hour
				for _, s := range o.Listeners.sockets {
					if s.role == roleClient {
						s.role = port.role
					}
				}
			})
			for _, say := range port.speakers {
				c, err := net.Dial("tcp", f.addr())
				must(t, err)
				_, err = io.WriteString(c, say+strings.Repeat("\x00", 64))
				must(t, err)
				endsSoon(t, fmt.Sprintf("%.8q", say), c)
				_ = c.Close()
			}
		})
	}
}

// gRPC with TLS to a plaintext port, and without to one with TLS, fails and
// does not hang.
func TestDoor_grpcOfTheOtherKind(t *testing.T) {
	for scheme, creds := range map[string]credentials.TransportCredentials{
		"http": credentials.NewTLS(newTestPKI(t).client), "https": insecure.NewCredentials(),
	} {
		t.Run(scheme, func(t *testing.T) {
			f := start(t, scheme, nil)
			if _, err := pb.NewKVClient(f.dialGRPC(t, creds)).Put(call(t), &pb.PutRequest{Key: []byte("k")}); err == nil {
				t.Error("answered")
			}
		})
	}
}

// A client that sends a header byte by byte is let go in the time for a whole
// header, on every kind of port.
func TestDoor_slowloris(t *testing.T) {
	f := start(t, "http", func(o *Options) { o.HandshakeTimeout, o.HeaderTimeout = 300*time.Millisecond, 300*time.Millisecond })
	for name, text := range map[string]string{
		"preface": preface, "request line": "GET /" + strings.Repeat("x", 5000),
		"header":     "GET /health HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 5000),
		"TLS record": "\x16\x03\x01\x10\x00" + strings.Repeat("x", 5000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", f.addr())
			must(t, err)
			defer func() { _ = c.Close() }()
			var dripping sync.WaitGroup
			dripping.Go(func() {
				for i := range len(text) {
					if _, err := io.WriteString(c, text[i:i+1]); err != nil {
						return
					}
					time.Sleep(15 * time.Millisecond) // the fault: a byte at a time
				}
			})
			begin := time.Now()
			endsSoon(t, name, c)
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("let go after %s", took)
			}
			_ = c.Close()
			dripping.Wait()
		})
	}
}

// So is one that announces a body and does not send it, wherever it goes.
func TestDoor_bodyThatDoesNotCome(t *testing.T) {
	f := start(t, "http", func(o *Options) { o.BodyTimeout = 200 * time.Millisecond })
	for _, head := range []string{
		"POST /v3/kv/put HTTP/1.1\r\n", "POST /v3/none HTTP/1.1\r\n", "POST /none HTTP/1.1\r\n",
		"OPTIONS /v3/kv/put HTTP/1.1\r\n", "POST /v3/kv/put HTTP/1.1\r\nOrigin: https://evil.example\r\n",
	} {
		c, err := net.Dial("tcp", f.addr())
		must(t, err)
		_, err = io.WriteString(c, head+"Host: localhost\r\nContent-Length: 1000\r\n\r\n{")
		must(t, err)
		endsSoon(t, head, c)
		_ = c.Close()
	}
}

// A client that has closed its own side, or vanishes in the middle of what it
// says, leaves nothing behind.
func TestDoor_halfOpen(t *testing.T) {
	f := start(t, "http", func(o *Options) { o.HandshakeTimeout, o.HeaderTimeout = time.Hour, time.Hour })
	for _, say := range []string{"", "PRI", preface, "GET /health HT", "POST /v3/kv/put HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{"} {
		c, err := net.Dial("tcp", f.addr())
		must(t, err)
		_, err = io.WriteString(c, say)
		must(t, err)
		must(t, c.(*net.TCPConn).CloseWrite())
		endsSoon(t, say, c)
		_ = c.Close()
	}
}

// Ten thousand silent connections, ten times what the door looks at at once:
// who speaks is served all the while, and what they hold is bounded.
func TestDoor_tenThousandSilent(t *testing.T) {
	var lim syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim))
	n := min(10_000, int(min(lim.Cur, 1<<20)-500)/2)
	if testing.Short() {
		t.Skip("short tests run under the race detector, too slow for ten thousand connections")
	}
	if n < 2000 {
		t.Skipf("the limit of open files leaves %d connections, fewer than the door looks at at once", n)
	}
	f := start(t, "http", nil)
	before := runtime.NumGoroutine()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	heap := memory.HeapInuse
	silent := make([]net.Conn, 0, n)
	defer func() {
		for _, c := range silent {
			_ = c.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	var flood sync.WaitGroup
	flood.Go(func() {
		for len(silent) < n && ctx.Err() == nil {
			c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", f.addr())
			if err == nil {
				silent = append(silent, c)
			}
		}
	})
	worst := time.Duration(0)
	for range 4 {
		begin := time.Now()
		resp, err := f.httpClient(t, false).Get(f.urls[0].String() + "/version")
		must(t, err)
		_ = resp.Body.Close()
		worst = max(worst, time.Since(begin))
	}
	flood.Wait()
	runtime.ReadMemStats(&memory)
	t.Logf("%d silent connections: answers took at most %v; %d goroutines more, %d KiB of heap more", len(silent), worst,
		runtime.NumGoroutine()-before, (int64(memory.HeapInuse)-int64(heap))>>10)
	if pending := runtime.NumGoroutine() - before; pending > f.opts.MaxHandshakes+200 {
		t.Errorf("%d goroutines for silent connections", pending)
	}
	if worst > 30*time.Second {
		t.Errorf("an answer took %v", worst)
	}
}

// An HTTP connection on which nothing is asked ends after the idle timeout.
func TestDoor_idleConnectionsEnd(t *testing.T) {
	f := start(t, "http", func(o *Options) { o.IdleTimeout = 100 * time.Millisecond })
	c, err := net.Dial("tcp", f.addr())
	must(t, err)
	defer func() { _ = c.Close() }()
	_, err = io.WriteString(c, "POST /v3/kv/put HTTP/1.1\r\nHost: localhost\r\nContent-Length: 14\r\n\r\n{\"key\":\"Zm9v\"}")
	must(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	if resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
	endsSoon(t, "idle", c)
}
