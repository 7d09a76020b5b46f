package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// What kube-apiserver does: its pages of lists, and its requests of progress
// while somebody waits for a consistent read. resources is how many ranges the
// keys are parted into, each listed and watched by its share of the readers, as
// by several API servers.
const (
	listPage      = 500
	progressEvery = 100 * time.Millisecond
	resources     = 10
)

// reader is one client that lists and watches a part of the keys.
type reader struct {
	*watchers
	number   int
	watcher  clientv3.Watcher // a stream of its own
	from, to string

	mu    sync.Mutex
	asked time.Time // the oldest request without an answer; zero: none
}

// read starts a reader, when it has listed its part.
func (w *watchers) read(ctx context.Context, n int) error {
	client := w.clients[n%len(w.clients)]
	part := n % resources
	r := &reader{
		watchers: w, number: n, watcher: clientv3.NewWatcher(client),
		from: keyName(part * w.spec.Keys / resources), to: keyName((part + 1) * w.spec.Keys / resources),
	}
	rev, err := r.list(ctx, client)
	if err != nil {
		return err
	}
	events := r.watcher.Watch(ctx, r.from, clientv3.WithRange(r.to), clientv3.WithRev(rev+1),
		clientv3.WithPrevKV(), clientv3.WithProgressNotify())
	w.wait.Go(func() { r.run(ctx, events, rev) })
	return nil
}

// list reads the part in pages, all at the revision that it returns.
func (r *reader) list(ctx context.Context, client *clientv3.Client) (rev int64, err error) {
	for from := r.from; ; {
		once, cancel := context.WithTimeout(ctx, opTimeout)
		page, err := client.Get(once, from, clientv3.WithRange(r.to), clientv3.WithLimit(listPage), clientv3.WithRev(rev))
		cancel()
		if err != nil {
			return 0, err
		}
		if rev == 0 {
			rev = page.Header.Revision
		}
		if !page.More {
			return rev, nil
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}

// run reads events and answers while it asks for progress.
func (r *reader) run(ctx context.Context, events clientv3.WatchChan, rev int64) {
	var asking sync.WaitGroup
	ctx, stop := context.WithCancel(ctx)
	asking.Go(func() { r.ask(ctx) })
	answers, err := r.collect(events, rev)
	if ctx.Err() == nil {
		r.fail(fmt.Errorf("list and watch: %w", err))
	}
	stop()
	asking.Wait()
	_ = r.watcher.Close() // says only that ctx is done
	if late := time.Since(r.asked); !r.asked.IsZero() && late > progressEvery {
		answers = append(answers, late)
	}
	r.watchers.mu.Lock()
	defer r.watchers.mu.Unlock()
	r.progress = append(r.progress, answers...)
}

// collect reads to the end of the watch. Progress behind an event, and events
// behind progress, are errors.
func (r *reader) collect(events clientv3.WatchChan, rev int64) (answers []time.Duration, err error) {
	for resp := range events {
		if err := resp.Err(); err != nil {
			return answers, err
		}
		measuring := r.measuring.Load()
		if resp.IsProgressNotify() {
			if resp.Header.Revision < rev {
				return answers, fmt.Errorf("progress up to revision %d came after revision %d", resp.Header.Revision, rev)
			}
			rev = resp.Header.Revision
			if waited, ok := r.answered(); ok && measuring {
				answers = append(answers, waited)
			}
			continue
		}
		for _, e := range resp.Events {
			if e.Kv.ModRevision <= rev {
				return answers, fmt.Errorf("an event of revision %d came after revision %d", e.Kv.ModRevision, rev)
			}
			rev = e.Kv.ModRevision
		}
		if measuring {
			r.events.Add(int64(len(resp.Events)))
		}
	}
	return answers, errors.New("ended by the server")
}

// ask requests progress again and again, also while there is no answer: etcd
// gives none while a watch has events to catch up with.
func (r *reader) ask(ctx context.Context) {
	delay := progressEvery * time.Duration(r.number) / time.Duration(r.spec.Watch.Readers) // not all at once
	for pause(ctx, delay) == nil {
		r.mu.Lock()
		if r.asked.IsZero() {
			r.asked = time.Now()
		}
		r.mu.Unlock()
		if err := r.watcher.RequestProgress(ctx); err != nil && ctx.Err() == nil {
			r.fail(fmt.Errorf("request progress: %w", err))
		}
		delay = progressEvery
	}
}

// answered is how long an answer took; false if nothing was asked.
func (r *reader) answered() (time.Duration, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	since := r.asked
	r.asked = time.Time{}
	return time.Since(since), !since.IsZero()
}

// stall makes a watch of all keys whose client reads the answer to that and
// nothing else, and whose flow control lets the server send 64 KiB.
func (w *watchers) stall(ctx context.Context, n int) error {
	endpoint := w.spec.Watch.Endpoints[n%len(w.spec.Watch.Endpoints)]
	conn, err := grpc.NewClient(endpoint, w.certs.dialOption(), grpc.WithStaticStreamWindowSize(64<<10))
	if err != nil {
		return err
	}
	w.wait.Go(func() {
		<-ctx.Done()
		conn.Close()
	})
	stream, err := pb.NewWatchClient(conn).Watch(ctx)
	if err != nil {
		return err
	}
	err = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: []byte(keyName(0)), RangeEnd: []byte(keyName(w.spec.Keys)),
	}}})
	if err != nil {
		return err
	}
	_, err = stream.Recv()
	return err
}
