package raftstore

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// installRate is what all installs that a member sends may take together, in
// bytes a second: the disks and processors at both ends serve writes at the same
// time. A 1 GiB state takes half a minute. With three members on two busy cores
// and one disk, twice as much took a quarter of the rate of puts meanwhile.
const installRate = 32 << 20

// paceSlack is how much of the time a sender could not use it may use later.
const paceSlack = 20 * time.Millisecond

// pace spreads bytes over time.
type pace struct {
	mu   sync.Mutex
	next time.Time // when the next byte may leave
}

// take reserves room for n bytes and returns how long to wait before they may
// leave.
func (p *pace) take(n int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if earliest := now.Add(-paceSlack); p.next.Before(earliest) {
		p.next = earliest
	}
	wait := max(p.next.Sub(now), 0)
	p.next = p.next.Add(time.Duration(n) * time.Second / installRate)
	return wait
}

// progressEvery is how often a transfer under way is logged.
const progressEvery = 5 * time.Second

// progress logs how far a transfer is. One goroutine uses it.
type progress struct {
	log         zerolog.Logger
	what        string
	total, done int64
	start, next time.Time
}

func newProgress(log zerolog.Logger, what, peer string, total int64) *progress {
	now := time.Now()
	p := &progress{log: log.With().Str("peer", peer).Logger(), what: what, total: total, start: now, next: now.Add(progressEvery)}
	p.line("begin")
	return p
}

func (p *progress) add(n int) {
	p.done += int64(n)
	now := time.Now()
	switch {
	case p.done == p.total:
		p.line("all bytes are over")
	case !now.Before(p.next):
		p.next = now.Add(progressEvery)
		p.line("under way")
	}
}

func (p *progress) line(stage string) {
	share := 100.0
	if p.total > 0 {
		share = float64(p.done) / float64(p.total) * 100
	}
	event := p.log.Info().Int64("bytes", p.done).Int64("total-bytes", p.total).Float64("percent", share)
	if took := time.Since(p.start); p.done > 0 && took > 0 {
		event = event.Int64("bytes-per-second", int64(float64(p.done)/took.Seconds()))
	}
	event.Msg(p.what + ": " + stage)
}

// snapshotTraffic is what a mesh counts of installs, under etcd's names, and
// the pace they share.
type snapshotTraffic struct {
	pace          pace
	sendSeconds   *prometheus.HistogramVec
	sendSuccess   *prometheus.CounterVec
	sendFailed    *prometheus.CounterVec
	receivedWhole *prometheus.CounterVec
	receiveFailed *prometheus.CounterVec
}

func newSnapshotTraffic(reg prometheus.Registerer) *snapshotTraffic {
	counter := func(name, help, label string) *prometheus.CounterVec {
		return registered(reg, prometheus.NewCounterVec(networkOpts(name, help), []string{label}))
	}
	return &snapshotTraffic{
		sendSeconds: registered(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "etcd", Subsystem: "network", Name: "snapshot_send_total_duration_seconds",
			Help: "Seconds to send a snapshot and have it installed.",
			// 0.1 s to 51 s, as etcd has them.
			Buckets: prometheus.ExponentialBuckets(0.1, 2, 10),
		}, []string{"To"})),
		sendSuccess:   counter("snapshot_send_success", "Snapshots that were sent and installed.", "To"),
		sendFailed:    counter("snapshot_send_failures", "Snapshots that were not sent to the end, or not installed.", "To"),
		receivedWhole: counter("snapshot_receive_success", "Snapshots that were received whole.", "From"),
		receiveFailed: counter("snapshot_receive_failures", "Snapshots that were not received whole.", "From"),
	}
}

// sent counts the end of an install that this member sent.
func (s *snapshotTraffic) sent(to string, took time.Duration, success bool) {
	if !success {
		s.sendFailed.WithLabelValues(to).Inc()
		return
	}
	s.sendSuccess.WithLabelValues(to).Inc()
	s.sendSeconds.WithLabelValues(to).Observe(took.Seconds())
}
