package member

import "github.com/prometheus/client_golang/prometheus"

// watchFigures are etcd's figures of watches, read when somebody asks.
type watchFigures struct{ m *Member }

func watchDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("etcd_debugging_mvcc_"+name, help, nil, nil)
}

var (
	watchStreamsDesc = watchDesc("watch_stream_total", "Total number of watch streams.")
	watchersDesc     = watchDesc("watcher_total", "Total number of watchers.")
	slowWatchersDesc = watchDesc("slow_watcher_total", "Total number of unsynced slow watchers.")
	pendingDesc      = watchDesc("pending_events_total", "Total number of pending events to be sent.")
	eventsDesc       = watchDesc("events_total", "Total number of events sent by this member.")
)

// Describe is required by prometheus.Collector.
func (f watchFigures) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{watchStreamsDesc, watchersDesc, slowWatchersDesc, pendingDesc, eventsDesc} {
		out <- d
	}
}

// Collect gives all of them as of one moment.
func (f watchFigures) Collect(out chan<- prometheus.Metric) {
	now := f.m.machine.Hub().Figures()
	for d, value := range map[*prometheus.Desc]int{
		watchStreamsDesc: now.Streams, watchersDesc: now.Watches, slowWatchersDesc: now.Behind, pendingDesc: now.Pending,
	} {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value))
	}
	out <- prometheus.MustNewConstMetric(eventsDesc, prometheus.CounterValue, float64(now.Sent))
}
