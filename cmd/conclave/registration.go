package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// registerPause is the time between two attempts to register again.
const registerPause = time.Second

// registration is a key that is kept under a lease. One goroutine at a time
// works with it.
type registration struct {
	s          *session
	client     *clientv3.Client
	errOut     io.Writer
	key, value string
	ttl        int64 // in seconds, as asked for
	replace    bool  // take the key from whoever has it, the first time

	hold *hold // the last lease; nil before the first
	rev  int64 // up to which the key is known to be under it
}

// takenError: the key belongs to somebody else.
type takenError struct {
	key   string
	lease int64
}

func (e *takenError) Error() string {
	return fmt.Sprintf("%q is there already, %s: choose another key, or take it over with --replace", e.key, describeHolder(e.lease))
}

// register puts the key under a new lease. The error is a *takenError if
// somebody else has it; it is then left alone, and there is no lease.
func (r *registration) register(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.s.c.Duration("command-timeout"))
	defer cancel()
	seen, err := r.look(ctx)
	if err != nil {
		return err
	}
	h, err := newHold(r.s, r.client, r.ttl)
	if err != nil {
		return err
	}
	// Nobody may have come in between: two may start at once.
	resp, err := r.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(r.key), "=", seen)).
		Then(clientv3.OpPut(r.key, r.value, clientv3.WithLease(h.session.Lease()))).
		Else(clientv3.OpGet(r.key)).Commit()
	if err != nil {
		if left := h.release(); left != nil {
			err = fmt.Errorf("%w; %w", err, left)
		}
		return err
	}
	if !resp.Succeeded {
		taken := &takenError{key: r.key}
		for _, kv := range resp.Responses[0].GetResponseRange().GetKvs() {
			taken.lease = kv.GetLease()
		}
		if err := h.release(); err != nil {
			return err
		}
		return taken
	}
	r.hold, r.rev = h, resp.Header.Revision
	r.replace = false // from now on somebody else's is somebody else's
	return nil
}

// look returns the revision of the key that may be written over: 0 if there is
// none.
func (r *registration) look(ctx context.Context) (int64, error) {
	resp, err := r.client.Get(ctx, r.key)
	if err != nil || len(resp.Kvs) == 0 {
		return 0, err
	}
	kv := resp.Kvs[0]
	// A lease that could not be renewed may still be there when the cluster is
	// back, and the key with it.
	if !r.ours(kv) && !r.replace {
		return 0, &takenError{key: r.key, lease: kv.Lease}
	}
	return kv.ModRevision, nil
}

// keep registers again whenever the key or its lease was lost, until ctx is done.
func (r *registration) keep(ctx context.Context) {
	for {
		what := r.lose(ctx)
		if what == "" {
			return
		}
		fmt.Fprintf(r.errOut, "Warning: the registration of %s was %s (lease %016x); registering it again\n", r.key, what, r.hold.session.Lease())
		if !r.hold.isLost() {
			_ = r.hold.release() // else it ends by itself: nothing is under it
		}
		if !r.again(ctx) {
			return
		}
		fmt.Fprintf(r.errOut, "%s registered under lease %016x with TTL(%ds)\n", r.key, r.hold.session.Lease(), r.hold.ttl)
	}
}

// What may happen to a registration.
const (
	wasLost  = "lost"
	wasTaken = "taken over"
)

// lose waits until the registration is lost, and says how; "" when ctx is done.
func (r *registration) lose(ctx context.Context) string {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	changes := r.client.Watch(watching, r.key, clientv3.WithRev(r.rev+1))
	for {
		select {
		case <-r.hold.lost():
			return wasLost
		case <-ctx.Done():
			return ""
		case resp, open := <-changes:
			if what := r.changed(resp.Events); what != "" {
				return what
			}
			if open && resp.Err() == nil {
				continue
			}
			// The watch has ended, as when its revision was compacted while the cluster
			// was away.
			select {
			case <-time.After(registerPause):
			case <-ctx.Done():
				return ""
			}
			if got, err := r.client.Get(ctx, r.key); err == nil {
				r.rev = got.Header.Revision
				if len(got.Kvs) == 0 {
					return wasLost
				}
				if !r.ours(got.Kvs[0]) {
					return wasTaken
				}
			}
			changes = r.client.Watch(watching, r.key, clientv3.WithRev(r.rev+1))
		}
	}
}

// changed says what events mean for the registration: "" for nothing.
func (r *registration) changed(events []*clientv3.Event) string {
	if len(events) == 0 {
		return ""
	}
	switch last := events[len(events)-1]; {
	case last.Type == clientv3.EventTypeDelete:
		return wasLost
	case !r.ours(last.Kv):
		return wasTaken
	}
	return ""
}

// ours reports whether a key is under the registration's lease.
func (r *registration) ours(kv *mvccpb.KeyValue) bool {
	return r.hold != nil && kv.Lease == int64(r.hold.session.Lease())
}

// again tries until the key is registered, which it reports, or ctx is done. It
// says once why it has to go on trying.
func (r *registration) again(ctx context.Context) bool {
	for said := false; ; {
		err := r.register(ctx)
		if err == nil {
			return true
		}
		if !said && ctx.Err() == nil {
			fmt.Fprintf(r.errOut, "Warning: cannot register %s yet: %v\n", r.key, err)
			said = true
		}
		select {
		case <-time.After(registerPause):
		case <-ctx.Done():
			return false
		}
	}
}
