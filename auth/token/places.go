package token

import (
	"context"
	"slices"
	"sync"
)

const (
	// maxWaiting bounds who waits for a place, maxWaitingOfOne those of one source.
	maxWaiting      = 1000
	maxWaitingOfOne = maxWaiting / 4
)

// places are where passwords are checked. When more want one than there are, sources
// have their turns one after the other, whatever the number of their requests: who
// sends many keeps others waiting for one of them, not for all.
type places struct {
	mu      sync.Mutex
	free    int
	waiting int
	queues  map[string][]chan struct{} // by source, longest first; each is closed when it has a place
	sources []string                   // those that wait, in the order of their turns
}

func newPlaces(n int) *places {
	return &places{free: n, queues: make(map[string][]chan struct{})}
}

// take returns when there is a place for a source; give it back. Errors: ErrBusy,
// those of ctx.
func (p *places) take(ctx context.Context, source string) error {
	mine, err := p.enter(source)
	if mine == nil {
		return err
	}
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
		if !p.leave(source, mine) {
			p.give() // it was given meanwhile
		}
		return ctx.Err()
	}
}

// enter takes a place that is free, or else joins a queue.
func (p *places) enter(source string) (mine chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	queue := p.queues[source]
	switch {
	case p.free > 0: // then nobody waits
		p.free--
		return nil, nil
	case p.waiting >= maxWaiting || len(queue) >= maxWaitingOfOne:
		return nil, ErrBusy
	case len(queue) == 0:
		p.sources = append(p.sources, source)
	}
	mine = make(chan struct{})
	p.queues[source] = append(queue, mine)
	p.waiting++
	return mine, nil
}

// leave takes who gave up out of its queue; false if it is not there any more.
func (p *places) leave(source string, mine chan struct{}) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	queue := p.queues[source]
	i := slices.Index(queue, mine)
	if i < 0 {
		return false
	}
	p.waiting--
	if queue = slices.Delete(queue, i, i+1); len(queue) > 0 {
		p.queues[source] = queue
		return true
	}
	delete(p.queues, source)
	p.sources = slices.DeleteFunc(p.sources, func(s string) bool { return s == source })
	return true
}

// give hands a place on to the source whose turn it is.
func (p *places) give() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting == 0 {
		p.free++
		return
	}
	source := p.sources[0]
	p.sources = p.sources[1:]
	queue := p.queues[source]
	close(queue[0])
	p.waiting--
	if queue = queue[1:]; len(queue) == 0 {
		delete(p.queues, source)
		return
	}
	p.queues[source] = queue
	p.sources = append(p.sources, source)
}
