package api

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/auth"
)

// healthKey is read to see whether reading works; it need not exist.
const healthKey = "health"

// healthAnswer is etcd's form; health is a string, "true" or "false".
type healthAnswer struct {
	Health string `json:"health"`
	Reason string `json:"reason"`
}

// serveHealth answers /health. It waits as long as the read it makes waits:
// with a stalled quorum the caller's own timeout is the answer. Parameters:
// exclude=NOSPACE (repeatable) ignores that alarm, serializable=true asks for
// this member alone.
func (h *handlers) serveHealth(w http.ResponseWriter, r *http.Request) {
	if !onlyGET(w, r) {
		return
	}
	q := r.URL.Query()
	ctx, cancel := context.WithTimeout(r.Context(), h.opts.RequestTimeout)
	defer cancel()
	reason := h.unhealthy(ctx, q["exclude"], q.Get("serializable") == "true")

	answer, code := healthAnswer{Health: "true"}, http.StatusOK
	if reason != "" {
		answer, code = healthAnswer{Health: "false", Reason: reason}, http.StatusServiceUnavailable
		h.health.failures.Inc()
		h.opts.Log.Warn().Str("reason", reason).Msg("serving /health false")
	} else {
		h.health.successes.Inc()
	}
	writeJSON(w, code, answer)
}

// unhealthy is the reason for which this member is not healthy, "" if it is.
func (h *handlers) unhealthy(ctx context.Context, exclude []string, serializable bool) string {
	alarms, err := h.opts.Backend.Alarms(ctx)
	if err != nil {
		return "ALARM ERROR:" + errorText(err)
	}
	for _, a := range alarms.GetAlarms() {
		switch name := a.GetAlarm().String(); {
		case slices.Contains(exclude, name):
		case a.GetAlarm() == pb.AlarmType_NONE:
		default:
			return "ALARM " + name
		}
	}
	if !serializable && h.opts.Backend.Leader() == 0 {
		return "RAFT NO LEADER"
	}
	if err := h.read(ctx, serializable); err != nil {
		return "RANGE ERROR:" + errorText(err)
	}
	return ""
}

// read makes the smallest read there is.
func (h *handlers) read(ctx context.Context, serializable bool) error {
	_, err := h.opts.Backend.Range(auth.AsMember(ctx), &pb.RangeRequest{
		Key: []byte(healthKey), Limit: 1, Serializable: serializable,
	})
	return err
}

// errorText is what a gRPC client would read.
func errorText(err error) string { return status.Convert(toGRPC(err)).Message() }

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the client is gone: nobody to tell
}

// healthMetrics counts what the probes found.
type healthMetrics struct {
	successes, failures prometheus.Counter
	check               *prometheus.GaugeVec   // 1 passed, 0 failed; by type and name
	checks              *prometheus.CounterVec // by type, name and status
}

func newHealthMetrics(reg prometheus.Registerer) (*healthMetrics, error) {
	m := &healthMetrics{
		successes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "etcd_server_health_success", Help: "The total number of successful health checks."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "etcd_server_health_failures", Help: "The total number of failed health checks."}),
		check: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "etcd_server_healthcheck", Help: "The result of each kind of healthcheck."}, []string{"type", "name"}),
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "etcd_server_healthchecks_total", Help: "The total number of each kind of healthcheck."}, []string{"type", "name", "status"}),
	}
	return m, registerAll(reg, m.successes, m.failures, m.check, m.checks)
}

func (m *healthMetrics) record(kind, name string, err error) {
	passed, result := 1.0, "success"
	if err != nil {
		passed, result = 0, "error"
	}
	m.check.WithLabelValues(kind, name).Set(passed)
	m.checks.WithLabelValues(kind, name, result).Inc()
}
