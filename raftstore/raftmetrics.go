package raftstore

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-metrics"
	"github.com/prometheus/client_golang/prometheus"
)

// raftMetrics is the bridge from the library's go-metrics to Prometheus. The
// library reports to one receiver for the whole process, so that the figures are
// the process's: nodes that share one, as in tests, also share them, in each of
// their registries. A member is a process of its own, and its figures are its.
//
// What is taken is raftSeries, so that the number of series has a bound; they
// have no labels, because what concerns one peer is among the mesh's. A series
// appears when raft has first reported it.
var raftMetrics = sync.OnceValue(func() *raftSink {
	sink := newRaftSink()
	// TimerGranularity makes raft's timers seconds; the rest of DefaultConfig
	// would add host names and figures of the Go runtime.
	_, err := metrics.NewGlobal(&metrics.Config{TimerGranularity: time.Second, FilterDefault: true}, sink)
	if err != nil {
		panic(err) // it has nothing to fail at
	}
	return sink
})

// raftSeries says which of the library's figures are exposed, by its own key.
var raftSeries = map[string]raftFigure{
	"raft.commitTime":                    timer("raft_commit_seconds", "Seconds from a leader taking an entry until it is agreed."),
	"raft.leader.dispatchLog":            timer("raft_leader_dispatch_seconds", "Seconds a leader takes to store a group of entries."),
	"raft.leader.dispatchNumLogs":        gauge("raft_leader_dispatch_entries", "Entries in the group a leader stored last."),
	"raft.leader.lastContact":            millis("raft_leader_last_contact_seconds", "Seconds since followers last answered a leader, when it looked at its lease."),
	"raft.replication.appendEntries.rpc": timer("raft_replication_append_seconds", "Seconds from a leader sending entries to a follower until it answered."),
	"raft.replication.heartbeat":         timer("raft_replication_heartbeat_seconds", "Seconds from a leader sending a heartbeat until it was answered."),
	"raft.rpc.appendEntries":             timer("raft_rpc_append_seconds", "Seconds a follower takes to handle a leader's message."),
	"raft.rpc.requestVote":               timer("raft_rpc_vote_seconds", "Seconds to handle a request for a vote."),
	"raft.candidate.electSelf":           timer("raft_candidate_elect_seconds", "Seconds a candidate takes to vote for itself and ask all others."),
	"raft.fsm.applyBatch":                timer("raft_fsm_apply_seconds", "Seconds to apply a group of agreed entries."),
	"raft.fsm.enqueue":                   timer("raft_fsm_enqueue_seconds", "Seconds agreed entries waited for room in the queue of what is to be applied."),
	"raft.thread.main.saturation":        share("raft_main_saturation", "Share of its time raft's main loop was busy."),
	"raft.thread.fsm.saturation":         share("raft_fsm_saturation", "Share of its time the goroutine that applies was busy."),
	"raft.state.follower":                counter("raft_state_follower_total", "Times this member became a follower."),
	"raft.state.candidate":               counter("raft_state_candidate_total", "Times this member became a candidate."),
	"raft.state.leader":                  counter("raft_state_leader_total", "Times this member became the leader."),
	"raft.transition.heartbeat_timeout":  counter("raft_heartbeat_timeouts_total", "Times this member missed its leader and looked for another."),
	"raft.transition.leader_lease_timeout": counter("raft_leader_lease_timeouts_total",
		"Times this member stopped leading because a majority no longer answered."),
	"raft.peers": gauge("raft_peers", "Members in the newest membership, as a leader last saw it."),
}

// raftFigure makes the series of one of raft's figures.
type raftFigure func() raftMetric

// raftMetric takes what raft reports.
type raftMetric interface {
	prometheus.Collector
	report(float64)
}

type raftHistogram struct {
	prometheus.Histogram
	unit float64
}

func (h raftHistogram) report(v float64) { h.Observe(v * h.unit) }

type raftGauge struct{ prometheus.Gauge }

func (g raftGauge) report(v float64) { g.Set(v) }

type raftCounter struct{ prometheus.Counter }

func (c raftCounter) report(v float64) { c.Add(v) }

func histogram(name, help string, unit float64) raftFigure {
	return func() raftMetric {
		return raftHistogram{prometheus.NewHistogram(prometheus.HistogramOpts{
			// 0.1 ms to 6.6 s.
			Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9),
		}), unit}
	}
}

func timer(name, help string) raftFigure  { return histogram(name, help, 1) }
func millis(name, help string) raftFigure { return histogram(name, help, 0.001) }

func gauge(name, help string) raftFigure {
	return func() raftMetric {
		return raftGauge{prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})}
	}
}

// share is a gauge too: the library reports it once a second.
func share(name, help string) raftFigure { return gauge(name, help) }

func counter(name, help string) raftFigure {
	return func() raftMetric {
		return raftCounter{prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})}
	}
}

// raftSink takes the library's figures. It is called on raft's own goroutines,
// several times for each entry.
type raftSink struct {
	metrics.BlackholeSink                       // for the calls that the library does not make
	known                 map[string]*raftEntry // fixed
}

func newRaftSink() *raftSink {
	s := &raftSink{known: map[string]*raftEntry{}}
	for key, figure := range raftSeries {
		s.known[key] = &raftEntry{figure: figure}
	}
	return s
}

func (s *raftSink) SetGauge(key []string, v float32)    { s.report(key, v) }
func (s *raftSink) IncrCounter(key []string, v float32) { s.report(key, v) }
func (s *raftSink) AddSample(key []string, v float32)   { s.report(key, v) }

func (s *raftSink) SetGaugeWithLabels(key []string, v float32, _ []metrics.Label) {
	s.report(key, v)
}

func (s *raftSink) IncrCounterWithLabels(key []string, v float32, _ []metrics.Label) {
	s.report(key, v)
}

func (s *raftSink) AddSampleWithLabels(key []string, v float32, _ []metrics.Label) {
	s.report(key, v)
}

// report allocates nothing but a series that is new.
func (s *raftSink) report(key []string, v float32) {
	var buf [64]byte
	name := buf[:0]
	for i, part := range key {
		if i > 0 {
			name = append(name, '.')
		}
		name = append(name, part...)
	}
	if e := s.known[string(name)]; e != nil {
		e.report(v)
	}
}

// Describe says nothing: the series come by and by.
func (s *raftSink) Describe(chan<- *prometheus.Desc) {}

// Collect sends the series that were reported.
func (s *raftSink) Collect(out chan<- prometheus.Metric) {
	for _, e := range s.known {
		if series := e.series.Load(); series != nil {
			(*series).Collect(out)
		}
	}
}

// raftEntry is a figure, and its series once it was reported.
type raftEntry struct {
	figure raftFigure
	once   sync.Once
	series atomic.Pointer[raftMetric]
}

func (e *raftEntry) report(v float32) {
	series := e.series.Load()
	if series == nil {
		e.once.Do(func() {
			made := e.figure()
			e.series.Store(&made)
		})
		series = e.series.Load()
	}
	(*series).report(float64(v))
}
