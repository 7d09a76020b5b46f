package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// authRanges are the ranges of the role by which the clients of a load may read
	// and write; a hundredth of them hold the keys of the load.
	authRanges = 1000
	authUser   = "writer"
	// manyUsers log in.
	manyUsers = 100
)

// password of every user here: the servers live as long as the measurement.
const password = "of the benchmark"

// authTrials are the loads of `bench auth`, in the order they run.
var authTrials = []trial{
	{name: "put-100", once: withRights(opPut), measures: []measure{
		{name: "puts/s", bar: bar{atLeast: 1.5}}, {name: "with rights ÷ without", digits: 2, bar: bar{itself: 0.9}},
		{name: "server CPU µs/put", digits: 0},
	}},
	{name: "get-100", once: withRights(opGet), measures: []measure{
		{name: "gets/s", bar: bar{atLeast: 1.5}}, {name: "with rights ÷ without", digits: 2, bar: bar{itself: 0.9}},
		{name: "server CPU µs/get", digits: 0},
	}},
	{name: "logins", once: logins, measures: []measure{{name: "logins/s", bar: bar{atLeast: 10}}}},
	{name: "first-logins", once: firstLogins, measures: []measure{
		{name: "put p99 ms, nobody logs in", digits: 1}, {name: "put p99 ms, 100 users log in", digits: 1},
		{name: "p99 with ÷ without", digits: 2, bar: bar{atMost: 1}}, {name: "s until all 100 are logged in", digits: 2},
	}},
	{name: "audit-put-100", once: audited, only: conclaveSystem, measures: []measure{
		{name: "puts/s, level writes"}, {name: "level writes ÷ no audit log", digits: 2, bar: bar{itself: 0.9}},
		{name: "server CPU µs/put, level writes", digits: 0}, {name: "server CPU µs/put, no audit log", digits: 0},
	}},
}

// runAuth measures with users, roles and mutual TLS.
func runAuth(ctx context.Context, args []string) error {
	o, err := parseOptions("auth", defaults{systems: "etcd,conclave", rounds: 5, duration: 4 * time.Second}, args)
	if err != nil {
		return err
	}
	o.mtls = o.mtlsOnly == ""
	chosen, err := choose(o.loads, authTrials, func(l trial) string { return l.name })
	if err != nil {
		return err
	}
	return withFilled(ctx, o, func(ctx context.Context, b *bench) error {
		for _, k := range b.clusters {
			if err := k.withRoot(ctx, func(root *clientv3.Client) error { return b.grantRights(ctx, root) }); err != nil {
				return fmt.Errorf("users and roles of %s: %w", k.system, err)
			}
		}
		return b.runTrials(ctx, chosen)
	})
}

// withRoot runs fn with a client of root, whom it makes before.
func (k *cluster) withRoot(ctx context.Context, fn func(*clientv3.Client) error) error {
	return k.as(ctx, "root", k.members[0], fn)
}

// as runs fn with a client of a user, who logs in if authentication is on.
func (k *cluster) as(ctx context.Context, user string, at *member, fn func(*clientv3.Client) error) error {
	config := clientv3.Config{
		Context: ctx, Endpoints: []string{k.certs.scheme() + at.client},
		DialTimeout: opTimeout, Logger: zap.NewNop(), Username: user, Password: password,
	}
	if k.certs != nil {
		config.TLS = k.certs.tls
	}
	var client *clientv3.Client
	if err := patiently(ctx, func() (err error) {
		client, err = clientv3.New(config)
		return err
	}); err != nil {
		return err
	}
	defer client.Close()
	return fn(client)
}

// grantRights makes the users of the loads.
func (b *bench) grantRights(ctx context.Context, root *clientv3.Client) error {
	steps := []func() error{
		func() error { _, err := root.RoleAdd(ctx, "root"); return err },
		func() error { _, err := root.UserAdd(ctx, "root", password); return err },
		func() error { _, err := root.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := root.RoleAdd(ctx, authUser); return err },
		func() error { _, err := root.UserAdd(ctx, authUser, password); return err },
		func() error { _, err := root.UserGrantRole(ctx, authUser, authUser); return err },
	}
	const own = authRanges / 100
	for n := range authRanges {
		from, to := fmt.Sprintf("other/%04d/a", n), fmt.Sprintf("other/%04d/b", n)
		if n < own {
			from, to = keyName(b.keys*n/own), keyName(b.keys*(n+1)/own)
		}
		steps = append(steps, func() error {
			_, err := root.RoleGrantPermission(ctx, authUser, from, to, clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		})
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// enforced runs fn while rights are enforced.
func (k *cluster) enforced(ctx context.Context, fn func() error) (err error) {
	if err := k.withRoot(ctx, func(root *clientv3.Client) error { _, err := root.AuthEnable(ctx); return err }); err != nil {
		return fmt.Errorf("enable authentication: %w", err)
	}
	// A client from before has no token, and would be who its certificate names.
	defer func() {
		if e := k.withRoot(ctx, func(root *clientv3.Client) error { _, err := root.AuthDisable(ctx); return err }); e != nil {
			err = errors.Join(err, fmt.Errorf("disable authentication: %w", e))
		}
	}()
	return fn()
}

// withRights is 100 clients, without rights and then as a user.
func withRights(op string) func(context.Context, *bench, *cluster, uint64) ([]float64, error) {
	return func(ctx context.Context, b *bench, k *cluster, seed uint64) ([]float64, error) {
		spec, err := b.atLeader(ctx, k, op, 100, seed)
		if err != nil {
			return nil, err
		}
		without, err := b.drive(ctx, k, spec)
		if err != nil {
			return nil, err
		}
		var with loadResult
		err = k.enforced(ctx, func() (err error) {
			spec.User, spec.Password = authUser, password
			with, err = b.drive(ctx, k, spec)
			return err
		})
		return []float64{with.Rate, with.Rate / without.Rate, with.ServerCPU / float64(with.Requests) * 1e6}, err
	}
}

// makeUsers makes users who have not logged in yet.
func (k *cluster) makeUsers(ctx context.Context, seed uint64) (names []string, err error) {
	err = k.withRoot(ctx, func(root *clientv3.Client) error {
		for n := range manyUsers {
			name := fmt.Sprintf("user-%d-%d-%d", seed, time.Now().UnixNano(), n)
			if _, err := root.UserAdd(ctx, name, password); err != nil {
				return err
			}
			names = append(names, name)
		}
		return nil
	})
	return names, err
}

// login logs a user in through a member, again and again while that is unavailable:
// etcd loses its leader when many log in on a busy machine.
func (m *member) login(ctx context.Context, name string) error {
	err := patiently(ctx, func() error {
		_, err := pb.NewAuthClient(m.conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: name, Password: password})
		return err
	})
	if err != nil {
		return fmt.Errorf("log %s in through %s: %w", name, m.name, err)
	}
	return nil
}

// patiently tries again, for a minute, what ended because the server was
// unavailable.
func patiently(ctx context.Context, request func() error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := request()
		if status.Code(err) != codes.Unavailable || ctx.Err() != nil {
			return err
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// logins is users who log in again and again.
func logins(ctx context.Context, b *bench, k *cluster, seed uint64) ([]float64, error) {
	names, err := k.makeUsers(ctx, seed)
	if err != nil {
		return nil, err
	}
	var done int
	err = k.enforced(ctx, func() error {
		var mu sync.Mutex
		var work sync.WaitGroup
		var failed error
		begin := time.Now().Add(b.warmup)
		end := begin.Add(b.duration)
		for n, name := range names {
			work.Go(func() {
				for time.Now().Before(end) {
					err := k.members[n%members].login(ctx, name)
					now := time.Now()
					mu.Lock()
					failed = errors.Join(failed, err)
					if now.After(begin) && now.Before(end) {
						done++
					}
					mu.Unlock()
					if err != nil {
						return
					}
				}
			})
		}
		work.Wait()
		return failed
	})
	return []float64{float64(done) / b.duration.Seconds()}, err
}

// firstLogins is a user whose 20 clients put 200 keys a second, alone and then
// while others log in for the first time, all at once. The clients have logged in
// before.
func firstLogins(ctx context.Context, b *bench, k *cluster, seed uint64) ([]float64, error) {
	names, err := k.makeUsers(ctx, seed)
	if err != nil {
		return nil, err
	}
	leader, err := k.leader(ctx)
	if err != nil {
		return nil, err
	}
	var alone, beside float64
	var took time.Duration
	err = k.enforced(ctx, func() error {
		return k.as(ctx, authUser, leader, func(writer *clientv3.Client) (err error) {
			if alone, err = b.pacedPuts(ctx, writer); err != nil {
				return err
			}
			var work sync.WaitGroup
			errs := make([]error, len(names))
			ends := make([]time.Duration, len(names))
			began := time.Now()
			for n, name := range names {
				work.Go(func() {
					errs[n] = k.members[n%members].login(ctx, name)
					ends[n] = time.Since(began)
				})
			}
			beside, err = b.pacedPuts(ctx, writer)
			work.Wait()
			took = slices.Max(ends)
			return errors.Join(errors.Join(errs...), err)
		})
	})
	return []float64{alone, beside, beside / alone, took.Seconds()}, err
}

// pacedPuts puts 200 keys a second, with 20 goroutines, and returns the p99 of how
// long each took, in milliseconds, from when it was due.
func (b *bench) pacedPuts(ctx context.Context, writer *clientv3.Client) (float64, error) {
	const clients, pace = 20, 5 * time.Millisecond
	value := strings.Repeat("v", b.value)
	began := time.Now()
	took := make([][]time.Duration, clients)
	errs := make([]error, clients)
	var work sync.WaitGroup
	for c := range clients {
		work.Go(func() {
			for n := c; ; n += clients {
				due := began.Add(time.Duration(n) * pace)
				if due.Sub(began) >= b.duration {
					return
				}
				if errs[c] = pause(ctx, time.Until(due)); errs[c] != nil {
					return
				}
				errs[c] = patiently(ctx, func() error {
					_, err := writer.Put(ctx, keyName(n%b.keys), value)
					return err
				})
				if errs[c] != nil {
					return
				}
				took[c] = append(took[c], time.Since(due))
			}
		})
	}
	work.Wait()
	all := slices.Concat(took...)
	if err := errors.Join(errs...); err != nil || len(all) == 0 {
		return 0, err
	}
	slices.Sort(all)
	return millis(percentile(all, 0.99)), nil
}

// audited is 100 clients who put, at a cluster without an audit log and then at one
// that records writes.
func audited(ctx context.Context, b *bench, k *cluster, seed uint64) ([]float64, error) {
	if b.audited == nil {
		recording, err := b.startCluster(ctx, k.system, "--audit-log", "{data}.audit", "--audit-level", "writes")
		if err != nil {
			return nil, err
		}
		if err := b.fill(ctx, recording); err != nil {
			return nil, err
		}
		b.audited = recording
	}
	var results []loadResult
	for _, k := range []*cluster{k, b.audited} {
		spec, err := b.atLeader(ctx, k, opPut, 100, seed)
		if err != nil {
			return nil, err
		}
		r, err := b.drive(ctx, k, spec)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	without, with := results[0], results[1]
	return []float64{
		with.Rate, with.Rate / without.Rate,
		with.ServerCPU / float64(with.Requests) * 1e6, without.ServerCPU / float64(without.Requests) * 1e6,
	}, nil
}
