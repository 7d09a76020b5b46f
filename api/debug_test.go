package api

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// dialDebug connects as conclave debug does.
func (f *fixture) dialDebug(t *testing.T, withTLS bool) *grpc.ClientConn {
	t.Helper()
	opts := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err == nil {
				_, err = c.Write([]byte(debugPreface))
			}
			return c, err
		})}
	if withTLS {
		cfg := f.pki.client.Clone()
		cfg.ServerName, cfg.NextProtos = "localhost", []string{debugProtocol}
		opts = []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(cfg))}
	}
	cc, err := grpc.NewClient("passthrough:///"+f.addr(), opts...)
	must(t, err)
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

// Reports are given before the member is ready, and nothing else is; the others
// get their turn as soon as it is.
func TestDebug_beforeReady(t *testing.T) {
	ready := make(chan struct{})
	f := start(t, "http https", func(o *Options) { o.Ready = ready })
	for _, withTLS := range []bool{false, true} {
		cc := f.dialDebug(t, withTLS)
		r, err := conclavepb.NewDebugClient(cc).Raft(call(t), &conclavepb.RaftReportRequest{})
		must(t, err)
		if r.Ready || r.MemberId != "7" || len(r.Troubles) != 1 || !strings.Contains(r.Troubles[0], "not ready") {
			t.Errorf("report %v", r)
		}
		if _, err := pb.NewKVClient(cc).Put(call(t), &pb.PutRequest{Key: []byte("k")}); status.Code(err) != codes.Unavailable {
			t.Errorf("a put on such a connection: %v", err)
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	early := f.dialPlain(t)
	_, err := pb.NewKVClient(early).Put(short, &pb.PutRequest{Key: []byte("k")}, grpc.WaitForReady(true))
	want(t, "put before ready", err, codes.DeadlineExceeded, "")
	secure := make(chan error, 1)
	go func() {
		cfg := f.pki.client.Clone()
		cfg.ServerName, cfg.NextProtos = "localhost", []string{protoH2}
		c, err := tls.Dial("tcp", f.addr(), cfg)
		if err == nil {
			err = c.Close()
		}
		secure <- err
	}()
	web := make(chan error, 1)
	go func() {
		resp, err := http.Get("http://" + f.addr() + "/version")
		if err == nil {
			err = resp.Body.Close()
		}
		web <- err
	}()
	select {
	case err := <-secure:
		t.Fatalf("TLS is answered before ready: %v", err)
	case err := <-web:
		t.Fatalf("HTTP is answered before ready: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	close(ready)
	must(t, <-secure)
	must(t, <-web)
	_, err = pb.NewKVClient(early).Put(call(t), &pb.PutRequest{Key: []byte("k")}, grpc.WaitForReady(true))
	must(t, err)
	http.DefaultClient.CloseIdleConnections()
}

// A disk that hangs shows in both probes, after an election timeout.
func TestProbes_diskHangs(t *testing.T) {
	f := start(t, "http", func(o *Options) { o.ElectionTimeout = time.Second })
	for _, c := range []struct {
		stuck time.Duration
		code  int
	}{{900 * time.Millisecond, http.StatusOK}, {3200 * time.Millisecond, http.StatusServiceUnavailable}, {0, http.StatusOK}} {
		f.backend.stuck.Store(int64(c.stuck))
		for _, path := range []string{"/livez", "/readyz"} {
			code, body, _ := get(t, http.MethodGet, f.addr(), path)
			if code != c.code || code != http.StatusOK && !strings.Contains(body, "[-]serializable_read failed: a write to the log has been under way for 3.2s") {
				t.Errorf("%s with the disk stuck for %v: %d %s", path, c.stuck, code, body)
			}
		}
	}
}
