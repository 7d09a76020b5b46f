package kv

// Figures are what there is of watches, and what they were given.
type Figures struct {
	Streams int
	Watches int
	Behind  int   // watches that read history, or will
	Pending int   // events that wait for their consumers
	Sent    int64 // events that consumers have taken since the start
}

// Figures looks at every stream, and holds up routing meanwhile.
func (h *Hub) Figures() Figures {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := Figures{Streams: len(h.streams), Watches: int(h.watching.Load()), Sent: h.sent}
	for s := range h.streams {
		s.mu.Lock()
		f.Behind += len(s.behind)
		f.Pending += s.events
		f.Sent += s.sent
		s.mu.Unlock()
	}
	return f
}
