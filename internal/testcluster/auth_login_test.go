package testcluster_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/internal/testcluster"
)

// from is a connection that comes from an address of this host.
func from(t *testing.T, address, url string) *grpc.ClientConn {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	conn, err := grpc.NewClient(strings.TrimPrefix(url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", addr) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// guess tries wrong passwords of a user until that is refused, and then the right one.
func guess(t *testing.T, conn *grpc.ClientConn, url, user string) {
	wrong := func(i int) error {
		if i == 1 {
			code, answer := post(t, nil, url, "/v3/auth/authenticate", "", fmt.Sprintf(`{"name":%q,"password":"wrong"}`, user))
			if code == http.StatusBadRequest {
				return nil
			}
			return fmt.Errorf("%d %s", code, answer)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // a delay beyond that is not waited for
		defer cancel()
		_, err := pb.NewAuthClient(conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: user, Password: "wrong"})
		if status.Code(err) == codes.InvalidArgument {
			return nil
		}
		return err
	}
	begun, n := time.Now(), 0
	var err error
	var last time.Time
	for ; err == nil && n < 50; n++ {
		last = time.Now()
		err = wrong(n)
	}
	if took := time.Since(begun); n < 5 || n > 10 || took < 300*time.Millisecond || status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "too many failed logins") {
		t.Errorf("%s: %d guesses in %v, then %v", user, n, took, err)
	}
	_, err = clientv3.New(clientv3.Config{Endpoints: []string{url}, Username: user, Password: user, DialTimeout: 500 * time.Millisecond, Logger: zap.NewNop()})
	if err == nil && time.Since(last) < time.Second { // or else it may be due
		t.Errorf("%s is let in before the next login is due", user)
	}
}

// Who guesses root's password is delayed, whether over gRPC or JSON, and whether the
// user exists; root is not, from elsewhere, nor are others from the same address.
func TestAuth_failedLoginsAreDelayed(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{})
	url := c.Members[0].ClientURL
	setUpUsers(t, client(t, url))
	guesser := from(t, "127.0.0.1", url)
	var work sync.WaitGroup
	for _, user := range []string{"root", "nobody"} {
		work.Go(func() { guess(t, guesser, url, user) })
	}
	work.Wait()
	for conn, user := range map[*grpc.ClientConn]string{from(t, "127.0.0.2", url): "root", guesser: "alice"} {
		if login(t, conn, user) == "" {
			t.Error(user)
		}
	}
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	for _, name := range []string{"conclave_auth_login_failures_total", "conclave_auth_logins_delayed_total", "conclave_auth_logins_refused_total"} {
		if err != nil || !strings.Contains(string(text), "\n"+name+" ") || strings.Contains(string(text), "\n"+name+" 0\n") {
			t.Errorf("%s is not counted: %v", name, err)
		}
	}
}
