package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// watchSpec is what watches while a load runs.
type watchSpec struct {
	Endpoints []string // connections are spread over them
	Conns     int      // clients of one connection and one stream each
	Keys      int      // watches of single keys that are written: the n-th of key n, again from the first after the last
	Idle      int      // watches of what nobody writes: of a key and of a prefix in turn
	Stalled   int      // clients with a watch of all keys that do not read
	Readers   int      // clients that list and watch, and ask for progress
}

// watchers is what watches beside a load.
type watchers struct {
	*load
	clients []*clientv3.Client
	cancel  context.CancelFunc
	wait    sync.WaitGroup
	events  atomic.Int64 // within the measured time

	mu       sync.Mutex
	delays   []time.Duration // from put to event
	progress []time.Duration // from request to answer
}

// watched runs the load beside its watches.
func (l *load) watched(ctx context.Context) (result loadResult, err error) {
	watching, cancel := context.WithCancel(ctx)
	w := &watchers{load: l, cancel: cancel}
	defer w.close()
	if w.clients, err = l.connect(ctx, l.spec.Watch.Endpoints, l.spec.Watch.Conns); err != nil {
		return result, err
	}
	if l.spec.Op == opHold {
		return w.hold(watching)
	}
	if err := w.open(watching); err != nil {
		return result, err
	}
	if result, err = l.run(ctx); err != nil {
		return result, err
	}
	w.close()
	return result, w.summarize(&result)
}

// holding runs fn while this process has the watches of a load.
func (k *cluster) holding(ctx context.Context, spec loadSpec, fn func(context.Context) error) (err error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	w := &watchers{load: &load{spec: spec, certs: k.certs, fail: fail}}
	watching, cancel := context.WithCancel(ctx)
	w.cancel = cancel
	defer w.close()
	if w.clients, err = w.connect(ctx, spec.Watch.Endpoints, spec.Watch.Conns); err != nil {
		return err
	}
	if err := w.open(watching); err != nil {
		return err
	}
	return orCause(ctx, fn(ctx))
}

// open makes all watches, and returns when the servers have them.
func (w *watchers) open(ctx context.Context) error {
	for n := range w.spec.Watch.Stalled {
		if err := w.stall(ctx, n); err != nil {
			return fmt.Errorf("watch without reading: %w", err)
		}
	}
	for n := range w.spec.Watch.Readers {
		if err := w.read(ctx, n); err != nil {
			return fmt.Errorf("list and watch: %w", err)
		}
	}
	var opening sync.WaitGroup
	for first, client := range w.clients {
		opening.Go(func() {
			for n := first; n < w.spec.Watch.Keys; n += len(w.clients) {
				w.follow(ctx, client.Watch(ctx, keyName(n%w.spec.Keys)))
			}
			for n := first; n < w.spec.Watch.Idle; n += len(w.clients) {
				var options []clientv3.OpOption
				if n/len(w.clients)%2 == 1 {
					options = append(options, clientv3.WithPrefix())
				}
				w.follow(ctx, client.Watch(ctx, fmt.Sprintf("idle/%08d", n), options...))
			}
		})
	}
	opening.Wait()
	return context.Cause(ctx)
}

// follow reads a watch of one key to its end, and fails the load if an event is
// missing or comes twice.
func (w *watchers) follow(ctx context.Context, events clientv3.WatchChan) {
	w.wait.Go(func() {
		delays, err := w.collect(ctx, events)
		if err != nil && ctx.Err() == nil {
			w.fail(fmt.Errorf("watch: %w", err))
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.delays = append(w.delays, delays...)
	})
}

func (w *watchers) collect(ctx context.Context, events clientv3.WatchChan) (delays []time.Duration, err error) {
	var version int64
	for resp := range events {
		if err := resp.Err(); err != nil {
			return delays, err
		}
		now, measuring := time.Now(), w.measuring.Load()
		for _, e := range resp.Events {
			if version != 0 && e.Kv.Version != version+1 {
				return delays, fmt.Errorf("version %d of %s came after %d", e.Kv.Version, e.Kv.Key, version)
			}
			version = e.Kv.Version
			if !measuring {
				continue
			}
			put, err := stampOf(e.Kv.Value)
			if err != nil {
				return delays, err
			}
			delays = append(delays, now.Sub(put))
		}
		if measuring {
			w.events.Add(int64(len(resp.Events)))
		}
	}
	if ctx.Err() == nil {
		err = errors.New("ended by the server")
	}
	return delays, err
}

// close ends the watches and waits for who reads them.
func (w *watchers) close() {
	w.cancel()
	w.wait.Wait()
	closeAll(w.clients)
	w.clients = nil
}

// summarize adds to a result what the watches saw. Called after close.
func (w *watchers) summarize(result *loadResult) error {
	result.Events = int(w.events.Load())
	if w.spec.Watch.Keys > 0 {
		if len(w.delays) == 0 {
			return errors.New("no event came within the measured time; use a longer -duration")
		}
		slices.Sort(w.delays)
		result.EventP50, result.EventP99 = millis(percentile(w.delays, 0.50)), millis(percentile(w.delays, 0.99))
	}
	if w.spec.Watch.Readers > 0 {
		if len(w.progress) == 0 {
			return errors.New("no request of progress was answered within the measured time; use a longer -duration")
		}
		slices.Sort(w.progress)
		result.Progress = millis(percentile(w.progress, 0.99))
	}
	return nil
}

// stampLen is how many bytes at the start of a value say when it was put.
const stampLen = 16

// stamped is a value with the time in place of its start.
func stamped(value string) string {
	return fmt.Sprintf("%0*x", stampLen, time.Now().UnixNano()) + value[min(stampLen, len(value)):]
}

// stampOf is when a value was put.
func stampOf(value []byte) (time.Time, error) {
	n, err := strconv.ParseInt(string(value[:min(stampLen, len(value))]), 16, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("the value of an event has no stamp: %w", err)
	}
	return time.Unix(0, n), nil
}
