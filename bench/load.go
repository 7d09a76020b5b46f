package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// The operations of a load.
const (
	opFill      = "fill" // put every key once
	opPut       = "put"
	opGet       = "get"       // linearizable
	opGetSerial = "serialget" // from the member's own state
	opTxn       = "txn"       // if the key is as last seen, put it, else get it
	opRange     = "range"     // all keys, in one answer
	opStream    = "stream"    // all keys, as a stream
	opBulk      = "bulk"      // put every key once, bulkPuts in a transaction
	opKeepAlive = "keepalive" // renew a lease, over a stream of the client's own
	opWatch     = "watch"     // nothing: the watches beside it are what is measured
	opHold      = "hold"      // the same, of watches that nothing happens to
)

// bulkPuts is how many keys a transaction of opBulk puts; servers take 128.
const bulkPuts = 100

// opTimeout bounds one request; etcd itself gives up after 7 s.
const opTimeout = 15 * time.Second

// loadSpec is what a load process is told on its standard input.
type loadSpec struct {
	Op            string
	Endpoints     []string // host:port; connections are spread over them
	Clients       int      // goroutines, each with one request in flight
	Writers       int      // more of them, which put and are not measured
	Conns         int      // connections they share
	Warmup        time.Duration
	Duration      time.Duration
	Keys          int
	Value         int // bytes
	Pace          int // requests per second of all clients; 0: as fast as they are answered
	Seed          uint64
	Pids          []int     // server processes whose CPU time and memory are taken
	Watch         watchSpec // what watches meanwhile
	CA, Cert, Key string

	User, Password string // of all clients; empty: none
}

// loadResult is what it answers on its standard output.
type loadResult struct {
	Requests  int     // finished within the measured time
	Rate      float64 // requests per second
	Writes    float64 // puts per second of the writers
	P50, P99  float64 // latency, milliseconds
	ServerCPU float64 // seconds, all server processes together
	ClientCPU float64 // seconds, the load process

	Events             int     // that watches got within the measured time
	EventP50, EventP99 float64 // from the call of put to the event, milliseconds
	Progress           float64 // p99 from a request of progress to the answer, milliseconds
	Resident, Live     float64 // of opHold: bytes that a watch takes of the servers' memory
}

// load is one running load.
type load struct {
	spec       loadSpec
	certs      *certs // nil: plaintext
	clients    []*clientv3.Client
	began, end time.Time // of the measured time; set before workers start
	fail       context.CancelCauseFunc
	measuring  atomic.Bool // it is the measured time
	filled     atomic.Int64
	written    atomic.Int64 // by the writers, within the measured time
}

// runLoad reads a spec, runs it and prints the result.
func runLoad(ctx context.Context, _ []string) error {
	var spec loadSpec
	if err := json.NewDecoder(os.Stdin).Decode(&spec); err != nil {
		return fmt.Errorf("read the load from standard input: %w", err)
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	l := &load{spec: spec, fail: fail}
	var err error
	if l.certs, err = loadCerts(spec.CA, spec.Cert, spec.Key); err != nil {
		return err
	}
	if l.clients, err = l.connect(ctx, spec.Endpoints, min(spec.Conns, spec.Clients+spec.Writers)); err != nil {
		return err
	}
	defer closeAll(l.clients)
	result, err := l.watched(ctx)
	if err != nil {
		return orCause(ctx, err)
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// connect makes clients of one connection each, spread over the endpoints, as
// etcd's own benchmark does.
func (l *load) connect(ctx context.Context, endpoints []string, n int) (clients []*clientv3.Client, err error) {
	for i := range n {
		config := clientv3.Config{
			Endpoints:   []string{l.certs.scheme() + endpoints[i%len(endpoints)]},
			DialTimeout: time.Minute, Logger: zap.NewNop(), Username: l.spec.User, Password: l.spec.Password,
		}
		if l.certs != nil {
			config.TLS = l.certs.tls
		}
		client, err := clientv3.New(config)
		if err != nil {
			closeAll(clients)
			return nil, fmt.Errorf("connect to %s: %w", config.Endpoints[0], err)
		}
		clients = append(clients, client)
	}
	if err := greet(ctx, clients); err != nil {
		closeAll(clients)
		return nil, err
	}
	return clients, nil
}

// greet sends one request over every connection, so that no handshake falls
// into the load.
func greet(ctx context.Context, clients []*clientv3.Client) error {
	errs := make([]error, len(clients))
	var wg sync.WaitGroup
	for i, client := range clients {
		wg.Go(func() {
			once, cancel := context.WithTimeout(ctx, opTimeout)
			defer cancel()
			_, errs[i] = client.Get(once, keyName(0))
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("first requests: %w", err)
	}
	return nil
}

func closeAll(clients []*clientv3.Client) {
	for _, c := range clients {
		c.Close()
	}
}

// run starts the workers, takes the server's CPU time at both ends of the
// measured time, and joins what the workers saw.
func (l *load) run(ctx context.Context) (loadResult, error) {
	l.began = time.Now().Add(l.spec.Warmup)
	l.end = l.began.Add(l.spec.Duration)

	seen := make([][]time.Duration, l.spec.Clients)
	var wg sync.WaitGroup
	for i := range l.spec.Clients + l.spec.Writers {
		wg.Go(func() {
			w := l.worker(i)
			var err error
			if i < l.spec.Clients {
				seen[i], err = w.work(ctx)
			} else {
				w.op = opPut
				var acked []time.Duration
				acked, err = w.work(ctx)
				l.written.Add(int64(len(acked)))
			}
			if err != nil {
				l.fail(err)
			}
		})
	}
	var result loadResult
	if !l.spec.fills() {
		l.takeCPU(ctx, &result)
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return result, err
	}
	if l.spec.fills() || l.spec.Op == opWatch {
		return result, nil
	}
	return result, l.summarize(seen, &result)
}

// fills says that the load ends when its work is done, not when its time is.
func (s loadSpec) fills() bool { return s.Op == opFill || s.Op == opBulk }

// takeCPU waits through the measured time, of which it tells the watches, and
// notes the CPU seconds in it.
func (l *load) takeCPU(ctx context.Context, result *loadResult) {
	sample := func(at time.Time) (server, client float64) {
		select {
		case <-ctx.Done():
			return 0, 0
		case <-time.After(time.Until(at)):
		}
		server, err := cpuOfAll(l.spec.Pids)
		if err != nil {
			l.fail(err)
		}
		client, err = cpuSeconds(os.Getpid())
		if err != nil {
			l.fail(err)
		}
		return server, client
	}
	server, client := sample(l.began)
	l.measuring.Store(true)
	serverEnd, clientEnd := sample(l.end)
	l.measuring.Store(false)
	result.ServerCPU, result.ClientCPU = serverEnd-server, clientEnd-client
}

func (l *load) summarize(seen [][]time.Duration, result *loadResult) error {
	all := slices.Concat(seen...)
	if len(all) == 0 {
		return errors.New("no request finished within the measured time; use a longer -duration")
	}
	slices.Sort(all)
	result.Requests = len(all)
	result.Rate = float64(len(all)) / l.spec.Duration.Seconds()
	result.Writes = float64(l.written.Load()) / l.spec.Duration.Seconds()
	result.P50, result.P99 = millis(percentile(all, 0.50)), millis(percentile(all, 0.99))
	return nil
}
