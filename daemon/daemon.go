package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/api"
	"github.com/conclave-kv/conclave/audit"
	"github.com/conclave-kv/conclave/bootstrap/dnssrv"
	"github.com/conclave-kv/conclave/member"
	"github.com/conclave-kv/conclave/raftstore"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// Daemon is one process of conclave, from New to the return of Run.
type Daemon struct {
	cfg      Config
	given    Config // cfg without defaults
	log      zerolog.Logger
	registry *prometheus.Registry
	resolver *dnssrv.Resolver
	ready    chan struct{} // closed when clients are served
	fatal    chan error    // the first error that ends the process

	// Built by Run, in this order.
	dir       *dataDir
	id        identity
	fresh     bool     // nothing of this member was on disk before
	witnesses []uint64 // who is asked to record a start that joins
	recording sync.Mutex
	recorded  identity // what the data directory says
	// givenPeers are the URLs of --initial-cluster at a restart, by name.
	givenPeers map[string][]string
	peers      []net.Listener
	clients    *api.Listeners
	security   security
	claims     *raftstore.Claims
	mesh       *raftstore.Mesh
	machine    *fsm.Machine
	table      atomic.Pointer[fsm.Machine] // machine once it is open
	member     *member.Member
	running    atomic.Pointer[member.Member] // member once it was started
	node       *raftstore.Node
	audit      *audit.Log // nil: there is none
	server     *api.Server
	closeLast  []func() // run in reverse when Run returns
	work       sync.WaitGroup
	ctx        context.Context // of Run
}

// New checks a Config and makes a Daemon of it. Nothing is opened yet.
func New(cfg Config, log zerolog.Logger) (*Daemon, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	resolver, err := dnssrv.NewResolver(dnssrv.ResolverOptions{Server: cfg.DiscoverySRVServer})
	if err != nil {
		return nil, err
	}
	d := &Daemon{
		cfg:      cfg.WithDefaults(),
		given:    cfg,
		log:      log,
		registry: prometheus.NewRegistry(),
		resolver: resolver,
		ready:    make(chan struct{}),
		fatal:    make(chan error, 1),
	}
	d.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return d, nil
}

// Ready is closed when clients are let in: a leader is known and this member
// has introduced itself.
func (d *Daemon) Ready() <-chan struct{} { return d.ready }

// Run starts everything, serves until ctx ends or the process cannot go on, and
// stops everything in reverse. It returns nil after an orderly stop.
func (d *Daemon) Run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	d.ctx = ctx
	defer func() { d.closeWithin(err) }()
	d.onClose(d.work.Wait)
	d.onClose(cancel)
	for _, step := range []func(context.Context) error{
		d.openDirectory,
		d.findPeers,
		d.bind,
		d.secure,
		d.connect,
		d.agree,
		d.openState,
		d.openAudit,
		d.serve,
		d.awaitReady,
	} {
		if err := d.orFatal(ctx, step); err != nil {
			return ended(ctx, err)
		}
	}
	select {
	case <-ctx.Done():
		d.log.Info().Msg("stopping")
		return nil
	case err := <-d.fatal:
		if errors.Is(err, errRemoved) {
			return nil // an orderly end, and the last one
		}
		return err
	}
}

// orFatal runs a step, which ends early when another part of the process fails.
func (d *Daemon) orFatal(ctx context.Context, step func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case err := <-d.fatal:
			cancel(err)
		case <-stop:
		}
	}()
	err := step(ctx)
	close(stop)
	<-done
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// ended turns an interruption into an orderly stop.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// fail ends the process with err; only the first call counts.
func (d *Daemon) fail(err error) {
	select {
	case d.fatal <- err:
	default:
	}
}

// onClose has f run when Run returns, before what was added earlier.
func (d *Daemon) onClose(f func()) { d.closeLast = append(d.closeLast, f) }

// stopTimeout bounds the stop of a process that cannot go on: what it waits for
// may be what has failed, such as a disk that hangs.
const stopTimeout = 5 * time.Second

// closeWithin stops everything: whatever time it takes after a wish to stop, and
// within stopTimeout after a failure.
func (d *Daemon) closeWithin(failure error) {
	if failure == nil {
		d.close()
		return
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		d.close()
	}()
	select {
	case <-closed:
	case <-time.After(stopTimeout):
		d.log.Warn().Err(failure).Msg("not everything could be stopped in order")
	}
}

func (d *Daemon) close() {
	for i := len(d.closeLast) - 1; i >= 0; i-- {
		d.closeLast[i]()
	}
	d.log.Info().Msg("stopped")
}

// closing wraps a Close that may fail for the log.
func (d *Daemon) closing(what string, f func() error) func() {
	return func() {
		if err := f(); err != nil {
			d.log.Warn().Err(err).Msg(fmt.Sprintf("closing %s", what))
		}
	}
}
