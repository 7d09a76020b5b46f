package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// DefaultTimeout is how long Resolve waits for the first peers unless told
// otherwise: long enough for a zone transfer or for a machine that boots.
const DefaultTimeout = 2 * time.Minute

// DefaultBackoff is the pause between lookups unless told otherwise.
var DefaultBackoff = Backoff{Min: 250 * time.Millisecond, Max: 5 * time.Second}

// Backoff bounds the pause between two lookups: it begins at Min and doubles
// up to Max. Each pause is drawn from its upper half, so that members started
// together do not ask together.
type Backoff struct {
	Min, Max time.Duration
}

// pause gives the pause after the n-th failed lookup, n counted from 0.
func (b Backoff) pause(n int) time.Duration {
	d := b.Max
	if n < 30 && b.Min<<n < b.Max {
		d = b.Min << n
	}
	return d/2 + rand.N(d/2+1)
}

// Options are the settings of Resolve.
type Options struct {
	Token   string        // --initial-cluster-token
	Timeout time.Duration // --discovery-timeout; 0 means DefaultTimeout
	Backoff Backoff       // zero means DefaultBackoff
	Joining bool          // the cluster runs already, and its own ids will count
	Log     zerolog.Logger
}

// Resolve asks src until its answer is complete and holds this member, and
// makes the plan. It returns ErrRefused for what waiting cannot mend,
// ErrTimeout when the time has passed, naming what was missing, and ctx's
// error when ctx ends first. It touches neither disk nor raft.
func Resolve(ctx context.Context, src Source, self Self, opts Options) (Plan, error) {
	if opts.Timeout <= 0 {
		opts.Timeout = DefaultTimeout
	}
	if opts.Backoff.Min <= 0 || opts.Backoff.Max < opts.Backoff.Min {
		opts.Backoff = DefaultBackoff
	}
	if self.Name != "" {
		if err := CheckName(self.Name); err != nil {
			return Plan{}, Refusef("--name: %w", err)
		}
	}
	deadline := time.Now().Add(opts.Timeout)
	bounded, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	var missing string
	for n := 0; ; n++ {
		answer, err := src.Lookup(bounded, self)
		if errors.Is(err, ErrRefused) {
			return Plan{}, err
		}
		if err == nil && answer.complete() {
			return finish(answer, opts)
		}
		if ctx.Err() != nil {
			return Plan{}, fmt.Errorf("find the first peers: %w", ctx.Err())
		}
		// A lookup cut short by our own deadline says less than the one before.
		if now := describe(answer, err); missing == "" || time.Now().Before(deadline) {
			logWaiting(opts.Log, now, now != missing)
			missing = now
		}
		if !sleep(bounded, opts.Backoff.pause(n)) {
			if ctx.Err() != nil {
				return Plan{}, fmt.Errorf("find the first peers: %w", ctx.Err())
			}
			return Plan{}, &marked{mark: ErrTimeout, err: fmt.Errorf(
				"first peers still not known after --discovery-timeout %s: %s", opts.Timeout, missing)}
		}
	}
}

func finish(answer Answer, opts Options) (Plan, error) {
	plan, err := newPlan(answer, opts.Token)
	if err != nil {
		return Plan{}, err
	}
	if opts.Joining {
		opts.Log.Info().Str("name", plan.Name).Str("initial-cluster", plan.String()).Msg("found the peers of a running cluster")
		return plan, nil
	}
	opts.Log.Info().Str("cluster-id", fmt.Sprintf("%x", plan.ClusterID)).Str("name", plan.Name).
		Str("member-id", fmt.Sprintf("%x", plan.Self)).Str("initial-cluster", plan.String()).
		Msg("found the first peers")
	switch n := len(plan.Members); {
	case n > 7:
		opts.Log.Warn().Int("members", n).Msg("more than seven members make every write slower; five outlive two failures")
	case n%2 == 0:
		opts.Log.Warn().Int("members", n).Msg("an even number of members outlives no more failures than one less")
	}
	return plan, nil
}

// describe puts what an unfinished lookup lacks into one clause.
func describe(a Answer, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case len(a.Missing) > 0:
		return strings.Join(a.Missing, "; ")
	default:
		return fmt.Sprintf("this member is not among the %d first peers", len(a.Peers))
	}
}

// logWaiting says why a lookup was not enough: aloud when that is new, else
// for debugging only, since it repeats every few seconds.
func logWaiting(log zerolog.Logger, missing string, isNew bool) {
	level := zerolog.DebugLevel
	if isNew {
		level = zerolog.WarnLevel
	}
	log.WithLevel(level).Str("missing", missing).Msg("waiting for the first peers")
}

// sleep waits for d and reports whether ctx is still alive then.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
