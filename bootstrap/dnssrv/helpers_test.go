package dnssrv

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/bootstrap"
)

const tlsService, plainService = "_etcd-server-ssl._tcp", "_etcd-server._tcp"

// serve starts our own server for example.com on loopback.
func serve(t *testing.T, records ...Record) *Server {
	t.Helper()
	server, err := NewServer("example.com", records, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// asking makes a resolver that asks one server only and has no hosts file.
func asking(t *testing.T, server string) *Resolver {
	t.Helper()
	none := filepath.Join(t.TempDir(), "none")
	r, err := NewResolver(ResolverOptions{Server: server, ConfFile: none, HostsFile: none})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// configured makes a resolver as the system's would be with the given hosts
// file and resolv.conf, but for the servers, which are on ports of their own.
func configured(t *testing.T, hosts, conf string, servers ...string) *Resolver {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "hosts"), hosts)
	write(t, filepath.Join(dir, "resolv.conf"), conf)
	r, err := NewResolver(ResolverOptions{ConfFile: filepath.Join(dir, "resolv.conf"), HostsFile: filepath.Join(dir, "hosts")})
	if err != nil {
		t.Fatal(err)
	}
	r.conf.parse = func(file io.Reader) (*dns.ClientConfig, error) {
		c, err := parseConf(file)
		if err == nil {
			c.Servers = servers
		}
		return c, err
	}
	return r
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// fake is a server that misbehaves as its handler says.
type fake struct {
	addr    string
	queries atomic.Int64 // over UDP and TCP together
	tcp     atomic.Int64
}

// misbehave starts a fake on UDP and TCP.
func misbehave(t *testing.T, handler func(w dns.ResponseWriter, query *dns.Msg)) *fake {
	t.Helper()
	listener, udp, err := bind(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{addr: listener.Addr().String()}
	count := dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		f.queries.Add(1)
		if _, ok := w.RemoteAddr().(*net.TCPAddr); ok {
			f.tcp.Add(1)
		}
		handler(w, query)
	})
	for _, server := range []*dns.Server{{Listener: listener, Handler: count}, {PacketConn: udp, Handler: count}} {
		started, ended := make(chan struct{}), make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() {
			defer close(ended)
			_ = server.ActivateAndServe()
		}()
		<-started
		t.Cleanup(func() {
			_ = server.Shutdown()
			<-ended
		})
	}
	return f
}

// says makes a handler that answers every question with the given records,
// written as in a zone file.
func says(t *testing.T, rcode int, lines ...string) func(dns.ResponseWriter, *dns.Msg) {
	t.Helper()
	records := parseRecords(t, lines...)
	return func(w dns.ResponseWriter, query *dns.Msg) {
		reply := new(dns.Msg).SetRcode(query, rcode)
		reply.Answer = records
		reply.RecursionAvailable = true
		_ = w.WriteMsg(reply)
	}
}

func parseRecords(t *testing.T, lines ...string) []dns.RR {
	t.Helper()
	var records []dns.RR
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, rr)
	}
	return records
}

// silent swallows every question.
func silent(dns.ResponseWriter, *dns.Msg) {}

// deadServer is an address where nobody listens.
func deadServer(t *testing.T) string {
	t.Helper()
	listener, udp, err := bind(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	defer udp.Close()
	return listener.Addr().String()
}

func addrs(texts ...string) []netip.Addr {
	var list []netip.Addr
	for _, text := range texts {
		list = append(list, netip.MustParseAddr(text))
	}
	return list
}

func contains(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error has several lines: %q", err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
}

// lookups runs before each lookup of src.
func lookups(before func(), src bootstrap.Source) bootstrap.Source {
	return &watched{before: before, Source: src}
}

type watched struct {
	bootstrap.Source
	before func()
}

func (w *watched) Lookup(ctx context.Context, self bootstrap.Self) (bootstrap.Answer, error) {
	w.before()
	return w.Source.Lookup(ctx, self)
}
