package api

import (
	"context"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/auth"
	"github.com/conclave-kv/conclave/kv"
)

// watchRights is who may see what on one stream of watches. A watch is decided when
// it is made, and again before anything is sent after rights have changed: so an
// event that comes after the loss of the right to see it is never sent.
type watchRights struct {
	who     identifier
	audit   *auditor // nil: nothing is recorded
	updates *kv.Stream

	mu      sync.Mutex
	of      map[int64]*auth.Identity // whose a watch is; the others are nobody's
	enabled bool                     // as of the last look
	at      uint64                   // auth revision of the last look
}

func newWatchRights(who identifier, audit *auditor, updates *kv.Stream) *watchRights {
	v := who.backend.AuthView()
	return &watchRights{who: who, audit: audit, updates: updates, of: make(map[int64]*auth.Identity), enabled: v.Enabled(), at: v.Revision()}
}

// create makes a watch, if it may be made.
func (w *watchRights) create(ctx context.Context, r *pb.WatchCreateRequest, spec kv.Watch) {
	if spec.Start >= 0 { // or else it is refused for that, as etcd does
		known, err := w.admit(ctx, r)
		if err != nil {
			w.updates.Refuse(err)
			return
		}
		ctx = known
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	id, err := w.updates.Create(r.GetWatchId(), spec)
	if err != nil {
		return // it is an update too
	}
	delete(w.of, id) // of another watch, which has ended
	if caller := auth.FromContext(ctx); caller != nil {
		w.of[id] = caller
	}
	w.reconsider(id, w.who.backend.AuthView()) // what changed since it was decided
}

// admit finds out who makes a watch, and decides about it.
func (w *watchRights) admit(ctx context.Context, r *pb.WatchCreateRequest) (known context.Context, err error) {
	record := w.audit.begin(pb.Watch_Watch_FullMethodName, r, time.Now())
	known, err = w.who.enter(ctx)
	if err == nil {
		err = w.who.decide(known, pb.Watch_Watch_FullMethodName, r)
	}
	if err == nil {
		err = record.admit(known)
	}
	record.end(known, nil, err, toGRPC(err))
	return known, err
}

func (w *watchRights) cancel(id int64) {
	w.updates.Cancel(id)
	w.forget(id)
}

// forget is called when a watch has ended; another one may have its id.
func (w *watchRights) forget(id int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.updates.Has(id) {
		delete(w.of, id)
	}
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
	for _, id := range w.updates.IDs() {
		w.reconsider(id, v)
	}
}

// reconsider is called with mu held.
func (w *watchRights) reconsider(id int64, v *auth.View) {
	key, end, there := w.updates.Range(id)
	if !there {
		return
	}
	req := &pb.WatchCreateRequest{Key: key, RangeEnd: end}
	if err := auth.Reauthorize(v, w.of[id], pb.Watch_Watch_FullMethodName, req, nil); err != nil {
		delete(w.of, id)
		w.updates.End(id, err)
	}
}
