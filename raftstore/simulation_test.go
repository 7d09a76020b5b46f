package raftstore

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

var (
	simSeed      = flag.Uint64("seed", 0, "run only the schedule of this seed, and log")
	simSchedules = flag.Uint64("schedules", 300, "how many schedules TestSimulation runs; at most 100 with -short")
	simFirst     = flag.Uint64("first", 1, "seed of the first schedule")
)

// TestSimulation runs clusters in bubbles of testing/synctest under schedules
// of faults, each made from its seed. What fails is printed with its schedule
// and runs again with -run TestSimulation -seed N: the faults come again, the
// interleavings need not.
func TestSimulation(t *testing.T) {
	t.Setenv("GODEBUG", "tracebacklabels=1")
	if *simSeed != 0 {
		sch := newSchedule(*simSeed)
		if testing.Short() {
			sch = sch.withoutMembership()
		}
		simulate(t, sch, zerolog.New(zerolog.ConsoleWriter{Out: os.Stderr, NoColor: true, TimeFormat: "05.000"}).With().Timestamp().Logger())
		return
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // there is much to collect, and little to keep
	schedules := *simSchedules
	if testing.Short() {
		schedules = min(schedules, 50)
	}
	var next atomic.Uint64
	next.Store(*simFirst)
	var work sync.WaitGroup
	for worker := range runtime.GOMAXPROCS(0) {
		work.Go(func() {
			t.Run(fmt.Sprint("worker ", worker), func(t *testing.T) {
				for seed := next.Add(1) - 1; seed < *simFirst+schedules && !t.Failed(); seed = next.Add(1) - 1 {
					sch := newSchedule(seed)
					if testing.Short() {
						sch = sch.withoutMembership()
					}
					simulate(t, sch, zerolog.Nop())
				}
			})
		})
	}
	work.Wait()
	t.Logf("%d acknowledged, %d reads, %d membership changes, %d installs", simAcked.Load(), simReads.Load(), simChanges.Load(), simInstalls.Load())
}

var simAcked, simReads, simChanges, simInstalls atomic.Int64

// simPatience is real time for one schedule, which takes some milliseconds. It
// ends only where a bubble cannot go on: somebody waits for a mutex whose owner
// waits for time to pass.
const simPatience = 5 * time.Minute

func simulate(t *testing.T, sch schedule, log zerolog.Logger) {
	t.Helper()
	stuck := time.AfterFunc(simPatience, func() {
		buf := make([]byte, 8<<20)
		panic(fmt.Sprintf("a schedule does not end:\n%s\n%s", sch, buf[:runtime.Stack(buf, true)]))
	})
	defer stuck.Stop()
	var failed error
	synctest.Test(t, func(*testing.T) {
		// A panic shows the seed beside the goroutine.
		pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels("seed", fmt.Sprint(sch.seed))))
		s := newSimulation(sch, log)
		failed = s.play()
		simAcked.Add(int64(len(s.history.acked)))
		simReads.Add(int64(s.history.reads))
		simChanges.Add(int64(s.history.changes))
		simInstalls.Add(int64(s.history.installs))
	})
	if failed != nil {
		t.Errorf("%v\nrun it again: go test ./raftstore -run TestSimulation -seed %d\n%s", failed, sch.seed, sch)
	}
}
