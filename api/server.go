package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/grpc"
)

// hardStopTimeout is how long handlers may take to notice that their call was
// cut off.
const hardStopTimeout = 5 * time.Second

// httpStopTimeout is how long HTTP requests may take to end at Close. They are
// probes and scrapes; a connection on which nothing was asked yet would hold
// net/http's own graceful stop for 5 s.
const httpStopTimeout = time.Second

// Server is the door for clients, from New to Close.
type Server struct {
	opts    Options
	grpc    *grpc.Server
	health  interface{ Shutdown() }
	streams *streams
	metrics *rpcMetrics
	audit   *auditor // nil without an audit log

	gateway *gateway // nil without one

	toGRPC    *handover
	toHTTP    *handover // of the client sockets
	toMetrics *handover
	client    *http.Server
	probes    *http.Server // of the metrics sockets
	doors     []*door

	ctx    context.Context // done at Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex // orders Serve's starting before Close's waiting
	stopped bool

	closeOnce sync.Once
	closed    chan struct{}
	closeErr  error
}

// New assembles a server on bound listeners. It starts nothing.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{opts: o, closed: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.streams = newStreams(o.Backend.Leader, o.ElectionTimeout)
	if s.metrics, err = newRPCMetrics(o.Registry, o.HandlingSeconds); err != nil {
		return nil, fmt.Errorf("api: register metrics: %w", err)
	}
	s.newGRPC()
	h, err := newHandlers(o, s.grpc)
	if err != nil {
		return nil, fmt.Errorf("api: register metrics: %w", err)
	}
	s.toGRPC, s.toHTTP, s.toMetrics = newHandover(), newHandover(), newHandover()
	if !o.NoGateway {
		l := &links{to: s.toGRPC, metrics: s.metrics, callers: newCallers()}
		if s.gateway, err = newGateway(l, o); err != nil {
			return nil, fmt.Errorf("api: make the JSON gateway: %w", err)
		}
		h.gateway = s.gateway
	}
	door, err := newGuard(o, h.client())
	if err != nil {
		return nil, fmt.Errorf("--cors: %w", err)
	}
	door.audit = s.audit
	door.log = o.Log.Sample(&zerolog.BurstSampler{Burst: 20, Period: time.Second})
	s.client, s.probes = s.newHTTP(door), s.newHTTP(h.metrics())
	for _, sock := range o.Listeners.sockets {
		s.doors = append(s.doors, s.newDoor(sock))
	}
	return s, nil
}

func (s *Server) newDoor(sock *socket) *door {
	d := &door{
		socket:   sock,
		timeout:  s.opts.HandshakeTimeout,
		slots:    make(chan struct{}, s.opts.MaxHandshakes),
		log:      s.opts.Log.Sample(&zerolog.BurstSampler{Burst: 20, Period: time.Second}),
		ready:    s.opts.Ready,
		ended:    s.ctx.Done(),
		received: s.metrics.received,
		sent:     s.metrics.sent,
		pending:  make(map[*conn]time.Time),
	}
	protocols := []string{debugProtocol, protoH2, protoHTTP1}
	switch sock.role {
	case roleClient:
		d.grpc, d.http = s.toGRPC, s.toHTTP
	case roleGRPCOnly:
		d.grpc, protocols = s.toGRPC, []string{debugProtocol, protoH2}
	case roleHTTPOnly:
		d.http = s.toHTTP
	case roleMetrics:
		d.http, d.ready = s.toMetrics, nil
	}
	if sock.tls {
		d.tls = doorTLS(s.opts.TLS, protocols)
	}
	return d
}

// Serve answers clients until Close, then returns nil. It may be called once.
func (s *Server) Serve() error {
	s.start()
	<-s.closed
	return nil
}

func (s *Server) start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	s.wg.Go(func() { s.streams.watch(s.ctx) })
	s.wg.Go(func() { _ = s.grpc.Serve(s.toGRPC) })
	s.wg.Go(func() { _ = s.client.Serve(s.toHTTP) })
	s.wg.Go(func() { _ = s.probes.Serve(s.toMetrics) })
	for _, d := range s.doors {
		s.wg.Go(func() { s.open(d) })
	}
}

// open runs a door. Before the member is ready one that leads to gRPC lets in
// only who asks for reports; see door.admit.
func (s *Server) open(d *door) {
	addr := d.socket.Addr().String()
	if d.socket.role == roleMetrics {
		s.opts.Log.Info().Str("address", addr).Msg("serving health and metrics")
		d.run(s.ctx)
		return
	}
	var running sync.WaitGroup
	defer running.Wait()
	if d.grpc != nil {
		running.Go(func() { d.run(s.ctx) })
	}
	if s.opts.Ready != nil {
		select {
		case <-s.opts.Ready:
		case <-s.ctx.Done():
			return
		}
	}
	s.opts.Log.Info().Str("address", addr).Msg("ready to serve client requests")
	if d.socket.tls {
		s.opts.Log.Info().Str("address", addr).Msg("serving client traffic securely")
	}
	if d.socket.plain {
		level := zerolog.WarnLevel
		if isLoopback(d.socket.Addr()) {
			level = zerolog.InfoLevel
		}
		s.opts.Log.WithLevel(level).Str("address", addr).
			Msg("serving client traffic insecurely; this is strongly discouraged!")
	}
	if d.grpc == nil {
		d.run(s.ctx)
	}
}

func isLoopback(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return !ok || t.IP.IsLoopback() // a unix socket does not leave the host
}

// Close gives the addresses back at once, lets running calls end for at most
// StopTimeout, and then cuts them off. It waits for every goroutine of the
// server; an error says that some call did not end even then. Only the first
// call works, later ones wait for it.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		s.closeErr = s.stop()
		close(s.closed)
	})
	<-s.closed
	return s.closeErr
}

func (s *Server) stop() error {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	for _, d := range s.doors {
		d.close()
	}
	s.cancel()
	s.health.Shutdown()
	s.streams.close()

	ctx, cancel := context.WithTimeout(context.Background(), s.opts.StopTimeout)
	defer cancel()
	// gRPC and HTTP end side by side. A gRPC call that came by way of the HTTP
	// server (handlers.client) is cut off here: only grpc's own transport drains.
	var end sync.WaitGroup
	end.Go(func() {
		if s.gateway != nil {
			s.gateway.drain(ctx)
		}
		stopHTTP(ctx, s.client)
	})
	end.Go(func() { stopHTTP(ctx, s.probes) })
	err := stopGRPC(ctx, s.grpc)
	end.Wait()
	if s.gateway != nil {
		s.gateway.close()
	}
	_ = s.toGRPC.Close() // frees a door that is handing over
	_ = s.toHTTP.Close()
	_ = s.toMetrics.Close()
	s.wg.Wait()
	return err
}

func stopHTTP(ctx context.Context, h *http.Server) {
	ctx, cancel := context.WithTimeout(ctx, httpStopTimeout)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil {
		_ = h.Close()
	}
}

// stopGRPC drains g until ctx is done, then cuts connections and cancels the
// calls' contexts. Handlers that outlive that are reported, and left behind.
func stopGRPC(ctx context.Context, g *grpc.Server) error {
	graceful := make(chan struct{})
	go func() {
		g.GracefulStop()
		close(graceful)
	}()
	select {
	case <-graceful:
		return nil
	case <-ctx.Done():
	}
	go g.Stop()
	select {
	case <-graceful:
		return nil
	case <-time.After(hardStopTimeout):
		return errors.New("api: some calls did not end after they were cut off")
	}
}
