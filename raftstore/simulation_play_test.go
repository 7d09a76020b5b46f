package raftstore

import (
	"context"
	"sync"
	"testing/synctest"
	"time"
)

// play runs the schedule, then ends all faults and waits for the cluster to
// be well again. It returns the first thing that was wrong.
func (s *simulation) play() error {
	defer s.watch()()
	for _, m := range s.members {
		s.start(m.id)
	}
	began := time.Now()
	for _, step := range s.schedule.steps {
		if !s.sleepUntil(began.Add(step.at)) {
			break
		}
		s.do(step)
		s.quiesce()
	}
	if s.history.failure() == nil {
		s.recover()
	}
	s.endAll()
	return s.history.failure()
}

// sleepUntil returns false when something was wrong.
func (s *simulation) sleepUntil(at time.Time) bool {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.history.failing:
		return false
	}
}

// quiesce lets everybody do what there is to do at this moment, and checks.
func (s *simulation) quiesce() {
	synctest.Wait()
	s.check()
}

// watch ends the processes that say they must end, until the end of it.
func (s *simulation) watch() (end func()) {
	var work sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	work.Go(func() { s.endFailed(ctx) })
	return func() {
		cancel()
		work.Wait()
	}
}

func (s *simulation) endFailed(ctx context.Context) {
	for {
		select {
		case run := <-s.fatal:
			s.crash(run, false)
		case <-ctx.Done():
			return
		}
	}
}

// who is the process that a step means, nil if there is none.
func (s *simulation) who(id uint64) *simRun {
	for _, run := range s.runs() {
		lead, _ := run.node.Leadership()
		if id == run.id || id == leading && lead.Leader == run.id {
			return run
		}
	}
	return nil
}

func (s *simulation) do(step simStep) {
	s.log.Info().Stringer("step", step).Msg("---")
	run := s.who(step.a)
	a := step.a
	if run != nil {
		a = run.id
	}
	switch step.kind {
	case stepHeal:
		s.net.heal()
		if step.x < 0.5 {
			s.net.reset(0, 0)
		}
		return
	case stepStart:
		for _, m := range s.members {
			s.start(m.id)
		}
		return
	case stepRelease:
		for _, r := range s.runs() {
			r.disk.release()
		}
		return
	case stepKillAll:
		for _, r := range s.runs() {
			s.crash(r, step.x < 0.5)
		}
		return
	case stepLossy:
		s.everyLink(linkFault{drop: step.x / 10, replay: 0.1, delay: 40 * time.Millisecond})
		return
	case stepSlowNet:
		s.everyLink(linkFault{delay: time.Duration(step.x * float64(simElection))})
		return
	case stepMove, stepAdd, stepLearn, stepPromote, stepUpdate, stepRemove:
		if lead := s.who(leading); lead != nil {
			lead.clients.Go(func() { lead.order(step) })
		}
		return
	}
	if run == nil {
		return
	}
	s.doMember(step, run, a)
}

func (s *simulation) doMember(step simStep, run *simRun, a uint64) {
	switch step.kind {
	case stepCut:
		s.net.cut(a, step.b)
		if step.x < 0.5 {
			s.net.reset(a, step.b)
		}
	case stepCutWay:
		s.net.set(a, step.b, linkFault{cut: true})
	case stepIsolate:
		for _, m := range s.members {
			s.net.isolate(a, m.id)
		}
		if step.x < 0.5 {
			s.net.reset(a, 0)
		}
	case stepReset:
		s.net.reset(a, 0)
	case stepRepeat:
		s.net.repeat(a, step.b)
	case stepKill:
		s.crash(run, false)
	case stepPower:
		s.crash(run, true)
	case stepTrap:
		run.disk.setTrap(int(step.b))
	case stepStop:
		s.stop(run)
	case stepSlowDisk:
		run.disk.slow(time.Duration(step.x * float64(simElection)))
	case stepHang:
		run.disk.hang()
	case stepFault:
		run.disk.failNext()
	case stepTrapInstall:
		run.trapInstall.Store(int64(step.b))
	case stepCommit:
		run.machine.commit()
	}
}

// order has a leader move leadership or change the membership. What comes of it
// shows in what is agreed.
func (r *simRun) order(step simStep) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*simElection)
	defer cancel()
	change := Change{ID: step.a, PeerURLs: []string{memURL(step.a)}}
	switch step.kind {
	case stepMove:
		_ = r.node.MoveLeader(ctx, step.a)
		return
	case stepAdd:
		change.Op = OpAdd
	case stepLearn:
		change.Op = OpAddLearner
	case stepPromote:
		change.Op = OpPromote
	case stepRemove:
		change.Op = OpRemove
	case stepUpdate:
		change.Op = OpUpdate
		if step.b == 1 { // and one that nobody answers at
			change.PeerURLs = append([]string{memURL(99)}, change.PeerURLs...)
		}
	}
	if change.Op == OpAdd || change.Op == OpAddLearner {
		m := r.sim.member(step.a)
		m.mu.Lock()
		m.spare = false
		m.mu.Unlock()
	}
	index, conf := r.node.Membership()
	if change.Op == OpRemove && len(conf.Servers) < 3 {
		return
	}
	_, err := r.node.Change(ctx, index, change)
	r.sim.history.ordered(r, change, err)
}

func (s *simulation) everyLink(fault linkFault) {
	for _, a := range s.members {
		for _, b := range s.members {
			s.net.set(a.id, b.id, fault)
		}
	}
}

// simRecovery bounds how long a cluster without faults may take until it
// answers: lost frames are missed after five seconds, silent connections too.
const simRecovery = 30 * time.Second

// recover ends all faults and expects every member to go on.
func (s *simulation) recover() {
	s.log.Info().Msg("--- recover")
	s.net.heal()
	for _, d := range s.disks() {
		d.release()
		d.clear()
	}
	if s.schedule.seed%8 != 0 {
		s.net.reset(0, 0)
	}
	limit := time.Now().Add(simRecovery)
	before, marked := s.history.countAcked(), uint64(0)
	for s.history.failure() == nil {
		if time.Now().After(limit) {
			s.history.fail("no recovery within %v of the last fault", simRecovery)
			return
		}
		for _, m := range s.members {
			s.start(m.id) // again, if a fault came late
		}
		if marked == 0 && s.history.countAcked() > before {
			marked = s.history.beginRead()
		}
		s.quiesce()
		if marked > 0 && s.allApplied(marked) {
			return
		}
		s.sleepUntil(time.Now().Add(20 * time.Millisecond))
	}
}

// allApplied reports whether every member has reached index. Those that were
// removed, and those whose addition was not agreed, need not.
func (s *simulation) allApplied(index uint64) bool {
	for _, server := range s.agreedMembership().Servers {
		m := s.member(server.Id)
		m.mu.Lock()
		run := m.run
		m.mu.Unlock()
		if run == nil || run.machine.Applied() < index {
			return false
		}
	}
	return true
}

// endAll ends every goroutine, and compares what the members have.
func (s *simulation) endAll() {
	for _, run := range s.runs() {
		run.disk.release()
		s.stop(run)
	}
	_ = s.ended.Load() // see ghost
	s.ghosts.Wait()
	s.quiesce()
	s.states.remove()
}
