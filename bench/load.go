package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
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
)

// opTimeout bounds one request; etcd itself gives up after 7 s.
const opTimeout = 15 * time.Second

// loadSpec is what a load process is told on its standard input.
type loadSpec struct {
	Op            string
	Endpoints     []string // host:port; connections are spread over them
	Clients       int      // goroutines, each with one request in flight
	Conns         int      // connections they share
	Warmup        time.Duration
	Duration      time.Duration
	Keys          int
	Value         int // bytes
	Seed          uint64
	Pids          []int // server processes whose CPU time is taken
	CA, Cert, Key string
}

// loadResult is what it answers on its standard output.
type loadResult struct {
	Requests  int     // finished within the measured time
	Rate      float64 // requests per second
	P50, P99  float64 // latency, milliseconds
	ServerCPU float64 // seconds, all server processes together
	ClientCPU float64 // seconds, the load process
}

// load is one running load.
type load struct {
	spec       loadSpec
	clients    []*clientv3.Client
	began, end time.Time // of the measured time; set before workers start
	filled     atomic.Int64
}

// runLoad reads a spec, runs it and prints the result.
func runLoad(ctx context.Context, _ []string) error {
	var spec loadSpec
	if err := json.NewDecoder(os.Stdin).Decode(&spec); err != nil {
		return fmt.Errorf("read the load from standard input: %w", err)
	}
	l := &load{spec: spec}
	defer l.close()
	if err := l.connect(); err != nil {
		return err
	}
	if err := l.greet(ctx); err != nil {
		return err
	}
	result, err := l.run(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// connect makes clients of one connection each, spread over the endpoints, as
// etcd's own benchmark does.
func (l *load) connect() error {
	c, err := loadCerts(l.spec.CA, l.spec.Cert, l.spec.Key)
	if err != nil {
		return err
	}
	for i := range min(l.spec.Conns, l.spec.Clients) {
		config := clientv3.Config{
			Endpoints:   []string{c.scheme() + l.spec.Endpoints[i%len(l.spec.Endpoints)]},
			DialTimeout: 10 * time.Second, Logger: zap.NewNop(),
		}
		if c != nil {
			config.TLS = c.tls
		}
		client, err := clientv3.New(config)
		if err != nil {
			return fmt.Errorf("connect to %s: %w", config.Endpoints[0], err)
		}
		l.clients = append(l.clients, client)
	}
	return nil
}

// greet sends one request over every connection, so that no handshake falls
// into the load.
func (l *load) greet(ctx context.Context) error {
	errs := make([]error, len(l.clients))
	var wg sync.WaitGroup
	for i, client := range l.clients {
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

func (l *load) close() {
	for _, c := range l.clients {
		c.Close()
	}
}

// run starts the workers, takes the server's CPU time at both ends of the
// measured time, and joins what the workers saw.
func (l *load) run(ctx context.Context) (loadResult, error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	l.began = time.Now().Add(l.spec.Warmup)
	l.end = l.began.Add(l.spec.Duration)

	seen := make([][]time.Duration, l.spec.Clients)
	var wg sync.WaitGroup
	for i := range l.spec.Clients {
		wg.Go(func() {
			var err error
			if seen[i], err = l.work(ctx, i); err != nil {
				fail(err)
			}
		})
	}
	var result loadResult
	if l.spec.Op != opFill {
		l.takeCPU(ctx, fail, &result)
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return result, err
	}
	if l.spec.Op == opFill {
		return result, nil
	}
	return result, l.summarize(seen, &result)
}

// takeCPU waits through the measured time and notes the CPU seconds in it.
func (l *load) takeCPU(ctx context.Context, fail context.CancelCauseFunc, result *loadResult) {
	sample := func(at time.Time) (server, client float64) {
		select {
		case <-ctx.Done():
			return 0, 0
		case <-time.After(time.Until(at)):
		}
		server, err := cpuOfAll(l.spec.Pids)
		if err != nil {
			fail(err)
		}
		client, err = cpuSeconds(os.Getpid())
		if err != nil {
			fail(err)
		}
		return server, client
	}
	server, client := sample(l.began)
	serverEnd, clientEnd := sample(l.end)
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
	result.P50, result.P99 = millis(percentile(all, 0.50)), millis(percentile(all, 0.99))
	return nil
}

// work is one client: one request after the other until the time is over. It
// returns the latencies of those that finished within the measured time.
func (l *load) work(ctx context.Context, number int) ([]time.Duration, error) {
	client := l.clients[number%len(l.clients)]
	random := rand.New(rand.NewPCG(l.spec.Seed, uint64(number)))
	value := make([]byte, l.spec.Value)
	for i := range value {
		value[i] = 'a' + byte(random.IntN(26))
	}
	var seen []time.Duration
	for {
		key, ok := l.next(random)
		if !ok || ctx.Err() != nil {
			return seen, nil
		}
		began := time.Now()
		if err := l.request(ctx, client, key, string(value)); err != nil {
			return nil, fmt.Errorf("%s of %s through %s: %w", l.spec.Op, key, client.Endpoints()[0], err)
		}
		if now := time.Now(); now.After(l.began) && now.Before(l.end) {
			seen = append(seen, now.Sub(began))
		}
	}
}

// next picks a worker's next key; false when its work is done.
func (l *load) next(random *rand.Rand) (string, bool) {
	if l.spec.Op == opFill {
		n := l.filled.Add(1)
		return keyName(int(n - 1)), n <= int64(l.spec.Keys)
	}
	return keyName(random.IntN(l.spec.Keys)), time.Now().Before(l.end)
}

func keyName(n int) string { return fmt.Sprintf("bench/%08d", n) }

func (l *load) request(ctx context.Context, client *clientv3.Client, key, value string) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	var err error
	switch l.spec.Op {
	case opFill, opPut:
		_, err = client.Put(ctx, key, value)
	case opGet:
		_, err = client.Get(ctx, key)
	case opGetSerial:
		_, err = client.Get(ctx, key, clientv3.WithSerializable())
	default:
		err = fmt.Errorf("unknown operation %q", l.spec.Op)
	}
	return err
}
