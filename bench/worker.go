package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// keyPrefix begins every key of a load, and none of the bench's own.
const keyPrefix = "bench/0"

// worker is one client of a load: a goroutine with one request in flight.
type worker struct {
	*load
	number int
	op     string
	client *clientv3.Client
	random *rand.Rand
	value  string
	known  map[string]int64 // of opTxn: the revision of each key as last seen
	lease  *lease           // of opKeepAlive
}

func (l *load) worker(number int) *worker {
	w := &worker{
		load: l, number: number, op: l.spec.Op, client: l.clients[number%len(l.clients)],
		random: rand.New(rand.NewPCG(l.spec.Seed, uint64(number))), known: map[string]int64{},
	}
	value := make([]byte, l.spec.Value)
	for i := range value {
		value[i] = 'a' + byte(w.random.IntN(26))
	}
	w.value = string(value)
	return w
}

// work sends one request after the other until the time is over. It returns the
// latencies of those that finished within the measured time.
func (w *worker) work(ctx context.Context) (seen []time.Duration, err error) {
	if w.op == opKeepAlive {
		if w.lease, err = grant(ctx, w.client); err != nil {
			return nil, err
		}
		defer w.lease.close()
	}
	for turn := 0; ; turn++ {
		w.pace(ctx, turn)
		number, ok := w.next()
		if !ok || ctx.Err() != nil {
			return seen, nil
		}
		began := time.Now()
		if err := w.request(ctx, number); err != nil {
			return nil, fmt.Errorf("%s of %s through %s: %w", w.op, keyName(number), w.client.Endpoints()[0], err)
		}
		if now := time.Now(); now.After(w.began) && now.Before(w.end) {
			seen = append(seen, now.Sub(began))
		}
	}
}

// pace waits until it is this client's turn, if the load has a pace.
func (w *worker) pace(ctx context.Context, turn int) {
	if w.spec.Pace == 0 {
		return
	}
	slot := turn*w.spec.Clients + w.number
	at := w.began.Add(-w.spec.Warmup + time.Duration(float64(slot)/float64(w.spec.Pace)*float64(time.Second)))
	select {
	case <-time.After(time.Until(at)):
	case <-ctx.Done():
	}
}

// next picks the number of the next key; false when the work is done.
func (w *worker) next() (int, bool) {
	switch w.op {
	case opFill:
		n := int(w.filled.Add(1)) - 1
		return n, n < w.spec.Keys
	case opBulk:
		n := int(w.filled.Add(bulkPuts)) - bulkPuts
		return n, n < w.spec.Keys
	case opTxn: // keys of its own, so that what it last saw is mostly so
		n := w.number + w.spec.Clients*w.random.IntN(max(1, w.spec.Keys/w.spec.Clients))
		return n % w.spec.Keys, time.Now().Before(w.end)
	}
	return w.random.IntN(w.spec.Keys), time.Now().Before(w.end)
}

func keyName(n int) string { return fmt.Sprintf("%s%08d", keyPrefix, n) }

func (w *worker) request(ctx context.Context, number int) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	var err error
	key := keyName(number)
	switch w.op {
	case opFill, opPut:
		value := w.value
		if w.spec.Watch.Keys > 0 {
			value = stamped(value)
		}
		_, err = w.client.Put(ctx, key, value)
	case opKeepAlive:
		err = w.lease.renew()
	case opGet:
		_, err = w.client.Get(ctx, key)
	case opGetSerial:
		_, err = w.client.Get(ctx, key, clientv3.WithSerializable())
	case opTxn:
		err = w.txn(ctx, key)
	case opRange:
		_, err = w.client.Get(ctx, keyPrefix, clientv3.WithPrefix())
	case opStream:
		err = w.stream(ctx)
	case opBulk:
		err = w.bulk(ctx, number)
	default:
		err = fmt.Errorf("unknown operation %q", w.op)
	}
	return err
}

// txn updates a key as a Kubernetes API server does.
func (w *worker) txn(ctx context.Context, key string) error {
	resp, err := w.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", w.known[key])).
		Then(clientv3.OpPut(key, w.value)).
		Else(clientv3.OpGet(key)).Commit()
	if err != nil {
		return err
	}
	if resp.Succeeded {
		w.known[key] = resp.Header.Revision
	} else if len(resp.Responses) == 1 && len(resp.Responses[0].GetResponseRange().GetKvs()) == 1 {
		w.known[key] = resp.Responses[0].GetResponseRange().Kvs[0].ModRevision
	}
	return nil
}

func (w *worker) stream(ctx context.Context) error {
	chunks, err := w.client.GetStream(ctx, keyPrefix, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	for chunk := range chunks {
		if err := chunk.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) bulk(ctx context.Context, from int) error {
	var puts []clientv3.Op
	for n := from; n < min(from+bulkPuts, w.spec.Keys); n++ {
		puts = append(puts, clientv3.OpPut(keyName(n), w.value))
	}
	_, err := w.client.Txn(ctx).Then(puts...).Commit()
	return err
}
