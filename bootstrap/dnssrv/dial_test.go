package dnssrv

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// greeter accepts connections on addr and says hello; it returns its port.
func greeter(t *testing.T, network, addr string) string {
	t.Helper()
	listener, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "hello")
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-ended
	})
	if network == "unix" {
		return ""
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

func hears(t *testing.T, conn net.Conn, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if text, err := io.ReadAll(conn); err != nil || string(text) != "hello" {
		t.Errorf("read %q, %v", text, err)
	}
}

// Each dial resolves anew: a host that moved is found at its new address.
func TestDialContext_resolvesEveryTime(t *testing.T) {
	t.Parallel()
	port := greeter(t, "tcp", "127.0.0.3:0")
	server := serve(t, Record{Host: "infra0.example.com", Addr: netip.MustParseAddr("127.0.0.2")})
	r := asking(t, server.Addr())
	_, err := r.DialContext(t.Context(), "tcp", "infra0.example.com:"+port)
	contains(t, err, "127.0.0.2:"+port, "refused")
	if err := server.SetRecords([]Record{{Host: "infra0.example.com", Addr: netip.MustParseAddr("127.0.0.3")}}); err != nil {
		t.Fatal(err)
	}
	conn, err := r.DialContext(t.Context(), "tcp", "infra0.example.com:"+port)
	hears(t, conn, err)
}

// Addresses that refuse are passed over.
func TestDialContext_triesAllAddresses(t *testing.T) {
	t.Parallel()
	port := greeter(t, "tcp", "127.0.0.4:0")
	var records []Record
	for _, addr := range addrs("127.0.0.2", "127.0.0.3", "127.0.0.4") {
		records = append(records, Record{Host: "infra0.example.com", Addr: addr})
	}
	r := asking(t, serve(t, records...).Addr())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := r.DialContext(ctx, "tcp", "infra0.example.com:"+port)
	hears(t, conn, err)
}

// An address that swallows packets holds up the next by dialStagger only; who
// comes second is called off, and a connection nobody needs is closed.
func TestRace_staggers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		fast, slow := &countedConn{}, &countedConn{}
		ended := 0
		conn, err := race(t.Context(), []string{"black hole", "slow", "fast", "never"}, func(ctx context.Context, target string) (net.Conn, error) {
			switch target {
			case "black hole":
				<-ctx.Done()
				ended++
				return nil, ctx.Err()
			case "slow": // connects just when it is called off
				<-ctx.Done()
				return slow, nil
			case "fast":
				return fast, nil
			}
			t.Errorf("%s was dialled", target)
			return nil, errors.New("dialled")
		})
		if err != nil || conn != fast || time.Since(start) != 2*dialStagger {
			t.Errorf("connection %v, %v after %s", conn, err, time.Since(start))
		}
		if ended != 1 || slow.closed != 1 || fast.closed != 0 {
			t.Errorf("%d attempts called off, slow closed %d times, fast %d times", ended, slow.closed, fast.closed)
		}
	})
}

type countedConn struct {
	net.Conn
	closed int
}

func (c *countedConn) Close() error {
	c.closed++
	return nil
}

func TestDialContext_errors(t *testing.T) {
	t.Parallel()
	r := asking(t, serve(t,
		Record{Host: "two.example.com", Addr: netip.MustParseAddr("127.0.0.2")},
		Record{Host: "two.example.com", Addr: netip.MustParseAddr("127.0.0.3")}).Addr())
	_, port, _ := net.SplitHostPort(deadServer(t))
	_, err := r.DialContext(t.Context(), "tcp", "two.example.com:"+port)
	contains(t, err, "127.0.0.2:"+port, "127.0.0.3:"+port, "; ")
	_, err = r.DialContext(t.Context(), "tcp", "gone.example.com:"+port)
	contains(t, err, "gone.example.com", "NXDOMAIN")
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v", err)
	}
	_, err = r.DialContext(t.Context(), "tcp6", "two.example.com:"+port)
	contains(t, err, "two.example.com has no address for tcp6")
	if _, err = r.DialContext(t.Context(), "tcp", "two.example.com"); err == nil {
		t.Error("dialled without a port")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = r.DialContext(ctx, "tcp", "127.0.0.1:"+port); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestDialContext_unix(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	greeter(t, "unix", path)
	conn, err := asking(t, "192.0.2.53:53").DialContext(t.Context(), "unix", path)
	hears(t, conn, err)
}

func TestClientEndpoints(t *testing.T) {
	t.Parallel()
	both := serve(t,
		Record{Host: "b.example.com", Service: "_etcd-client-ssl._tcp", Port: 2379},
		Record{Host: "a.example.com", Service: "_etcd-client-ssl._tcp", Port: 2379},
		Record{Host: "c.example.com", Service: "_etcd-client._tcp", Port: 1},
		Record{Host: "d.example.com", Service: "_etcd-client-blue._tcp", Port: 2})
	r := asking(t, both.Addr())
	got, err := ClientEndpoints(t.Context(), r, "example.com.", "")
	if err != nil || !slices.Equal(got.TLS, []string{"https://a.example.com:2379", "https://b.example.com:2379"}) ||
		!slices.Equal(got.Plain, []string{"http://c.example.com:1"}) {
		t.Errorf("got %+v, %v", got, err)
	}
	got, err = ClientEndpoints(t.Context(), r, "example.com", "blue")
	if err != nil || len(got.TLS) != 0 || !slices.Equal(got.Plain, []string{"http://d.example.com:2"}) {
		t.Errorf("got %+v, %v", got, err)
	}
	_, err = ClientEndpoints(t.Context(), r, "example.com", "red")
	contains(t, err, "--discovery-srv example.com has no client records", "_etcd-client-ssl-red._tcp.example.com", "_etcd-client-red._tcp.example.com")
	_, err = ClientEndpoints(t.Context(), r, "bad domain", "")
	contains(t, err, `--discovery-srv "bad domain"`)
	dead := asking(t, misbehave(t, says(t, dns.RcodeServerFailure)).addr)
	_, err = ClientEndpoints(t.Context(), dead, "example.com", "")
	contains(t, err, "--discovery-srv example.com", "SERVFAIL")
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("error %v", err)
	}
	none := asking(t, misbehave(t, says(t, dns.RcodeSuccess, "_etcd-client-ssl._tcp.example.com. 5 IN SRV 0 0 0 .")).addr)
	_, err = ClientEndpoints(t.Context(), none, "example.com", "")
	contains(t, err, "no record names a host and a port")
}
