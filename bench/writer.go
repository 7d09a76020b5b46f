package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// gapWriter writes without pause, at all members in turn, and keeps what was
// acknowledged. Attempts overlap, because one sent to a member that is stuck
// hangs until its timeout.
type gapWriter struct {
	members []*member
	prefix  string // of its keys; each is written once
	cancel  context.CancelFunc
	wait    sync.WaitGroup

	mu    sync.Mutex
	acked []ack
	woken chan struct{} // closed and replaced at every ack
}

// ack is one successful write.
type ack struct {
	key          string
	revision     int64
	began, ended time.Time
}

// newGapWriter starts one. Close it.
func newGapWriter(ctx context.Context, members []*member, prefix string) *gapWriter {
	ctx, cancel := context.WithCancel(ctx)
	w := &gapWriter{members: members, prefix: prefix, cancel: cancel, woken: make(chan struct{})}
	w.wait.Go(func() { w.run(ctx) })
	return w
}

func (w *gapWriter) run(ctx context.Context) {
	tick := time.NewTicker(attemptEvery)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		m, key := w.members[n%len(w.members)], fmt.Sprintf("%s%06d", w.prefix, n)
		w.wait.Go(func() { w.attempt(ctx, m, key) })
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// attempt makes one write. One that fails may have happened: it is forgotten.
func (w *gapWriter) attempt(ctx context.Context, m *member, key string) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	began := time.Now()
	answer, err := pb.NewKVClient(m.conn).Put(ctx, &pb.PutRequest{Key: []byte(key), Value: []byte(m.name)})
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acked = append(w.acked, ack{key: key, revision: answer.Header.Revision, began: began, ended: time.Now()})
	close(w.woken)
	w.woken = make(chan struct{})
}

// since lists the acks of writes begun after a moment, in the order they came.
func (w *gapWriter) since(t time.Time) ([]ack, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []ack
	for _, a := range w.acked {
		if a.began.After(t) {
			list = append(list, a)
		}
	}
	return list, w.woken
}

// await waits for the first success that began after a moment.
func (w *gapWriter) await(ctx context.Context, t time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, failoverLimit)
	defer cancel()
	for {
		list, woken := w.since(t)
		if len(list) > 0 {
			return nil
		}
		select {
		case <-woken:
		case <-ctx.Done():
			return fmt.Errorf("no write succeeded: %w", context.Cause(ctx))
		}
	}
}

// close stops writing and waits for what is under way.
func (w *gapWriter) close() {
	w.cancel()
	w.wait.Wait()
}

// gap is the longest time after a moment without a successful write, among
// writes begun after it.
func gap(from time.Time, acks []ack) time.Duration {
	ends := make([]time.Time, 0, len(acks))
	for _, a := range acks {
		ends = append(ends, a.ended)
	}
	slices.SortFunc(ends, time.Time.Compare)
	var longest time.Duration
	last := from
	for _, end := range ends {
		longest = max(longest, end.Sub(last))
		last = end
	}
	return longest
}
