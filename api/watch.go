package api

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/kv"
)

// watchService is etcdserverpb.Watch.
type watchService struct {
	pb.UnimplementedWatchServer
	backend  Backend
	who      identifier
	audit    *auditor      // nil: nothing is recorded
	fragment int           // size from which a response is parted, in bytes
	notify   time.Duration // between notifications of progress
	receive  *sync.WaitGroup
}

// errWatchCanceled ends a stream whose client has canceled it.
var errWatchCanceled = status.Error(codes.Canceled, "etcdserver: watch canceled")

// watchStream is one call of Watch.
type watchStream struct {
	*watchService
	grpc.BidiStreamingServer[pb.WatchRequest, pb.WatchResponse]
	updates  *kv.Stream
	rights   *watchRights
	crowd    crowd
	response pb.WatchResponse // of the update being sent: encoded when Send returns
}

// Watch has one goroutine receive requests, and sends in its own. The former
// ends soon after this call does, since Recv then fails.
func (s *watchService) Watch(srv pb.Watch_WatchServer) error {
	w := &watchStream{watchService: s, BidiStreamingServer: srv, updates: s.backend.NewWatchStream()}
	defer w.updates.Close()
	w.rights = newWatchRights(s.who, s.audit, w.updates)
	ctx, cancel := context.WithCancelCause(srv.Context())
	defer cancel(nil)
	s.receive.Go(func() {
		if err := w.receiveAll(ctx); err != nil {
			cancel(err)
		}
	})
	err := w.sendAll(ctx)
	switch cause := context.Cause(ctx); {
	case errors.Is(err, kv.ErrClosed):
		return rpctypes.ErrGRPCStopped
	case ctx.Err() == nil:
		return err
	case errors.Is(cause, context.Canceled), status.Code(cause) == codes.Canceled:
		return errWatchCanceled
	default:
		return cause
	}
}

// receiveAll obeys requests, and returns why it stops: nil when the client has
// ended its side, from where on it only listens, as one of the gateway does.
func (w *watchStream) receiveAll(ctx context.Context) error {
	for {
		r, err := w.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for w.updates.Crowded() { // the client does not read
			select {
			case <-w.updates.Room():
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		switch r := r.GetRequestUnion().(type) {
		case *pb.WatchRequest_CreateRequest:
			w.create(ctx, r.CreateRequest)
		case *pb.WatchRequest_CancelRequest:
			w.rights.cancel(r.CancelRequest.GetWatchId())
		case *pb.WatchRequest_ProgressRequest:
			w.updates.AskProgress()
		}
	}
}

func (w *watchStream) create(ctx context.Context, r *pb.WatchCreateRequest) {
	spec := kv.Watch{
		Key: r.GetKey(), End: r.GetRangeEnd(), Start: r.GetStartRevision(),
		PrevKV: r.GetPrevKv(), Notify: r.GetProgressNotify(), Fragment: r.GetFragment(),
	}
	if len(spec.Key) == 0 {
		spec.Key = []byte{0}
		r.Key = spec.Key
	}
	for _, f := range r.GetFilters() {
		switch f {
		case pb.WatchCreateRequest_NOPUT:
			spec.NoPut = true
		case pb.WatchCreateRequest_NODELETE:
			spec.NoDelete = true
		}
	}
	w.rights.create(ctx, r, spec)
}

// sendAll sends updates until ctx is done.
func (w *watchStream) sendAll(ctx context.Context) error {
	// A tenth of chance keeps the streams from notifying all at once.
	tick := time.NewTicker(w.notify + rand.N(max(w.notify/10, 1)))
	defer tick.Stop()
	for {
		changed := w.backend.Changed()
		var rest <-chan time.Time
		if wait := w.crowd.wait(w.updates.Ready(), time.Now()); wait > 0 {
			w.updates.Rest(true)
			rest = time.After(wait)
		} else if sent, err := w.sendNext(); err != nil {
			return err
		} else if sent && ctx.Err() == nil {
			continue
		} else {
			w.crowd.left = 0
		}
		select {
		case <-w.updates.Wake():
		case <-rest:
		case <-changed:
		case <-tick.C:
			w.updates.Notify()
		case <-ctx.Done():
			return ctx.Err()
		}
		if rest != nil {
			w.updates.Rest(false)
		}
	}
}

// sendNext sends the next update, and reports whether there was one.
func (w *watchStream) sendNext() (bool, error) {
	u, ok, err := w.updates.Next()
	if err != nil {
		return false, err
	}
	w.rights.look() // behind Next: what it gave may come after a change of rights
	if !ok || w.updates.Lost(u) {
		return ok, nil
	}
	return true, w.sendUpdate(u)
}

func (w *watchStream) sendUpdate(u kv.Update) error {
	resp := &w.response
	defer resp.Reset() // which lets go of the events
	resp.Header, resp.WatchId = w.backend.Header(u.Rev), u.ID
	switch u.Kind {
	case kv.Created:
		resp.Created = true
		if u.Err != nil {
			resp.Canceled, resp.CancelReason = true, refusedBecause(u.Err)
		}
	case kv.Canceled:
		w.rights.forget(u.ID)
		resp.Canceled, resp.CompactRevision = true, u.Compacted
		if u.Err != nil {
			resp.CancelReason = refusedBecause(u.Err)
		}
	case kv.Events:
		return w.sendEvents(resp, u)
	case kv.Progress:
	}
	return w.Send(resp)
}

// refusedBecause is the text by which etcd refuses a watch: for want of a right the
// whole status, by which clients know it.
func refusedBecause(err error) string {
	switch {
	case errors.Is(err, kv.ErrCompacted):
		return "etcdserver: mvcc: " + kv.ErrCompacted.Error()
	case errors.Is(err, kv.ErrEmptyRange), errors.Is(err, kv.ErrDuplicateWatch):
		return "mvcc: " + err.Error()
	}
	return toGRPC(err).Error()
}

// sendEvents sends them in one response, or in parts where that is asked for
// and the response is large.
func (w *watchStream) sendEvents(resp *pb.WatchResponse, u kv.Update) error {
	if !u.PrevKV && !u.Fragment {
		return w.SendMsg(&eventsResponse{header: resp.Header, id: resp.WatchId, events: u.Events})
	}
	size := 0
	resp.Events = make([]*mvccpb.Event, 0, len(u.Events))
	for _, e := range u.Events {
		ev := e.Proto()
		if u.PrevKV {
			ev = e.WithPrev()
		}
		if u.Fragment {
			n := sizeOf(ev)
			if size > 0 && size+n >= w.fragment {
				part := &pb.WatchResponse{Header: resp.Header, WatchId: resp.WatchId, Events: resp.Events, Fragment: true}
				if err := w.Send(part); err != nil {
					return err
				}
				resp.Events, size = nil, 0
			}
			size += n
		}
		resp.Events = append(resp.Events, ev)
	}
	return w.Send(resp)
}
