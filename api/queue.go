package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/conclave-kv/conclave/kv"
)

const (
	// ownLeaseTTL is the time to live, in seconds, of the lease of a caller who
	// names none. It is that of etcd's clients.
	ownLeaseTTL     = 60
	ownLeaseRenewal = ownLeaseTTL * time.Second / 3
)

// errPlaceLost: the key of who waits has been deleted, mostly because its lease
// has ended.
var errPlaceLost = errors.New("api: the key of who waits is gone")

// queue is what locks and elections are made of: keys below NAME/, each under
// the lease of who waits, in the order of their creation. Whose key is the oldest
// has what the others wait for. That is how etcd's clients do it (its package
// concurrency), so they stand in the same queue.
//
// Nobody polls: who waits watches, on this member, the key before its own and its
// own, so that each deletion wakes one. Who gives up takes its key away, and what
// cannot be taken away ends with its lease.
type queue struct {
	kv      *kvService
	streams *streams
	cleanup time.Duration // for who gives up to take its key away
	renewal time.Duration // between renewals of a lease granted here, while its caller waits
}

// place is a key in a queue.
type place struct {
	prefix  string
	key     []byte
	lease   int64
	own     bool  // the lease was granted for this call
	created int64 // the key's create revision

	header *pb.ResponseHeader // of joining
	first  bool               // nobody was before it
	was    *mvccpb.KeyValue   // the key as it was before, if it was there
}

// recipeError is how errors of the requests that locks and elections are made of
// reach clients: with etcd's text, but as Unknown, since in etcd they pass
// through its client, which keeps no gRPC status of them.
func recipeError(err error) error { return rpctypes.Error(toGRPC(err)) }

// prefixOf is what the keys of a queue begin with, and prefixEnd follows all of
// them.
func prefixOf(name []byte) string { return string(name) + "/" }

func prefixEnd(prefix string) []byte {
	end := []byte(prefix)
	end[len(end)-1]++ // of '/'
	return end
}

// leaseOf returns the lease to use: the one named, or a new one.
func (q *queue) leaseOf(ctx context.Context, named int64) (id int64, own bool, err error) {
	if named != 0 {
		return named, false, nil
	}
	granted, err := q.kv.backend.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: ownLeaseTTL})
	return granted.GetID(), true, recipeError(err)
}

// join puts a key at the end of a queue, or finds the one that its lease has
// there already.
func (q *queue) join(ctx context.Context, name []byte, lease int64, value []byte) (*place, error) {
	id, own, err := q.leaseOf(ctx, lease)
	if err != nil {
		return nil, err
	}
	prefix := prefixOf(name)
	p := &place{prefix: prefix, key: fmt.Appendf(nil, "%s%x", prefix, id), lease: id, own: own}
	resp, err := q.kv.Txn(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{createdAt(p.key, 0)},
		Success: []*pb.RequestOp{putOp(&pb.PutRequest{Key: p.key, Value: value, Lease: id}), rangeOp(oldestOf(prefix))},
		Failure: []*pb.RequestOp{rangeOp(&pb.RangeRequest{Key: p.key}), rangeOp(oldestOf(prefix))},
	})
	if err != nil {
		if own {
			q.leave(ctx, p)
		}
		return nil, recipeError(err)
	}
	p.header, p.created = resp.Header, resp.Header.Revision
	if !resp.Succeeded {
		p.was = resp.Responses[0].GetResponseRange().Kvs[0]
		p.created = p.was.CreateRevision
	}
	p.first = resp.Responses[1].GetResponseRange().Kvs[0].CreateRevision == p.created
	return p, nil
}

// await returns when nobody is before p any more, with the header of the read
// that found its key still there. On an error the key is taken away; it is
// errPlaceLost if it was gone, and it says so if this server ended the wait.
func (q *queue) await(ctx context.Context, p *place) (*pb.ResponseHeader, error) {
	waiting, done := q.streams.add(ctx, requiresLeader(ctx))
	defer done()
	header, err := q.wait(waiting, p)
	if err == nil {
		return header, nil
	}
	if errors.Is(err, errPlaceLost) {
		return nil, err
	}
	q.leave(ctx, p)
	if waiting.Err() != nil {
		return nil, context.Cause(waiting)
	}
	return nil, recipeError(err)
}

// wait may believe this member's own state, however old, as to who was before p:
// that state has p in it, and a key that is deleted comes back behind p. Only that
// p itself is still there has to be asked of the cluster.
func (q *queue) wait(ctx context.Context, p *place) (*pb.ResponseHeader, error) {
	for {
		resp, err := q.kv.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{
			rangeOp(&pb.RangeRequest{Key: p.key, Serializable: true}), rangeOp(beforeIn(p)),
		}})
		if err != nil {
			return nil, err
		}
		if !p.isIn(resp.Responses[0].GetResponseRange()) {
			return nil, errPlaceLost
		}
		ahead := resp.Responses[1].GetResponseRange().Kvs
		if len(ahead) == 0 {
			break
		}
		if err := q.untilDeleted(ctx, p, ahead[0].Key, resp.Header.Revision+1); err != nil {
			return nil, err
		}
	}
	resp, err := q.kv.Range(ctx, &pb.RangeRequest{Key: p.key})
	if err != nil {
		return nil, err
	}
	if !p.isIn(resp) {
		return nil, errPlaceLost
	}
	return resp.Header, nil
}

// untilDeleted returns when p or the key before it may have been deleted, and
// renews p's lease meanwhile if nobody else does.
func (q *queue) untilDeleted(ctx context.Context, p *place, ahead []byte, from int64) error {
	s := q.kv.backend.NewWatchStream()
	defer s.Close()
	for _, key := range [][]byte{ahead, p.key} {
		if _, err := s.Create(0, kv.Watch{Key: key, Start: from, NoPut: true}); err != nil {
			return err
		}
	}
	var renew <-chan time.Time
	if p.own {
		tick := time.NewTicker(q.renewal)
		defer tick.Stop()
		renew = tick.C
	}
	for {
		u, ok, err := s.Next()
		switch {
		case err != nil:
			return err
		case ok && u.Kind != kv.Created: // events, or the watch was compacted away
			return nil
		case ok:
			continue
		}
		select {
		case <-s.Wake():
		case <-renew:
			_, _ = q.kv.backend.LeaseRenew(ctx, p.lease) // if it is gone, so is the key
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// leave takes p out of the queue for a caller who may be gone already.
func (q *queue) leave(ctx context.Context, p *place) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), q.cleanup)
	defer cancel()
	// What fails here ends with the lease.
	if p.own {
		_, _ = q.kv.backend.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: p.lease})
		return
	}
	_, _ = q.remove(ctx, p.key, p.created)
}

// remove deletes a key if it is still the one that was created then.
func (q *queue) remove(ctx context.Context, key []byte, created int64) (*pb.TxnResponse, error) {
	return q.kv.Txn(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{createdAt(key, created)},
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: key}}}},
	})
}

// isIn tells whether a read of p's key has found it, and not a later one.
func (p *place) isIn(r *pb.RangeResponse) bool {
	return slices.ContainsFunc(r.Kvs, func(kv *mvccpb.KeyValue) bool { return kv.CreateRevision == p.created })
}

// oldestOf asks for the oldest key of a queue.
func oldestOf(prefix string) *pb.RangeRequest {
	return &pb.RangeRequest{
		Key: []byte(prefix), RangeEnd: prefixEnd(prefix), Limit: 1,
		SortTarget: pb.RangeRequest_CREATE, SortOrder: pb.RangeRequest_ASCEND,
	}
}

// beforeIn asks this member for the youngest key that is older than p.
func beforeIn(p *place) *pb.RangeRequest {
	return &pb.RangeRequest{
		Key: []byte(p.prefix), RangeEnd: prefixEnd(p.prefix), Limit: 1, Serializable: true, KeysOnly: true,
		SortTarget: pb.RangeRequest_CREATE, SortOrder: pb.RangeRequest_DESCEND, MaxCreateRevision: p.created - 1,
	}
}

func createdAt(key []byte, revision int64) *pb.Compare {
	return &pb.Compare{
		Key: key, Result: pb.Compare_EQUAL, Target: pb.Compare_CREATE,
		TargetUnion: &pb.Compare_CreateRevision{CreateRevision: revision},
	}
}

func putOp(r *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
}

func rangeOp(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}
