package api

import (
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
	"google.golang.org/grpc"
)

const (
	bodyTimeout      = 10 * time.Second // for the body of a request (none of ours needs one)
	answerTimeout    = time.Minute      // for a client to take an answer
	profileTimeout   = 10 * time.Minute // the same for /debug/pprof/, which records first
	deadPeerTimeout  = time.Minute      // of silence before an HTTP/2 peer is pinged
	maxRequestHeader = 64 << 10         // bytes
	maxScrapes       = 32               // concurrent /metrics
)

// handlers are what HTTP clients find; one set serves all sockets.
type handlers struct {
	opts    Options
	grpc    *grpc.Server
	health  *healthMetrics
	scrapes http.Handler
	gateway http.Handler // nil without one
}

func newHandlers(o Options, g *grpc.Server) (*handlers, error) {
	hm, err := newHealthMetrics(o.Registry)
	if err != nil {
		return nil, err
	}
	scrapes := promhttp.InstrumentMetricHandler(o.Registry,
		promhttp.HandlerFor(o.Registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes}))
	return &handlers{opts: o, grpc: g, health: hm, scrapes: scrapes}, nil
}

// newHTTP makes an HTTP server, for HTTP/1.1 and for HTTP/2 over TLS. There is
// no timeout for a whole request, because a gRPC stream may come this way;
// bounded sets one for everything else.
func (s *Server) newHTTP(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: s.opts.HeaderTimeout,
		IdleTimeout:       s.opts.IdleTimeout,
		MaxHeaderBytes:    maxRequestHeader,
		ErrorLog:          log.New(httpLog{s.opts.Log.Sample(&zerolog.BurstSampler{Burst: 20, Period: time.Second})}, "", 0),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: int(s.opts.MaxStreams),
			SendPingTimeout:      deadPeerTimeout,
			WriteByteTimeout:     answerTimeout,
		},
	}
}

// client is served on the client sockets.
func (h *handlers) client() http.Handler {
	mux := h.common()
	mux.Handle("/version", bounded(answerTimeout, http.HandlerFunc(h.version)))
	mux.Handle("/debug/vars", bounded(answerTimeout, http.HandlerFunc(h.vars)))
	if h.opts.Profiling {
		mux.Handle("/debug/pprof/", bounded(profileTimeout, profiling()))
	}
	if h.gateway != nil {
		mux.Handle("/v3/", h.gateway)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A gRPC client that offered HTTP/1 as well: grpc's handler is slower
		// than its own server, but answers the same.
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // gRPC has limits of its own
			h.grpc.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// metrics is served on the metrics sockets.
func (h *handlers) metrics() http.Handler { return h.common() }

func (h *handlers) common() *http.ServeMux {
	mux := http.NewServeMux()
	for path, f := range map[string]http.HandlerFunc{
		"/health": h.serveHealth,
		"/livez":  h.serveLivez, "/livez/": h.serveLivez,
		"/readyz": h.serveReadyz, "/readyz/": h.serveReadyz,
	} {
		mux.Handle(path, bounded(answerTimeout, f))
	}
	mux.Handle("/metrics", bounded(answerTimeout, h.scrapes))
	return mux
}

// bounded limits the time for the request's body and for taking the answer.
func bounded(answer time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		if r.Body != http.NoBody {
			_ = c.SetReadDeadline(time.Now().Add(bodyTimeout))
		}
		_ = c.SetWriteDeadline(time.Now().Add(answer))
		next.ServeHTTP(w, r)
	})
}

// onlyGET answers 405 to other methods.
func onlyGET(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet {
		return true
	}
	w.Header().Set("Allow", http.MethodGet)
	http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	return false
}

// httpLog makes net/http's complaints about clients log lines of ours.
type httpLog struct{ log zerolog.Logger }

func (l httpLog) Write(p []byte) (int, error) {
	l.log.Debug().Msg(strings.TrimSpace(string(p)))
	return len(p), nil
}
