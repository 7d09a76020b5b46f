package raftstore

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// schedule is what happens to a cluster, made from a seed alone.
type schedule struct {
	seed    uint64
	members int // at first
	spares  int // may be added
	steps   []simStep
	length  time.Duration
	// installs: the log is truncated soon, and members far behind are sent the state.
	installs bool
	async    bool // the log answers before it has written
}

// simStep is one thing that happens; the meaning of its numbers is its kind's.
type simStep struct {
	at   time.Duration
	kind simKind
	a, b uint64
	x    float64
}

type simKind string

const (
	stepCut         simKind = "cut"      // both directions between a and b
	stepCutWay      simKind = "cut-way"  // from a to b
	stepIsolate     simKind = "isolate"  // a from everybody
	stepLossy       simKind = "lossy"    // all links lose a share x, delay and repeat
	stepSlowNet     simKind = "slow-net" // all links delay
	stepHeal        simKind = "heal"     // all links
	stepReset       simKind = "reset"    // connections of a
	stepRepeat      simKind = "repeat"   // old frames from a to b
	stepKill        simKind = "kill"     // process a
	stepPower       simKind = "power"    // host a
	stepKillAll     simKind = "kill-all"
	stepTrap        simKind = "trap" // power of a, in the middle of its b-th write from now
	stepStart       simKind = "start"
	stepStop        simKind = "stop"         // a, in good order
	stepSlowDisk    simKind = "slow-disk"    // of a
	stepHang        simKind = "hang"         // the disk of a
	stepRelease     simKind = "release"      // the disk of a
	stepFault       simKind = "fault"        // the next write to the log of a fails
	stepCommit      simKind = "commit"       // the state file of a
	stepTrapInstall simKind = "trap-install" // power of a, after b more steps of an install
	stepMove        simKind = "move"         // leadership to a
	stepAdd         simKind = "add"          // the spare member a, as a voter
	stepLearn       simKind = "learn"        // the spare member a, as a learner
	stepPromote     simKind = "promote"      // a
	stepUpdate      simKind = "update"       // the URLs of a
	stepRemove      simKind = "remove"       // a
)

// leading in the place of a member means whoever leads then.
const leading = 0

func (s simStep) String() string {
	return fmt.Sprintf("%8v %s a=%d b=%d x=%.2f", s.at.Round(time.Millisecond), s.kind, s.a, s.b, s.x)
}

func (s schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, %d members and %d spares, installs %v, async %v, %v\n", s.seed, s.members, s.spares, s.installs, s.async, s.length.Round(time.Millisecond))
	for _, step := range s.steps {
		fmt.Fprintln(&b, step)
	}
	return b.String()
}

// newSchedule draws a schedule: some faults, each with its end.
func newSchedule(seed uint64) schedule {
	rng := rand.New(rand.NewPCG(seed, 7))
	s := schedule{seed: seed, members: 3}
	if rng.IntN(5) == 0 {
		s.members = 5
	}
	s.length = 2*time.Second + time.Duration(rng.Int64N(int64(5*time.Second)))
	s.async = rng.IntN(4) > 0
	s.installs = rng.IntN(4) == 0
	d := drawing{schedule: &s, rng: rng}
	for range 3 + rng.IntN(6) {
		d.fault()
	}
	for range rng.IntN(6) {
		d.add(d.time(), simStep{kind: stepCommit, a: d.member()})
	}
	if rng.IntN(3) == 0 {
		d.membership()
	}
	if s.installs {
		d.lagging()
	}
	slices.SortStableFunc(s.steps, func(x, y simStep) int { return cmp.Compare(x.at, y.at) })
	return s
}

type drawing struct {
	*schedule
	rng *rand.Rand
}

func (d *drawing) add(at time.Duration, step simStep) {
	step.at = at
	d.steps = append(d.steps, step)
}

func (d *drawing) time() time.Duration { return time.Duration(d.rng.Int64N(int64(d.length))) }

// lasting is how long a fault lasts: mostly about an election timeout.
func (d *drawing) lasting() time.Duration {
	return time.Duration(d.rng.ExpFloat64() * float64(simElection))
}

func (d *drawing) member() uint64 { return 1 + d.rng.Uint64N(uint64(d.members)) }

// target is a member, or whoever leads.
func (d *drawing) target() uint64 {
	if d.rng.IntN(2) == 0 {
		return leading
	}
	return d.member()
}

// fault adds one fault and its end.
func (d *drawing) fault() {
	at := d.time()
	end := at + d.lasting()
	kinds := []simKind{
		stepCut, stepCutWay, stepIsolate, stepLossy, stepSlowNet, stepReset, stepRepeat,
		stepMove, stepKill, stepPower, stepKillAll, stepTrap, stepStop, stepSlowDisk, stepHang, stepFault,
	}
	step := simStep{kind: kinds[d.rng.IntN(len(kinds))], a: d.target(), b: d.member(), x: d.rng.Float64()}
	switch step.kind {
	case stepCut, stepCutWay, stepIsolate, stepLossy, stepSlowNet:
		d.add(end, simStep{kind: stepHeal, x: d.rng.Float64()})
	case stepKill, stepPower, stepTrap, stepStop, stepFault:
		d.add(end, simStep{kind: stepStart})
	case stepKillAll:
		d.add(end, simStep{kind: stepStart})
	case stepSlowDisk, stepHang:
		d.add(end, simStep{kind: stepRelease})
	}
	if step.kind == stepTrap {
		step.b = 1 + d.rng.Uint64N(20)
	}
	d.add(at, step)
}

// membership adds some changes of the membership.
func (d *drawing) membership() {
	d.spares = 1 + d.rng.IntN(2)
	changed := func() uint64 { return 1 + d.rng.Uint64N(uint64(d.members+d.spares)) }
	for i := range d.spares {
		kind := stepAdd
		if d.rng.IntN(3) == 0 {
			kind = stepLearn
		}
		at, id := d.time(), uint64(d.members+i+1)
		d.add(at, simStep{kind: kind, a: id})
		d.add(at+d.lasting(), simStep{kind: stepStart})
	}
	for range d.rng.IntN(4) {
		d.add(d.time(), simStep{kind: stepRemove, a: changed()})
	}
	for range d.rng.IntN(3) {
		d.add(d.time(), simStep{kind: stepPromote, a: changed()})
		d.add(d.time(), simStep{kind: stepUpdate, a: changed(), b: d.rng.Uint64N(2)})
	}
}

// lagging keeps a member away until the log is truncated beyond what it has, and
// perhaps ends it while it is sent the state.
func (d *drawing) lagging() {
	d.length += 3 * time.Second
	id, at := d.member(), d.time()/2
	back := at + 2500*time.Millisecond + d.lasting()
	if d.rng.IntN(2) == 0 {
		d.add(at, simStep{kind: stepPower, a: id})
		d.add(back, simStep{kind: stepStart})
	} else {
		d.add(at, simStep{kind: stepIsolate, a: id, x: d.rng.Float64()})
		d.add(back, simStep{kind: stepHeal})
	}
	if d.rng.IntN(2) == 0 {
		d.add(back, simStep{kind: stepTrapInstall, a: id, b: 1 + d.rng.Uint64N(5)})
		d.add(back+2*d.lasting(), simStep{kind: stepStart})
	}
}

// withoutMembership leaves the membership as it is, for the race detector: when
// a replication fails, the library reads a peer's address for its log without
// the lock under which a change of the membership writes it (pipelineSend,
// startStopReplication in raft v1.8.0).
func (s schedule) withoutMembership() schedule {
	s.steps = slices.DeleteFunc(s.steps, func(step simStep) bool {
		switch step.kind {
		case stepAdd, stepLearn, stepPromote, stepUpdate, stepRemove:
			return true
		}
		return false
	})
	return s
}
