package api

import (
	"context"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/auth"
	"github.com/conclave-kv/conclave/kv"
)

// watchRights is who may see what on one stream of watches. A watch is decided when
// it is made, and again before anything is sent after rights have changed: so an
// event that comes after the loss of the right to see it is never sent.
type watchRights struct {
	who     identifier
	updates *kv.Stream

	mu      sync.Mutex
	watches map[int64]watchRight
	enabled bool   // as of the last look
	at      uint64 // auth revision of the last look
}

type watchRight struct {
	id  *auth.Identity // nil: nobody
	req *pb.WatchCreateRequest
}

func newWatchRights(who identifier, updates *kv.Stream) *watchRights {
	v := who.backend.AuthView()
	return &watchRights{who: who, updates: updates, watches: make(map[int64]watchRight), enabled: v.Enabled(), at: v.Revision()}
}

// create makes a watch, if it may be made.
func (w *watchRights) create(ctx context.Context, r *pb.WatchCreateRequest, spec kv.Watch) {
	if spec.Start >= 0 { // or else it is refused for that, as etcd does
		known, err := w.who.enter(ctx)
		if err == nil {
			ctx = known
			err = w.who.decide(ctx, pb.Watch_Watch_FullMethodName, r)
		}
		if err != nil {
			w.updates.Refuse(err)
			return
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	id, err := w.updates.Create(r.GetWatchId(), spec)
	if err != nil {
		return // it is an update too
	}
	w.watches[id] = watchRight{auth.FromContext(ctx), r}
	w.reconsider(id, w.who.backend.AuthView()) // what changed since it was decided
}

func (w *watchRights) cancel(id int64) {
	w.forget(id)
	w.updates.Cancel(id)
}

func (w *watchRights) forget(id int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.watches, id)
}

// look ends the watches that are not allowed any more.
func (w *watchRights) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.who.backend.AuthView()
	if v.Enabled() == w.enabled && v.Revision() == w.at {
		return
	}
	w.enabled, w.at = v.Enabled(), v.Revision()
	for id := range w.watches {
		w.reconsider(id, v)
	}
}

// reconsider is called with mu held.
func (w *watchRights) reconsider(id int64, v *auth.View) {
	r := w.watches[id]
	if err := auth.Reauthorize(v, r.id, pb.Watch_Watch_FullMethodName, r.req, nil); err != nil {
		delete(w.watches, id)
		w.updates.End(id, err)
	}
}

// lost reports whether a watch has been ended.
func (w *watchRights) lost(id int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, there := w.watches[id]
	return !there
}
