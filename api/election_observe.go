package api

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/conclave-kv/conclave/auth"
	"github.com/conclave-kv/conclave/internal/lockpb"
	"github.com/conclave-kv/conclave/kv"
)

// observer is one call of Observe.
type observer struct {
	*queue
	prefix string
	stream lockpb.Election_ObserveServer
}

// Observe tells who leads, and each new value and new leader. Of leaders that
// follow each other quickly some may be left out, never the last.
func (s *electionService) Observe(r *lockpb.LeaderRequest, stream lockpb.Election_ObserveServer) error {
	o := &observer{queue: s.queue, prefix: prefixOf(r.GetName()), stream: stream}
	for first := true; ; first = false {
		ask := oldestOf(o.prefix)
		ask.Serializable = !first // a watch has seen what this member had to learn
		resp, err := o.kv.Range(stream.Context(), ask)
		if err != nil {
			return recipeError(err)
		}
		var leader *lockpb.LeaderResponse
		if len(resp.Kvs) > 0 {
			leader = &lockpb.LeaderResponse{Header: resp.Header, Kv: resp.Kvs[0]}
		} else if leader, err = o.next(resp.Header.Revision + 1); err != nil {
			return err
		}
		if leader == nil {
			continue
		}
		if err := stream.Send(leader); err != nil {
			return err
		}
		if err := o.follow(leader.Kv.Key, leader.Header.Revision+1); err != nil {
			return err
		}
	}
}

// next waits for the first candidate; nil means to look again.
func (o *observer) next(from int64) (*lockpb.LeaderResponse, error) {
	var leader *lockpb.LeaderResponse
	err := o.watch(kv.Watch{Key: []byte(o.prefix), End: prefixEnd(o.prefix), Start: from, NoDelete: true},
		func(_ *pb.ResponseHeader, e *mvccpb.Event) (bool, error) {
			leader = &lockpb.LeaderResponse{Header: o.kv.backend.Header(e.Kv.ModRevision), Kv: e.Kv}
			return false, nil
		})
	return leader, err
}

// follow tells the values of a leader until its key is deleted.
func (o *observer) follow(key []byte, from int64) error {
	return o.watch(kv.Watch{Key: key, Start: from}, func(h *pb.ResponseHeader, e *mvccpb.Event) (bool, error) {
		if e.Type == mvccpb.Event_DELETE {
			return false, nil
		}
		return true, o.stream.Send(&lockpb.LeaderResponse{Header: h, Kv: e.Kv})
	})
}

// watch calls see for events until that returns false, or an error. It also ends
// when the history it is to begin with is compacted.
func (o *observer) watch(what kv.Watch, see func(*pb.ResponseHeader, *mvccpb.Event) (more bool, err error)) error {
	s := o.kv.backend.NewWatchStream()
	defer s.Close()
	if _, err := s.Create(0, what); err != nil {
		return err
	}
	for {
		u, err := nextUpdate(o.stream.Context(), s)
		if err != nil {
			return err
		}
		if u.Kind == kv.Canceled {
			return nil
		}
		// Whether it may be seen is asked again, since rights change.
		who, asked := auth.FromContext(o.stream.Context()), &pb.WatchCreateRequest{Key: what.Key, RangeEnd: what.End}
		if err := auth.Reauthorize(o.kv.backend.AuthView(), who, pb.Watch_Watch_FullMethodName, asked, nil); err != nil {
			return err
		}
		for _, e := range u.Events {
			if more, err := see(o.kv.backend.Header(u.Rev), e.Proto()); err != nil || !more {
				return err
			}
		}
	}
}

// nextUpdate waits for the next update of a stream.
func nextUpdate(ctx context.Context, s *kv.Stream) (kv.Update, error) {
	for {
		u, ok, err := s.Next()
		if ok || err != nil {
			return u, err
		}
		select {
		case <-s.Wake():
		case <-ctx.Done():
			return u, ctx.Err()
		}
	}
}
