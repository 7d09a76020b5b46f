package member

import (
	"fmt"
	"time"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// RaftReport says how this member sees itself and the others. It asks nobody.
func (m *Member) RaftReport() *conclavepb.RaftReport {
	members := m.View().Members
	r := m.node.Report(func(id uint64) string {
		if id == m.cfg.ID {
			return m.cfg.Name
		}
		e, _ := members.Get(id)
		return e.Name
	})
	r.ClusterId = fmt.Sprintf("%x", m.cfg.ClusterID)
	if resp, err := m.Alarms(m.ctx); err == nil {
		for _, a := range resp.Alarms {
			r.Alarms = append(r.Alarms, fmt.Sprintf("%s of member %x", a.Alarm, a.MemberID))
		}
	}
	return r
}

// Stuck is how long the write to the log that is under way has taken so far; 0
// when there is none.
func (m *Member) Stuck() time.Duration { return m.node.Stuck() }
