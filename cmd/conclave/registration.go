package main

import (
	"context"
	"fmt"
	"io"
	"time"

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
	r.hold = h
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
	ours := r.hold != nil && kv.Lease == int64(r.hold.session.Lease())
	if !ours && !r.replace {
		return 0, &takenError{key: r.key, lease: kv.Lease}
	}
	return kv.ModRevision, nil
}

// keep registers again whenever the lease was lost, until ctx is done.
func (r *registration) keep(ctx context.Context) {
	for {
		select {
		case <-r.hold.lost():
		case <-ctx.Done():
			return
		}
		fmt.Fprintf(r.errOut, "Warning: the registration of %s was lost (lease %016x); registering it again\n", r.key, r.hold.session.Lease())
		if !r.again(ctx) {
			return
		}
		fmt.Fprintf(r.errOut, "%s registered under lease %016x with TTL(%ds)\n", r.key, r.hold.session.Lease(), r.hold.ttl)
	}
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
