package audit

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// anchors has the cluster remember the head of a log, now and then.
type anchors struct {
	log    *Log
	anchor func(context.Context, Head) error
	every  time.Duration
	soon   chan struct{} // holds one: not to wait for the time
	seq    atomic.Uint64 // of the newest anchor
	failed bool          // the last attempt

	cancel  context.CancelFunc
	working sync.WaitGroup
}

func (a *anchors) begin(l *Log, o Options) {
	a.log, a.anchor, a.every = l, o.Anchor, o.AnchorEvery
	if a.every == 0 {
		a.every = DefaultAnchorEvery
	}
	a.soon = make(chan struct{}, 1)
	a.seq.Store(o.Anchored.Seq)
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	a.working.Go(func() { a.run(ctx) })
}

// hurry has an anchor made at once: a file was finished.
func (a *anchors) hurry() {
	select {
	case a.soon <- struct{}{}:
	default:
	}
}

func (a *anchors) run(ctx context.Context) {
	tick := time.NewTicker(a.every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-a.soon:
		case <-ctx.Done():
			return
		}
		a.make(ctx)
	}
}

// end stops making anchors, after a last one.
func (a *anchors) end(ctx context.Context) {
	a.cancel()
	a.working.Wait()
	a.make(ctx)
}

// make anchors the head, if it is not anchored yet. What is anchored is on the disk:
// a crash must not look like a cut.
func (a *anchors) make(ctx context.Context) {
	head := *a.log.head.Load()
	if head.Seq <= a.seq.Load() || a.anchor == nil {
		return
	}
	err := a.log.sink.Sync()
	if err == nil {
		err = a.anchor(ctx, head)
	}
	if err == nil {
		a.seq.Store(head.Seq)
		a.failed = false
		return
	}
	if !a.failed && ctx.Err() == nil {
		a.failed = true
		a.log.log.Warn().Err(err).Uint64("record", head.Seq).Msg("the cluster could not be told the end of the audit log; trying again")
	}
}
