package member

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// alarmFigures is 1 for each alarm that is raised, under etcd's name.
type alarmFigures struct{ m *Member }

var alarmsDesc = prometheus.NewDesc("etcd_debugging_server_alarms",
	"Alarms for every member in cluster. 1 for 'server_id' label with current ID. 2 for 'alarm_type' label with type of this alarm",
	[]string{"server_id", "alarm_type"}, nil)

func (a alarmFigures) Describe(out chan<- *prometheus.Desc) { out <- alarmsDesc }

func (a alarmFigures) Collect(out chan<- prometheus.Metric) {
	for _, e := range a.m.View().Alarms.All() {
		out <- prometheus.MustNewConstMetric(alarmsDesc, prometheus.GaugeValue, 1, strconv.FormatUint(e.Member, 16), e.Type.String())
	}
}
