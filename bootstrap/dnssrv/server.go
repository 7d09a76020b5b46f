package dnssrv

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"
)

const (
	// maxConns bounds the TCP connections served at a time; a further one
	// waits in the kernel's queue until one ends.
	maxConns = 64
	// tcpIdle is how long a TCP connection may stay without a query.
	tcpIdle = 5 * time.Second
	// bindTries is how often a free port is looked for that is free for both
	// UDP and TCP.
	bindTries = 16
	// maxReadFailures in a row mean that the UDP socket is broken for good.
	maxReadFailures = 1000
)

// Server is an authoritative DNS server for one zone, on UDP and TCP. It
// serves what it was given and nothing else: no recursion, no transfers, no
// other zones. `conclave dev` runs it on loopback.
type Server struct {
	origin string
	log    zerolog.Logger
	zone   atomic.Pointer[zone]

	mu      sync.Mutex // guards what follows, and the order of SetRecords
	serial  uint32
	records []Record
	udp     *net.UDPConn
	tcp     *dns.Server
	addr    netip.AddrPort
	done    sync.WaitGroup // the UDP loop and the TCP server
}

// NewServer makes a server for the zone origin, such as conclave.test.
func NewServer(origin string, records []Record, log zerolog.Logger) (*Server, error) {
	s := &Server{origin: origin, log: log, serial: uint32(time.Now().Unix())}
	if err := s.SetRecords(records); err != nil {
		return nil, err
	}
	return s, nil
}

// SetRecords replaces the content of the zone, at any time. Queries see all of
// the old content or all of the new.
func (s *Server) SetRecords(records []Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.setLocked(records)
}

func (s *Server) setLocked(records []Record) error {
	z, err := newZone(s.origin, s.serial, s.addr.Addr(), records)
	if err != nil {
		return err
	}
	s.serial++
	s.records = append([]Record(nil), records...)
	s.zone.Store(z)
	return nil
}

// Start binds addr, host:port with an address as host, for UDP and TCP, and
// serves until Close. Port 0 takes a free one; see Addr.
func (s *Server) Start(addr string) error {
	want, err := netip.ParseAddrPort(addr)
	if err != nil {
		return fmt.Errorf("DNS server address %q: want an address and a port, like 127.0.0.1:5353", addr)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tcp != nil {
		return errors.New("DNS server is started already")
	}
	listener, udp, err := bind(want)
	if err != nil {
		return fmt.Errorf("DNS server: %w", err)
	}
	s.addr = listener.Addr().(*net.TCPAddr).AddrPort()
	if err := s.setLocked(s.records); err != nil {
		return errors.Join(err, listener.Close(), udp.Close())
	}
	started := make(chan struct{})
	s.udp = udp
	s.tcp = &dns.Server{
		Listener:          &limitedListener{Listener: listener, slots: make(chan struct{}, maxConns), closed: make(chan struct{})},
		Handler:           dns.HandlerFunc(s.serveTCP),
		ReadTimeout:       tcpIdle,
		WriteTimeout:      tcpIdle,
		IdleTimeout:       func() time.Duration { return tcpIdle },
		NotifyStartedFunc: func() { close(started) },
	}
	tcp := s.tcp
	s.done.Go(func() { s.serveUDP(udp) })
	s.done.Go(func() {
		if err := tcp.ActivateAndServe(); err != nil {
			s.log.Warn().Err(err).Msg("DNS server over TCP ended")
		}
	})
	<-started // Shutdown before that would be refused
	return nil
}

// bind listens on one port for both TCP and UDP.
func bind(want netip.AddrPort) (net.Listener, *net.UDPConn, error) {
	var err error
	for range bindTries {
		var listener *net.TCPListener
		listener, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(want))
		if err != nil {
			return nil, nil, err
		}
		got := listener.Addr().(*net.TCPAddr).AddrPort()
		var udp *net.UDPConn
		udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(got))
		if err == nil {
			return listener, udp, nil
		}
		_ = listener.Close()
		if want.Port() != 0 {
			break
		}
	}
	return nil, nil, err
}

// Addr is host:port as served; empty before Start.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.addr.IsValid() {
		return ""
	}
	return s.addr.String()
}

// Close stops serving and waits until nothing of the server runs any more.
func (s *Server) Close() error {
	s.mu.Lock()
	tcp, udp := s.tcp, s.udp
	s.tcp, s.udp = nil, nil
	s.addr = netip.AddrPort{}
	s.mu.Unlock()
	if tcp == nil {
		return nil
	}
	err := errors.Join(udp.Close(), tcp.Shutdown())
	s.done.Wait()
	return err
}

// serveUDP answers packets one after the other: each takes microseconds, and
// what arrives faster waits in the socket's buffer or is dropped there.
func (s *Server) serveUDP(conn *net.UDPConn) {
	buf := make([]byte, dns.MaxMsgSize)
	for failures := 0; failures < maxReadFailures; {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			failures++ // an earlier reply's ICMP error, for one
			continue
		}
		failures = 0
		if packet := s.answer(buf[:n], true); packet != nil {
			_, _ = conn.WriteToUDPAddrPort(packet, from) // the asker repeats
		}
	}
	s.log.Warn().Msg("DNS server over UDP ended: its socket only fails")
}

// answer gives the packet that answers packet, or nil for none.
func (s *Server) answer(packet []byte, udp bool) []byte {
	query := new(dns.Msg)
	if err := query.Unpack(packet); err != nil {
		return nil // a reply to garbage only helps who forges its sender
	}
	reply := s.zone.Load().reply(query)
	if reply == nil {
		return nil
	}
	fit(reply, query, udp)
	out, err := reply.Pack()
	if err != nil {
		s.log.Warn().Err(err).Msg("DNS reply cannot be packed")
		return nil
	}
	return out
}

func (s *Server) serveTCP(w dns.ResponseWriter, query *dns.Msg) {
	reply := s.zone.Load().reply(query)
	if reply == nil {
		return
	}
	fit(reply, query, false)
	_ = w.WriteMsg(reply) // the asker sees the connection end
}

// limitedListener accepts a connection only when fewer than its slots are open.
type limitedListener struct {
	net.Listener
	slots  chan struct{}
	once   sync.Once
	closed chan struct{}
}

func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: conn, slots: l.slots}, nil
}

func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// limitedConn gives its slot back when closed.
type limitedConn struct {
	net.Conn
	slots chan struct{}
	once  sync.Once
}

func (c *limitedConn) Close() error {
	c.once.Do(func() { <-c.slots })
	return c.Conn.Close()
}
