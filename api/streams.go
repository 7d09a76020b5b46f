package api

import (
	"context"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// leaderless is how many election timeouts without a leader a stream that
// asked for one (`hasleader`) survives.
const leaderless = 3

// streams knows the open streams, and the unary calls that wait in a queue, to
// end them from this side: those that want a leader when there has been none
// for a while, and all of them at Close (a graceful stop would otherwise wait for
// the client to end them). A handler notices by the end of its Context.
type streams struct {
	leader func() uint64
	every  time.Duration // between looks at the leader: one election timeout

	mu   sync.Mutex
	open map[*openStream]struct{}
	over error // set at Close: why new streams end at once
}

type openStream struct {
	cancel      context.CancelCauseFunc
	wantsLeader bool
}

func newStreams(leader func() uint64, election time.Duration) *streams {
	return &streams{leader: leader, every: election, open: make(map[*openStream]struct{})}
}

// add returns a context whose cause tells why the stream had to end; done must
// be called when it has ended.
func (s *streams) add(ctx context.Context, wantsLeader bool) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	o := &openStream{cancel: cancel, wantsLeader: wantsLeader}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over != nil {
		cancel(s.over)
		return ctx, func() {}
	}
	s.open[o] = struct{}{}
	return ctx, func() {
		s.mu.Lock()
		delete(s.open, o)
		s.mu.Unlock()
		cancel(nil)
	}
}

// watch looks at the leader until ctx is done.
func (s *streams) watch(ctx context.Context) {
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	for missed := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s.leader() != 0 {
			missed = 0
			continue
		}
		if missed++; missed >= leaderless {
			s.end(rpctypes.ErrGRPCNoLeader, false)
		}
	}
}

// close ends every stream, present and future.
func (s *streams) close() {
	s.mu.Lock()
	s.over = rpctypes.ErrGRPCStopped
	s.mu.Unlock()
	s.end(rpctypes.ErrGRPCStopped, true)
}

// end cancels the streams that want a leader, or all.
func (s *streams) end(cause error, all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for o := range s.open {
		if all || o.wantsLeader {
			o.cancel(cause)
			delete(s.open, o)
		}
	}
}
