package member

import "github.com/conclave-kv/conclave/kv"

// NewWatchStream makes a stream of watches on this member's state. The caller
// closes it. At the end of the Member its Next answers kv.ErrClosed.
func (m *Member) NewWatchStream() *kv.Stream { return m.machine.Hub().NewStream() }

// routeWatches brings what is applied to the streams, beside applying.
func (m *Member) routeWatches() {
	hub := m.machine.Hub()
	defer hub.Close()
	for {
		select {
		case <-hub.Wake():
			hub.Route()
		case <-m.ctx.Done():
			return
		}
	}
}
